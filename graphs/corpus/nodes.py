"""The nodes of the corpus graph, each one step of the drawing in `graph.py`."""

from __future__ import annotations

from typing import Literal

from langgraph.runtime import Runtime
from langgraph.types import Command, Send

from cluster_r1.agents.clustering.reconciler import Reconciler
from cluster_r1.agents.parsing import AnswerError
from cluster_r1.errors import BudgetError, RefusedError
from cluster_r1.graphs.corpus.batching import group_batch
from cluster_r1.graphs.corpus.missing import SEARCHES
from cluster_r1.graphs.corpus.places import NOWHERE, UNREAD
from cluster_r1.graphs.corpus.placing import measure_disagreement, place, unread_notes
from cluster_r1.graphs.corpus.planning import make_plan
from cluster_r1.graphs.corpus.reconciling import join_by_anchors
from cluster_r1.graphs.corpus.reviewing import review
from cluster_r1.graphs.corpus.revising import add_missing, carry_out
from cluster_r1.graphs.corpus.state import BatchState, CorpusContext, CorpusState
from cluster_r1.graphs.corpus.taxonomy import complete, found_groups, place_batches, taxonomy_of, unjoined
from cluster_r1.types import NO_CLUSTER, Finding

_Runtime = Runtime[CorpusContext]

_MANY_NOWHERE = 0.02  # share of the texts that fit nowhere from which on new clusters are looked for
_LEAST_NOWHERE = 10


async def plan(state: CorpusState, runtime: _Runtime) -> Command[Literal["cluster_batch"]]:
    """Choose what is read, and send each batch to be grouped."""
    context = runtime.context
    made = make_plan(context)
    context.tell("plan", f"{made.texts:,} texts, {len(made.batches.batches)} batches, {made.effort}")
    batches = made.batches.batches
    sends = [
        Send("cluster_batch", BatchState(batch=number, of=len(batches), positions=batch))
        for number, batch in enumerate(batches)
    ]
    return Command(goto=sends, update=CorpusState(plan=made, gaps=0, reviewed=False, findings=()))


async def cluster_batch(state: BatchState, runtime: _Runtime) -> CorpusState:
    """Group one batch as the clustering graph does; a batch that fails leaves its texts to be assigned."""
    number = state["batch"]
    context = runtime.context
    grouped = await group_batch(number, state["positions"], f"batch {number + 1}", context)
    context.batches_done += 1
    context.tell("cluster_batch", f"{context.batches_done} of {state['of']} batches grouped")
    return {
        "found": list(grouped.found),
        "notes": [grouped.note] if grouped.note else [],
        "unpaid": [grouped.unpaid] if grouped.unpaid else [],
    }


async def reconcile(state: CorpusState, runtime: _Runtime) -> Command[Literal["assign"]]:
    """Make one taxonomy of the batches' clusters."""
    context = runtime.context
    found = [cluster for cluster in state.get("found", []) if cluster.name != NO_CLUSTER]
    outside = [cluster for cluster in state.get("found", []) if cluster.name == NO_CLUSTER]
    if not found and state["unpaid"]:
        raise BudgetError(state["unpaid"][0])
    if not found:
        raise AnswerError(f"{context.node.spec} grouped none of the batches: another model may")
    groups = join_by_anchors(found, state["plan"].batches.anchors, context.seed)
    given = found_groups(groups, found, context)
    context.tell("reconcile", f"{len(found)} clusters of the batches, {len(groups)} by their anchors")
    notes: list[str] = []
    try:
        joined = await context.node.ask(
            Reconciler(), given, texts=len(groups), round=0, ledger=context.ledger
        )
    except (AnswerError, RefusedError, BudgetError) as error:
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
    places = state["places"]
    unread = places.where(UNREAD)
    left = await place(unread, state["taxonomy"], places, state["plan"].effort, runtime.context)
    update = CorpusState(places=places, unread=left, notes=unread_notes(left, places))
    return Command(goto="audit", update=update)


async def audit(state: CorpusState, runtime: _Runtime) -> Command[Literal["revise", "finalize"]]:
    """See what is wrong with the taxonomy: clusters that are missing, that are one, or that hold several.

    When nothing is left to be changed, the model reads some of what a classifier has placed.
    """
    context, places = runtime.context, state["places"]
    nowhere = len(places.where(NOWHERE))
    many = max(_LEAST_NOWHERE, _MANY_NOWHERE * len(context.texts))
    may_add = context.k is None or len(state["taxonomy"]) < context.k.high
    if state["gaps"] < SEARCHES and nowhere >= many and may_add:
        context.tell("audit", f"{nowhere:,} texts fit nowhere: looking for clusters that are missing")
        return Command(goto="revise", update=CorpusState(gaps=state["gaps"] + 1))
    if not state["reviewed"]:
        findings, notes = await _reviewed(state, context)
        update = CorpusState(reviewed=True, findings=findings, notes=notes)
        if findings:
            return Command(goto="revise", update=update)
    else:
        update = CorpusState(findings=())
    measured, said = await measure_disagreement(state["taxonomy"], places, context)
    notes = [*update.get("notes", []), *said]
    return Command(goto="finalize", update=update | CorpusState(disagreement=measured, notes=notes))


async def revise(state: CorpusState, runtime: _Runtime) -> Command[Literal["audit"]]:
    """Change the taxonomy as the audit wants it; only texts that this touches are read again."""
    context, places, planned = runtime.context, state["places"], state["plan"]
    size = max(map(len, planned.batches.batches))
    if state["findings"]:
        revised = await carry_out(state["findings"], state["taxonomy"], places, size, planned.effort, context)
    else:
        revised = await add_missing(state["taxonomy"], places, size, planned.effort, context)
    unchanged = revised.taxonomy == state["taxonomy"]
    update: CorpusState = {
        "taxonomy": revised.taxonomy,
        "places": places,
        "findings": (),
        "gaps": SEARCHES if unchanged else state["gaps"],
        "unread": state["unread"] + revised.unread,
        "notes": [*revised.notes, *unread_notes(revised.unread, places)],
    }
    return Command(goto="audit", update=update)


async def finalize(state: CorpusState, runtime: _Runtime) -> CorpusState:
    """Say how many clusters there are."""
    runtime.context.tell("finalize", f"{len(state['taxonomy'])} clusters")
    return {}


async def _reviewed(state: CorpusState, context: CorpusContext) -> tuple[tuple[Finding, ...], list[str]]:
    """What a critic finds, and a note where there is none to ask or no judgement."""
    if "critic" not in context.node.roles:
        return (), []
    try:
        size = max(map(len, state["plan"].batches.batches))
        return await review(state["taxonomy"], state["places"], size, context), []
    except BudgetError:
        return (), ["the budget was spent before a critic looked at the clusters"]
    except (AnswerError, RefusedError) as error:
        return (), [f"the clusters were not reviewed: {error}"]
