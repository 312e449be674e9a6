"""Texts that come after a run: put into its clusters, which stay, or added to it with what they bring."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Any

from langchain_core.runnables import RunnableConfig, RunnableLambda

from cluster_r1.agents.clustering.proposer import ProposedCluster
from cluster_r1.agents.ledger import Ledger
from cluster_r1.agents.reasoning_node import ReasoningNode
from cluster_r1.corpus_runs import Tell, in_drawn_order
from cluster_r1.errors import BudgetError, InputError
from cluster_r1.graphs.clustering.checking import NOT_PLACED
from cluster_r1.graphs.clustering.distinct import EMPTY, distinct_texts, spread
from cluster_r1.graphs.clustering.entry import read_input
from cluster_r1.graphs.corpus import CorpusContext
from cluster_r1.graphs.corpus.assembling import NOT_READ, assigned_to
from cluster_r1.graphs.corpus.missing import LEAST_NEW, SEARCHES
from cluster_r1.graphs.corpus.places import NOWHERE, UNREAD, Places
from cluster_r1.graphs.corpus.placing import Taxonomy, measure_disagreement, place, unread_notes
from cluster_r1.graphs.corpus.planning import batch_size, choose_effort
from cluster_r1.graphs.corpus.revising import add_missing
from cluster_r1.graphs.corpus.state import Effort
from cluster_r1.types import Assignment, Clustering, CorpusReading, Disagreement, Text, Unassigned


@dataclass(frozen=True, slots=True)
class Earlier:
    """What an earlier run left: its texts, its clustering, and which texts were taken out by hand."""

    texts: Sequence[Text]
    clustering: Clustering
    instruction: str
    taken_out: frozenset[str] = frozenset()


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
    that fit nowhere are grouped, also those of the earlier run that nobody took out by hand, and what is
    found is added.

    Raises:
        InputError: the texts cannot be used.
        ModelError: the model is gone; finished calls are kept.
        BudgetError: the budget covers none of the texts.
    """
    pool = _pool(asked.earlier) if may_add else []
    distinct = distinct_texts([*pool, *read_input(asked.texts, "any")])
    known = _known_places(asked.earlier, {text.id for text in pool})
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
    pooled = {text.id for text in pool} - _never_judged(asked.earlier)
    outside = [n for n, text in enumerate(ordered) if text.id in pooled]
    work = _Work(context, _taxonomy(asked.earlier.clustering), outside, may_add)
    await RunnableLambda(work.carry_out).ainvoke(None, config)
    read = assigned_to(work.places, work.taxonomy, [text.id for text in ordered])
    again = [
        known[_content(text)].model_copy(update={"text_id": text.id})
        for text in distinct.texts
        if _content(text) in known
    ]
    both = read.model_copy(
        update={
            "assignments": (*read.assignments, *(a for a in again if isinstance(a, Assignment))),
            "unassigned": (*read.unassigned, *(a for a in again if isinstance(a, Unassigned))),
        }
    )
    return Assigned(
        clustering=spread(both, distinct),
        notes=(*work.notes, *_known_note(len(again))),
        reading=work.reading(),
    )


class _Work:
    """Placing the texts of a context, and adding clusters for those that fit nowhere.

    The texts at `outside` are known to fit none of the clusters, and are read only under new ones.
    """

    def __init__(
        self, context: CorpusContext, taxonomy: Taxonomy, outside: Sequence[int], may_add: bool
    ) -> None:
        self.context, self.taxonomy, self._may_add = context, taxonomy, may_add
        self.places = Places.of(len(context.texts))
        self.places.cluster[list(outside)] = NOWHERE
        self.places.by_model[list(outside)] = True
        self.notes: list[str] = []
        self._effort = self._chosen_effort()
        self._disagreement: Disagreement | None = None
        self._unread = 0

    async def carry_out(self, _: Any) -> None:
        """Place all; an argument is what LangChain's tracing asks for."""
        new = self.places.where(UNREAD)
        self._enter(await place(new, self.taxonomy, self.places, self._effort, self.context))
        if len(new) and self._unread == len(new):
            raise BudgetError(
                f"the budget covers none of the {len(new)} texts. Run again with a larger one "
                "(--budget-tokens, --budget-usd, budget_tokens=, budget_usd=)"
            )
        if self._may_add and self.context.node.context_tokens is None:
            spec = self.context.node.spec
            self.notes.append(f"{spec} puts every text into some cluster, so it finds no new ones")
        elif self._may_add and not self._unread:
            await self._add()
        self._disagreement, notes = await measure_disagreement(self.taxonomy, self.places, self.context)
        self.notes += notes

    def reading(self) -> CorpusReading:
        """How the texts were read."""
        return CorpusReading(
            effort=self._effort,
            batches=0,
            by_classifier=len(self.places.by_classifier()),
            unread=self._unread,
            disagreement=self._disagreement,
            reason_for_k="",
        )

    def _enter(self, unread: int) -> None:
        self._unread += unread
        self.notes += unread_notes(unread, self.places)

    async def _add(self) -> None:
        for _ in range(SEARCHES):
            nowhere = len(self.places.where(NOWHERE))
            if nowhere < LEAST_NEW:
                return
            size = batch_size(self.context)
            revised = await add_missing(self.taxonomy, self.places, size, self._effort, self.context)
            self.notes += revised.notes
            self._enter(revised.unread)
            if revised.taxonomy == self.taxonomy or revised.unread:
                self.taxonomy = revised.taxonomy
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


def _never_judged(earlier: Earlier) -> set[str]:
    """Texts in no cluster of which no model has said that they fit none; they are read like new ones."""
    return {text.text_id for text in earlier.clustering.unassigned if text.reason in (NOT_READ, NOT_PLACED)}


def _pool(earlier: Earlier) -> list[Text]:
    """Texts of the earlier run in no cluster, which nobody took out by hand: a cluster may take them."""
    outside = {text.text_id for text in earlier.clustering.unassigned if text.reason != EMPTY}
    return [text for text in earlier.texts if text.id in outside - earlier.taken_out]


def _known_places(earlier: Earlier, pool: Set[str]) -> dict[str, Assignment | Unassigned]:
    """Where texts of the same wording stand, in a cluster or, if they are not to be read again, in none."""
    outside = {each.text_id: each for each in earlier.clustering.unassigned if each.reason != EMPTY}
    placed = {each.text_id: each for each in earlier.clustering.assignments}
    standing: dict[str, Assignment | Unassigned] = {**outside, **placed}
    again = pool | _never_judged(earlier)
    texts = [text for text in reversed(earlier.texts) if text.id in standing and text.id not in again]
    in_clusters_last = sorted(texts, key=lambda text: text.id in placed)
    return {_content(text): standing[text.id] for text in in_clusters_last}


def _content(text: Text) -> str:
    return " ".join(text.text.replace("\x00", " ").split())


def _known_note(texts: int) -> list[str]:
    return [f"{texts} texts have the words of one of the run, and stand where that does"] if texts else []
