"""Runs over corpora that fit no single context."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from langchain_core.runnables import RunnableConfig

from cluster_r1.agents.ledger import Ledger
from cluster_r1.agents.reasoning_node import ReasoningNode
from cluster_r1.graphs.clustering.distinct import distinct_texts, spread
from cluster_r1.graphs.clustering.entry import read_input, refuse_k_beyond
from cluster_r1.graphs.clustering.limits import enforce_k
from cluster_r1.graphs.clustering.state import ClusteringOutput
from cluster_r1.graphs.corpus import RECURSION_LIMIT, CorpusContext, graph
from cluster_r1.graphs.corpus.assembling import clustering_of
from cluster_r1.graphs.corpus.state import Effort
from cluster_r1.types import CorpusReading, KRange, Text

Tell = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class CorpusRequest:
    """What is to be grouped, and how; see `ClusteringAgent`.

    `order` draws the order that the texts are taken in, which does not depend on that of the input.
    """

    texts: Sequence[Text]
    instruction: str
    k: KRange | None
    effort: Effort | None
    seed: int
    ledger: Ledger
    order: int = 0


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
    ordered = in_drawn_order(distinct.texts, asked.order)
    context = CorpusContext(
        texts=[text.text for text in ordered],
        instruction=asked.instruction,
        k=asked.k,
        node=node,
        ledger=asked.ledger,
        effort=asked.effort,
        seed=asked.seed,
        on_progress=tell,
    )
    limited: RunnableConfig = {**config, "recursion_limit": RECURSION_LIMIT}
    state = await graph.ainvoke({}, limited, context=context)
    places, plan = state["places"], state["plan"]
    ids = [text.id for text in ordered]
    found = clustering_of(places, state["taxonomy"], ids)
    wording = dict(zip(ids, context.texts, strict=True))
    clustering, notes = enforce_k(found, asked.k, ids, wording)
    output = ClusteringOutput(
        clustering=spread(clustering, distinct),
        rounds=[],
        best_round=0,
        stop_reason="batches",
        notes=[*state["notes"], *notes],
        usage=asked.ledger.usage,
    )
    reading = CorpusReading(
        effort=plan.effort,
        batches=len(plan.batches.batches),
        by_classifier=len(places.by_classifier()),
        unread=state["unread"],
        disagreement=state["disagreement"],
        reason_for_k=state["reason"],
    )
    return output, reading


def in_drawn_order(texts: Sequence[Text], order: int) -> list[Text]:
    """The texts in an order drawn by their wording alone, so that a shuffled input changes nothing."""

    def drawn(text: Text) -> bytes:
        return hashlib.sha256(f"{order}\x1f{' '.join(text.text.split())}".encode("utf-8", "replace")).digest()

    return sorted(texts, key=drawn)
