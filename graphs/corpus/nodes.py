"""The nodes of the corpus graph, each one step of the drawing in `graph.py`."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from langgraph.runtime import Runtime
from langgraph.types import Command, Send
from numpy.typing import NDArray

from cluster_r1.agents.clustering.proposer import ProposedCluster
from cluster_r1.agents.clustering.reconciler import Reconciler
from cluster_r1.agents.distinctive_words import plain_name
from cluster_r1.agents.parsing import AnswerError
from cluster_r1.errors import RefusedError
from cluster_r1.graphs.clustering import OpenContext, graph, recursion_limit
from cluster_r1.graphs.clustering.checking import NOT_PLACED
from cluster_r1.graphs.corpus.classifying import FOLDS, TextClassifier
from cluster_r1.graphs.corpus.economy import estimated_disagreement, unsure_positions
from cluster_r1.graphs.corpus.places import NOWHERE, UNREAD, Places
from cluster_r1.graphs.corpus.planning import AUDITED, UNSURE_SHARE, make_plan
from cluster_r1.graphs.corpus.reading import Reader, enter
from cluster_r1.graphs.corpus.reconciling import BatchCluster, join_by_anchors
from cluster_r1.graphs.corpus.state import BatchState, CorpusContext, CorpusState
from cluster_r1.graphs.corpus.taxonomy import complete, found_groups, place_batches, taxonomy_of, unjoined
from cluster_r1.types import NO_CLUSTER, Disagreement, Text

_Runtime = Runtime[CorpusContext]

_BATCH_ROUNDS = 0  # refinements of a batch: the reconciler looks at all of them together
_MANY_NOWHERE = 0.05  # share of the texts that fit nowhere from which on new clusters are looked for
_LEAST_NOWHERE = 10
_NOWHERE_BATCH = -1  # the batch of texts that fit nowhere
_LEAST_NEW = 3  # texts of a cluster that is added


async def plan(state: CorpusState, runtime: _Runtime) -> Command[Literal["cluster_batch"]]:
    """Choose what is read, and send each batch to be grouped."""
    context = runtime.context
    made = make_plan(context)
    _tell(context, "plan", f"{made.texts} texts, {len(made.batches.batches)} batches, {made.effort}")
    batches = enumerate(made.batches.batches)
    sends = [Send("cluster_batch", BatchState(batch=number, positions=batch)) for number, batch in batches]
    return Command(goto=sends, update=CorpusState(plan=made, audited=False))


async def cluster_batch(state: BatchState, runtime: _Runtime) -> CorpusState:
    """Group one batch as the clustering graph does; a batch that fails leaves its texts to be assigned."""
    context, positions = runtime.context, state["positions"]
    called = (
        "the texts that fit nowhere" if state["batch"] == _NOWHERE_BATCH else f"batch {state['batch'] + 1}"
    )
    _tell(context, "cluster_batch", f"{called}: {len(positions)} texts")
    texts = [Text(id=str(position), text=context.texts[position]) for position in positions]
    given: Any = {"texts": texts, "instruction": context.instruction, "k": None}
    inner = OpenContext(
        model=context.node.spec,
        rounds=_BATCH_ROUNDS,
        budget_tokens=context.ledger.budget_tokens,
        node=context.node,
        ledger=context.ledger,
    )
    try:
        output = await graph.ainvoke(
            given,
            {"run_name": "clustering", "recursion_limit": recursion_limit(_BATCH_ROUNDS)},
            context=inner,
        )
    except RefusedError as error:
        return {"notes": [f"{called}: not grouped ({error})"]}
    clustering = output["clustering"]
    reasons = {int(a.text_id): a.reason for a in clustering.assignments}
    found = [
        BatchCluster(
            batch=state["batch"],
            name=cluster.name,
            description=cluster.description,
            members=tuple(map(int, cluster.members)),
            reasons={int(member): reasons[int(member)] for member in cluster.members},
        )
        for cluster in clustering.clusters
    ]
    if not found:
        return {"notes": [f"{called}: not grouped (no usable answer)"]}
    judged = [text for text in clustering.unassigned if text.reason != NOT_PLACED]  # the others are assigned
    if judged:
        outside = {int(text.text_id): text.reason for text in judged}
        found.append(
            BatchCluster(batch=state["batch"], name=NO_CLUSTER, members=tuple(outside), reasons=outside)
        )
    return {"found": found}


async def reconcile(state: CorpusState, runtime: _Runtime) -> Command[Literal["assign"]]:
    """Make one taxonomy of the batches' clusters."""
    context = runtime.context
    found = [cluster for cluster in state.get("found", []) if cluster.name != NO_CLUSTER]
    outside = [cluster for cluster in state.get("found", []) if cluster.name == NO_CLUSTER]
    if not found:
        raise AnswerError(f"{context.node.spec} grouped none of the batches: another model may")
    groups = join_by_anchors(found, state["plan"].batches.anchors, context.seed)
    given = found_groups(groups, found, context)
    _tell(context, "reconcile", f"{len(found)} clusters of the batches, {len(groups)} by their anchors")
    notes: list[str] = []
    try:
        joined = await context.node.ask(
            Reconciler(), given, texts=len(groups), round=0, ledger=context.ledger
        )
    except (AnswerError, RefusedError) as error:
        joined = unjoined(given)
        notes.append(f"the groups were not reconciled by the model: {error}")
    joined = complete(joined, given)
    taxonomy = taxonomy_of(joined)
    update: CorpusState = {
        "taxonomy": taxonomy,
        "reason": joined.reason,
        "places": place_batches(joined, taxonomy, groups, found, outside, len(context.texts)),
        "notes": notes,
    }
    return Command(goto="assign", update=update)


async def assign(state: CorpusState, runtime: _Runtime) -> Command[Literal["audit"]]:
    """Give every text its cluster: the model reads all, or a sample from which a classifier learns."""
    context, places, planned = runtime.context, state["places"], state["plan"]
    reader = _reader(context)
    unread = _positions(places, UNREAD)
    if planned.effort == "thorough":
        _tell(context, "assign", f"the model reads {len(unread)} texts")
        enter(places, await reader.read(unread.tolist(), state["taxonomy"]), state["taxonomy"])
        return Command(goto="audit", update={"places": places, "disagreement": None})
    wanted = [position for position in planned.labelled if places.cluster[position] == UNREAD]
    _tell(context, "assign", f"the model reads {len(wanted)} texts, from which a classifier learns")
    enter(places, await reader.read(wanted, state["taxonomy"]), state["taxonomy"])
    disagreement = await _classify(places, reader, state, context)
    return Command(goto="audit", update={"places": places, "disagreement": disagreement})


async def audit(state: CorpusState, runtime: _Runtime) -> Command[Literal["revise", "finalize"]]:
    """See whether many texts fit nowhere: then a cluster may be missing. Looked at once."""
    context, places = runtime.context, state["places"]
    nowhere = _positions(places, NOWHERE)
    many = max(_LEAST_NOWHERE, _MANY_NOWHERE * len(context.texts))
    if state["audited"] or len(nowhere) < many:
        return Command(goto="finalize")
    _tell(context, "audit", f"{len(nowhere)} texts fit nowhere: looking for clusters that are missing")
    return Command(goto="revise", update=CorpusState(audited=True))


async def revise(state: CorpusState, runtime: _Runtime) -> Command[Literal["audit"]]:
    """Group a sample of the texts that fit nowhere, and have those texts read again with what is new."""
    context, places = runtime.context, state["places"]
    nowhere = _positions(places, NOWHERE)
    size = len(state["plan"].batches.batches[0])
    sample = np.random.default_rng([context.seed, 2]).permutation(nowhere)[:size]
    grouped = await cluster_batch(
        BatchState(batch=_NOWHERE_BATCH, positions=tuple(map(int, np.sort(sample)))), runtime
    )
    known = {plain_name(cluster.name) for cluster in state["taxonomy"]}
    new = [
        cluster
        for cluster in grouped.get("found", [])
        if len(cluster.members) >= _LEAST_NEW and plain_name(cluster.name) not in known | {NO_CLUSTER}
    ]
    if not new:
        return Command(goto="audit", update=CorpusState(notes=grouped.get("notes", [])))
    first = len(state["taxonomy"]) + 1
    added = tuple(
        ProposedCluster(id=f"C{number}", name=cluster.name, description=cluster.description)
        for number, cluster in enumerate(new, first)
    )
    taxonomy = (*state["taxonomy"], *added)
    _tell(context, "revise", f"{len(added)} clusters added, {len(nowhere)} texts are read again")
    enter(places, await _reader(context).read(nowhere.tolist(), taxonomy), taxonomy)
    named = ", ".join(cluster.name for cluster in added)
    update: CorpusState = {
        "taxonomy": taxonomy,
        "places": places,
        "notes": [f"clusters were added for texts that fitted nowhere: {named}"],
    }
    return Command(goto="audit", update=update)


async def finalize(state: CorpusState, runtime: _Runtime) -> CorpusState:
    """Say what is left."""
    unread = len(_positions(state["places"], UNREAD))
    _tell(runtime.context, "finalize", f"{len(state['taxonomy'])} clusters")
    if not unread:
        return {}
    return {"notes": [f"{unread} texts were not read: the budget was spent before"]}


async def _classify(
    places: Places, reader: Reader, state: CorpusState, context: CorpusContext
) -> Disagreement | None:
    """Have a classifier place what is unread, the model the unsure ones, and measure how far they differ."""
    known = np.flatnonzero(places.by_model)
    trained = _trainable(places.cluster[known])
    unread = _positions(places, UNREAD)
    if trained is None or not len(unread):
        enter(places, await reader.read(unread.tolist(), state["taxonomy"]), state["taxonomy"])
        return None
    kept = known[trained]
    classifier = TextClassifier(
        [context.texts[position] for position in kept], places.cluster[kept].tolist(), context.seed
    )
    labels, sure = classifier.predict([context.texts[position] for position in unread])
    threshold = classifier.calibration.threshold
    unsure = unsure_positions(unread, sure, threshold, int(UNSURE_SHARE * len(context.texts)))
    _tell(context, "assign", f"the classifier is sure of {(sure >= threshold).mean():.0%}")
    places.cluster[unread], places.confidence[unread] = labels, sure
    rest = np.setdiff1d(unread, unsure)
    audited = np.sort(np.random.default_rng([context.seed, 3]).permutation(rest)[:AUDITED])
    said = places.cluster[audited].copy()
    read = await reader.read(np.concatenate([unsure, audited]).tolist(), state["taxonomy"])
    read.unread.clear()  # the classifier has placed them
    read.failed.clear()
    enter(places, read, state["taxonomy"])
    seen = places.by_model[audited]
    differing = int((said[seen] != places.cluster[audited][seen]).sum())
    stay = len(rest) - int(seen.sum())
    return estimated_disagreement(differing, int(seen.sum()), stay, len(context.texts))


def _trainable(labels: NDArray[np.int32]) -> NDArray[np.intp] | None:
    """Those of the labelled texts whose label is frequent enough to be learnt; None if that is one label."""
    values, counts = np.unique(labels, return_counts=True)
    frequent = values[(counts >= FOLDS) & (values != NOWHERE)]
    if len(frequent) < 2:
        return None
    return np.flatnonzero(np.isin(labels, frequent))


def _positions(places: Places, what: int) -> NDArray[np.intp]:
    return np.flatnonzero(places.cluster == what)


def _reader(context: CorpusContext) -> Reader:
    done = 0

    def count(texts: int) -> None:
        nonlocal done
        done += texts
        _tell(context, "assign", f"{done} texts read")

    return Reader(context.node, context.instruction, context.texts, context.ledger, count)


def _tell(context: CorpusContext, stage: str, message: str) -> None:
    if context.on_progress is not None:
        context.on_progress(stage, message)
