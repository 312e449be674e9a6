"""What the corpus graph takes, keeps between its nodes, and gives back. Texts stay in the context."""

from __future__ import annotations

import math
import operator
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from cluster_r1.agents.clustering.proposer import ProposedCluster
from cluster_r1.agents.ledger import Ledger
from cluster_r1.agents.reasoning_node import ReasoningNode
from cluster_r1.graphs.corpus.places import Places
from cluster_r1.graphs.corpus.reconciling import BatchCluster
from cluster_r1.graphs.corpus.sampling import Batches
from cluster_r1.types import Disagreement, Finding, KRange, Record

Effort = Literal["economy", "thorough"]


class Plan(Record):
    """What will be read, and about what it takes.

    Attributes:
        texts: different ones.
        batches: which of them are grouped first.
        effort: as carried out: a corpus that the batches hold is always read as a whole.
        calls: about how many calls,
        tokens_in: and tokens of prompts,
        tokens: and of prompts and answers, reasoning aside.
    """

    texts: int
    batches: Batches
    effort: Effort
    calls: int
    tokens_in: int
    tokens: int


class CorpusState(TypedDict, total=False):
    """Everything between START and END.

    `unpaid` says of batches that the budget did not cover them; `unread` counts texts that the model was to
    read, but for the budget; `gaps` the searches for missing clusters; `findings` are what a critic wants
    changed.
    """

    plan: Plan
    found: Annotated[list[BatchCluster], operator.add]
    taxonomy: tuple[ProposedCluster, ...]
    reason: str
    places: Places
    disagreement: Disagreement | None
    unpaid: Annotated[list[str], operator.add]
    unread: int
    gaps: int
    reviewed: bool
    findings: tuple[Finding, ...]
    notes: Annotated[list[str], operator.add]


class BatchState(TypedDict):
    """What one batch is given."""

    batch: int
    of: int
    positions: tuple[int, ...]


@dataclass
class CorpusContext:
    """The corpus and who reads it.

    Attributes:
        texts: different texts, in order.
        instruction: what decides the grouping.
        k: how many clusters are wanted.
        node: the model.
        ledger: of the run.
        effort: None: `economy` above 2,000 texts.
        seed: of all that is drawn.
        batches_done: how many of the first batches are grouped, for progress.
        clock: seconds, for the rate of reading that progress tells.
        on_progress: is told the stage and what happens.
    """

    texts: Sequence[str]
    instruction: str
    k: KRange | None
    node: ReasoningNode
    ledger: Ledger
    effort: Effort | None = None
    seed: int = 0
    on_progress: Callable[[str, str], None] | None = None
    batches_done: int = 0
    clock: Callable[[], float] = time.monotonic

    def at(self, positions: NDArray[np.intp]) -> list[str]:
        """The texts at these positions."""
        return [self.texts[position] for position in positions.tolist()]

    def tell(self, stage: str, message: str) -> None:
        """Tell whoever listens what happens now."""
        if self.on_progress is not None:
            self.on_progress(stage, message)

    def counter(self, stage: str, texts: int) -> Callable[[int], None]:
        """To be told of texts that are read; tells how many of `texts` are, how fast, and the time left."""
        done, begun = 0, self.clock()

        def count(read: int) -> None:
            nonlocal done
            done += read
            self.tell(stage, progress_of(done, texts, self.clock() - begun))

        return count


def progress_of(done: int, texts: int, seconds: float) -> str:
    """How far a reading is after so many seconds: `1,200 of 5,000 texts read · 40 a second · 95 s left`."""
    said = f"{done:,} of {texts:,} texts read"
    if done >= texts or seconds <= 0:
        return said
    rate = done / seconds
    return f"{said} · {rate:,.0f} a second · {in_time((texts - done) / rate)} left"


def in_time(seconds: float) -> str:
    """Seconds, minutes or hours, as a person would say it."""
    if seconds < 100:
        return f"{math.ceil(seconds)} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
