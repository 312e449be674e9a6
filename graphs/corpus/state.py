"""What the corpus graph takes, keeps between its nodes, and gives back. Texts stay in the context."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, TypedDict

from cluster_r1.agents.clustering.proposer import ProposedCluster
from cluster_r1.agents.ledger import Ledger
from cluster_r1.agents.reasoning_node import ReasoningNode
from cluster_r1.graphs.corpus.places import Places
from cluster_r1.graphs.corpus.reconciling import BatchCluster
from cluster_r1.graphs.corpus.sampling import Batches
from cluster_r1.types import Disagreement, KRange, Record

Effort = Literal["economy", "thorough"]


class Plan(Record):
    """What will be read, and about what it takes.

    Attributes:
        texts: different ones.
        batches: which of them are grouped first.
        labelled: further texts that the model labels for the classifier; empty when it reads all.
        effort: as carried out: a corpus that the batches hold is always read as a whole.
        calls: about how many calls,
        tokens: and tokens, in and out, reasoning aside.
    """

    texts: int
    batches: Batches
    labelled: tuple[int, ...]
    effort: Effort
    calls: int
    tokens: int


class CorpusState(TypedDict, total=False):
    """Everything between START and END."""

    plan: Plan
    found: Annotated[list[BatchCluster], operator.add]
    taxonomy: tuple[ProposedCluster, ...]
    reason: str
    places: Places
    disagreement: Disagreement | None
    audited: bool
    notes: Annotated[list[str], operator.add]


class BatchState(TypedDict):
    """What one batch is given."""

    batch: int
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
