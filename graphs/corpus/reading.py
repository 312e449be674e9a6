"""Has the model read texts and assign them to a taxonomy: in batches, many at once, each text once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from cluster_r1.agents.clustering.assigner import Assigner, AssignerInput
from cluster_r1.agents.clustering.fitting import fit_texts
from cluster_r1.agents.clustering.partition import Placement
from cluster_r1.agents.clustering.proposer import ProposedCluster
from cluster_r1.agents.distinctive_words import plain_name
from cluster_r1.agents.ledger import Ledger
from cluster_r1.agents.models.static_embedder import count_tokens
from cluster_r1.agents.parsing import AnswerError
from cluster_r1.agents.reasoning_node import ReasoningNode
from cluster_r1.errors import BudgetError, InputError, RefusedError
from cluster_r1.graphs.corpus.places import FAILED, NOWHERE, Places
from cluster_r1.types import NO_CLUSTER

BATCH = 150  # texts that one answer places
_HALVINGS = 3  # of a batch whose answer is unusable or leaves texts out
_PER_CLUSTER = 6  # tokens around a cluster's name and description in a prompt
_WORKERS = 96  # batches under way; the model's own limit of calls is lower


@dataclass
class Read:
    """What came of reading.

    Attributes:
        placements: by position: cluster (an id of the taxonomy, or "none"), reason and confidence.
        failed: by position, why a text could not be placed: the dead letters.
        unread: positions that were not come to, because the budget was spent.
    """

    placements: dict[int, Placement] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)
    unread: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Reader:
    """Reads texts of one corpus by one instruction.

    Attributes:
        node: the model.
        instruction: what decides the grouping.
        texts: the corpus; positions refer to it.
        ledger: of the run.
        on_batch: is told how many texts are read.
    """

    node: ReasoningNode
    instruction: str
    texts: Sequence[str]
    ledger: Ledger
    on_batch: Callable[[int], None] | None = None

    async def read(self, positions: Sequence[int], taxonomy: tuple[ProposedCluster, ...]) -> Read:
        """Place these texts.

        Raises:
            ModelError: the model is gone; finished calls are in the cache.
        """
        read = Read()
        batches = self._batches(positions)
        room = self._room(taxonomy)
        spent = asyncio.Event()

        async def work() -> None:
            for batch in batches:  # shared by all workers: each takes the next
                if spent.is_set():
                    read.unread += batch
                    continue
                try:
                    await self._read_batch(batch, taxonomy, room, read)
                except BudgetError:
                    spent.set()
                    read.unread += [position for position in batch if position not in read.placements]

        workers = [asyncio.create_task(work()) for _ in range(_WORKERS)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
        read.unread.sort()
        return read

    def _batches(self, positions: Sequence[int]) -> Iterator[list[int]]:
        return (list(positions[start : start + BATCH]) for start in range(0, len(positions), BATCH))

    def _room(self, taxonomy: tuple[ProposedCluster, ...]) -> int | None:
        """Tokens of the context that are left beside the clusters, which may be hundreds."""
        if self.node.context_tokens is None:
            return None
        taken = sum(count_tokens([f"{cluster.name} - {cluster.description}" for cluster in taxonomy]))
        return self.node.context_tokens - taken - _PER_CLUSTER * len(taxonomy)

    async def _read_batch(
        self,
        batch: Sequence[int],
        taxonomy: tuple[ProposedCluster, ...],
        room: int | None,
        read: Read,
    ) -> None:
        """One batch; where its answer is of no use or leaves texts out, those in halves."""
        parts, why = [list(batch)], ""
        for _ in range(_HALVINGS + 1):
            left: list[int] = []
            for part in parts:
                try:
                    placed = await self._ask(part, taxonomy, room)
                except (AnswerError, RefusedError, InputError) as error:
                    placed, why = {}, str(error)
                read.placements |= placed
                left += [position for position in part if position not in placed]
            if not left:
                break
            middle = (len(left) + 1) // 2
            parts = [half for half in (left[:middle], left[middle:]) if half]
        read.failed |= dict.fromkeys(left, why or "the model gave no usable answer for this text")
        if self.on_batch is not None:
            self.on_batch(len(batch))

    async def _ask(
        self, part: Sequence[int], taxonomy: tuple[ProposedCluster, ...], room: int | None
    ) -> Mapping[int, Placement]:
        texts = [self.texts[position] for position in part]
        shown = fit_texts(texts, self.instruction, room).shown
        given = AssignerInput(instruction=self.instruction, clusters=taxonomy, texts=shown)
        answer = await self.node.ask(Assigner(), given, texts=len(part), round=0, ledger=self.ledger)
        ids = {plain_name(word): c.id for c in reversed(taxonomy) for word in (c.name, c.id) if word}
        ids[plain_name(NO_CLUSTER)] = NO_CLUSTER
        placed: dict[int, Placement] = {}
        for placement in answer.placements:
            cluster = ids.get(plain_name(placement.cluster))
            if cluster is not None and 1 <= placement.text <= len(part):
                position = part[placement.text - 1]
                placed.setdefault(
                    position, placement.model_copy(update={"cluster": cluster, "text": position})
                )
        return placed


def enter(places: Places, read: Read, taxonomy: Sequence[ProposedCluster]) -> None:
    """Put what the model read into the places."""
    number = {cluster.id: place for place, cluster in enumerate(taxonomy)} | {NO_CLUSTER: NOWHERE}
    for position, placement in read.placements.items():
        places.cluster[position] = number[placement.cluster]
        places.confidence[position] = np.nan if placement.confidence is None else placement.confidence
        places.by_model[position], places.learnt[position] = True, False
        places.reasons[position] = placement.reason
    for position, why in read.failed.items():
        places.cluster[position] = FAILED
        places.reasons[position] = why
