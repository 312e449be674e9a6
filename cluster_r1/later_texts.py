"""Texts that come after a run: put into its clusters, which stay, or added to it with what they bring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from langchain_core.runnables import RunnableConfig, RunnableLambda

from cluster_r1.agents.clustering.proposer import ProposedCluster
from cluster_r1.agents.ledger import Ledger
from cluster_r1.agents.reasoning_node import ReasoningNode
from cluster_r1.corpus_runs import Tell, in_drawn_order
from cluster_r1.errors import BudgetError, InputError
from cluster_r1.graphs.clustering.distinct import EMPTY, distinct_texts, spread
from cluster_r1.graphs.clustering.entry import read_input
from cluster_r1.graphs.corpus import CorpusContext
from cluster_r1.graphs.corpus.assembling import assigned_to
from cluster_r1.graphs.corpus.missing import LEAST_NEW
from cluster_r1.graphs.corpus.places import NOWHERE, Places
from cluster_r1.graphs.corpus.placing import Taxonomy, measure_disagreement, place
from cluster_r1.graphs.corpus.planning import batch_size, choose_effort
from cluster_r1.graphs.corpus.revising import add_missing
from cluster_r1.graphs.corpus.state import Effort
from cluster_r1.types import Assignment, Clustering, CorpusReading, Text

_SEARCHES = 3  # for new clusters


@dataclass(frozen=True, slots=True)
class Earlier:
    """What an earlier run left: its texts and its clustering of them."""

    texts: Sequence[Text]
    clustering: Clustering
    instruction: str


@dataclass(frozen=True, slots=True)
class LaterRequest:
    """Texts to be put into the clusters of an earlier run, and how; see `ClusteringAgent`."""

    texts: Sequence[Text]
    earlier: Earlier
    effort: Effort | None
    seed: int
    ledger: Ledger


@dataclass(frozen=True, slots=True)
class Assigned:
    """New texts in the clusters of the earlier run, and those that fitted nowhere if clusters may be added.

    Clusters keep their ids, names and order; added ones follow.
    """

    clustering: Clustering
    notes: tuple[str, ...]
    reading: CorpusReading


def refuse_to_assign(earlier: Clustering, node: ReasoningNode) -> None:
    """Raise an InputError where there is nothing to assign to, or nobody who can."""
    if not earlier.clusters:
        raise InputError("the earlier run has no clusters that texts could be put into")
    if "assigner" not in node.roles:
        raise InputError(f"{node.spec} cannot assign texts to clusters. Take another model")


async def assign_texts(
    asked: LaterRequest, node: ReasoningNode, config: RunnableConfig, tell: Tell, *, may_add: bool
) -> Assigned:
    """Have the model put new texts into clusters, whose ids, names and order stay.

    A text that the earlier run had is not read again: it stands where its equal does. With `may_add`, texts
    that fit nowhere are grouped, also those of the earlier run, and what is found is added.

    Raises:
        InputError: the texts cannot be used.
        ModelError: the model is gone; finished calls are kept.
    """
    distinct = distinct_texts([*_outside(asked.earlier, may_add), *read_input(asked.texts, "any")])
    known = _known_places(asked.earlier)
    unknown = [text for text in distinct.texts if _content(text) not in known]
    ordered = in_drawn_order(unknown, 0)
    context = CorpusContext(
        texts=[text.text for text in ordered],
        instruction=asked.earlier.instruction,
        k=None,
        node=node,
        ledger=asked.ledger,
        effort=asked.effort,
        seed=asked.seed,
        on_progress=tell,
    )
    work = _Work(context, _taxonomy(asked.earlier.clustering), may_add)
    await RunnableLambda(work.carry_out).ainvoke(None, config)
    ids = [text.id for text in ordered]
    read = assigned_to(work.places, work.taxonomy, ids)
    placed = [
        known[_content(text)].model_copy(update={"text_id": text.id})
        for text in distinct.texts
        if _content(text) in known
    ]
    both = read.model_copy(update={"assignments": (*read.assignments, *placed)})
    return Assigned(
        clustering=spread(both, distinct),
        notes=(*work.notes, *_known_note(len(placed))),
        reading=work.reading(),
    )


class _Work:
    """Placing the texts of a context, and adding clusters for those that fit nowhere."""

    def __init__(self, context: CorpusContext, taxonomy: Taxonomy, may_add: bool) -> None:
        self.context, self.taxonomy, self._may_add = context, taxonomy, may_add
        self.places = Places.of(len(context.texts))
        self.notes: list[str] = []
        self._effort = self._chosen_effort()
        self._disagreement: Any = None

    async def carry_out(self, _: Any) -> None:
        """Place all; an argument is what LangChain's tracing asks for."""
        everything = np.arange(len(self.context.texts), dtype=np.intp)
        unread = await place(everything, self.taxonomy, self.places, self._effort, self.context)
        if unread:
            self.notes.append(f"{unread} texts were not read: the budget was spent before")
        elif self._may_add:
            await self._add()
        self._disagreement = await measure_disagreement(self.taxonomy, self.places, self.context)

    def reading(self) -> CorpusReading:
        """How the texts were read."""
        return CorpusReading(
            effort=self._effort,
            batches=0,
            by_classifier=len(self.places.by_classifier()),
            disagreement=self._disagreement,
            reason_for_k="",
        )

    async def _add(self) -> None:
        for _ in range(_SEARCHES):
            nowhere = int((self.places.cluster == NOWHERE).sum())
            if nowhere < LEAST_NEW:
                return
            size = nowhere if self.context.node.context_tokens is None else batch_size(self.context)
            try:
                revised = await add_missing(self.taxonomy, self.places, size, self._effort, self.context)
            except BudgetError:
                self.notes.append("the budget was spent before new clusters were looked for")
                return
            self.notes += revised.notes
            if revised.taxonomy == self.taxonomy:
                return
            self.taxonomy = revised.taxonomy

    def _chosen_effort(self) -> Effort:
        if self.context.node.context_tokens is None:
            return "thorough"  # nodes that are not asked in words read at no cost
        texts = len(self.context.texts)
        return choose_effort(self.context.effort, texts, texts)


def _taxonomy(clustering: Clustering) -> Taxonomy:
    return tuple(
        ProposedCluster(id=cluster.id, name=cluster.name, description=cluster.description)
        for cluster in clustering.clusters
    )


def _outside(earlier: Earlier, may_add: bool) -> list[Text]:
    """The texts that the earlier run read and put nowhere: a new cluster may take them."""
    if not may_add:
        return []
    outside = {text.text_id for text in earlier.clustering.unassigned if text.reason != EMPTY}
    return [text for text in earlier.texts if text.id in outside]


def _known_places(earlier: Earlier) -> dict[str, Assignment]:
    """Where texts of the same wording stand."""
    placed = {assignment.text_id: assignment for assignment in earlier.clustering.assignments}
    return {_content(text): placed[text.id] for text in reversed(earlier.texts) if text.id in placed}


def _content(text: Text) -> str:
    return " ".join(text.text.replace("\x00", " ").split())


def _known_note(texts: int) -> list[str]:
    return [f"{texts} texts stand where their equals of the earlier run do"] if texts else []
