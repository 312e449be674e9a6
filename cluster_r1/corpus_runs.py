"""Runs over corpora: grouping what fits no single context, and putting new texts into what was found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.runnables import RunnableConfig, RunnableLambda

from cluster_r1.agents.clustering.proposer import ProposedCluster
from cluster_r1.agents.ledger import MOST_ANSWER_TOKENS, Ledger
from cluster_r1.agents.reasoning_node import ReasoningNode
from cluster_r1.errors import InputError
from cluster_r1.graphs.clustering.distinct import distinct_texts, spread
from cluster_r1.graphs.clustering.entry import read_input, refuse_k_beyond
from cluster_r1.graphs.clustering.limits import enforce_k
from cluster_r1.graphs.clustering.state import ClusteringOutput
from cluster_r1.graphs.corpus import CorpusContext, graph
from cluster_r1.graphs.corpus.assembling import assigned_to, clustering_of
from cluster_r1.graphs.corpus.places import UNREAD, Places
from cluster_r1.graphs.corpus.reading import Read, Reader, enter
from cluster_r1.graphs.corpus.state import Effort
from cluster_r1.types import Cluster, Clustering, CorpusReading, KRange, Text, Usage

Tell = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class CorpusRequest:
    """What is to be grouped, and how; see `ClusteringAgent`."""

    texts: Sequence[Text]
    instruction: str
    k: KRange | None
    effort: Effort | None
    seed: int
    budget_tokens: int | None


@dataclass(frozen=True, slots=True)
class Assigned:
    """New texts in the clusters of an earlier run."""

    clustering: Clustering
    notes: tuple[str, ...]
    usage: Usage


async def cluster_corpus(
    asked: CorpusRequest, node: ReasoningNode, config: RunnableConfig, tell: Tell
) -> tuple[ClusteringOutput, CorpusReading]:
    """Group a corpus through the corpus graph.

    Raises:
        InputError: the texts cannot be used.
        ModelError: the model is gone, or grouped none of the batches.
        BudgetError: the budget does not cover the first calls.
    """
    distinct = distinct_texts(read_input(asked.texts, asked.instruction))
    refuse_k_beyond(asked.k, len(distinct.ids))
    context = CorpusContext(
        texts=[text.text for text in distinct.texts],
        instruction=asked.instruction,
        k=asked.k,
        node=node,
        ledger=Ledger(asked.budget_tokens, most_answer_tokens=MOST_ANSWER_TOKENS),
        effort=asked.effort,
        seed=asked.seed,
        on_progress=tell,
    )
    state = await graph.ainvoke({}, config, context=context)
    places, plan = state["places"], state["plan"]
    found = clustering_of(places, state["taxonomy"], distinct.ids)
    wording = dict(zip(distinct.ids, context.texts, strict=True))
    clustering, notes = enforce_k(found, asked.k, distinct.ids, wording)
    output = ClusteringOutput(
        clustering=spread(clustering, distinct),
        rounds=[],
        best_round=0,
        stop_reason="batches",
        notes=[*state["notes"], *notes],
        usage=context.ledger.usage,
    )
    reading = CorpusReading(
        effort=plan.effort,
        batches=len(plan.batches.batches),
        by_classifier=int((~places.by_model & (places.cluster >= 0)).sum()),
        disagreement=state["disagreement"],
        reason_for_k=state["reason"],
    )
    return output, reading


def refuse_to_assign(earlier: Clustering, node: ReasoningNode) -> None:
    """Raise an InputError where there is nothing to assign to, or nobody who can."""
    if not earlier.clusters:
        raise InputError("the earlier run has no clusters that texts could be put into")
    if "assigner" not in node.roles:
        raise InputError(f"{node.spec} cannot assign texts to clusters. Take another model")


async def assign_texts(
    texts: Sequence[Text],
    instruction: str,
    clusters: Sequence[Cluster],
    node: ReasoningNode,
    budget_tokens: int | None,
    config: RunnableConfig,
    tell: Tell,
) -> Assigned:
    """Have the model put new texts into clusters, whose ids, names and order stay.

    Raises:
        InputError: the texts cannot be used.
        ModelError: the model is gone; finished calls are kept.
    """
    distinct = distinct_texts(read_input(texts, instruction))
    taxonomy = tuple(
        ProposedCluster(id=cluster.id, name=cluster.name, description=cluster.description)
        for cluster in clusters
    )
    done = 0

    def count(read: int) -> None:
        nonlocal done
        done += read
        tell("assign", f"{done} of {len(distinct.ids)} texts read")

    ledger = Ledger(budget_tokens, most_answer_tokens=MOST_ANSWER_TOKENS)
    reader = Reader(node, instruction, [text.text for text in distinct.texts], ledger, count)

    async def read_all(_: Any) -> Read:
        return await reader.read(range(len(distinct.ids)), taxonomy)

    read = await RunnableLambda(read_all).ainvoke(None, config)
    places = Places.of(len(distinct.ids))
    enter(places, read, taxonomy)
    unread = int((places.cluster == UNREAD).sum())
    return Assigned(
        clustering=spread(assigned_to(places, taxonomy, distinct.ids), distinct),
        notes=(f"{unread} texts were not read: the budget was spent before",) if unread else (),
        usage=ledger.usage,
    )
