"""What the clustering graph takes, keeps between its nodes, and gives back."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

from cluster_r1.agents.clustering.proposer import Proposal
from cluster_r1.agents.ledger import Ledger
from cluster_r1.agents.reasoning_node import ReasoningNode
from cluster_r1.graphs.clustering.checking import Checked
from cluster_r1.graphs.clustering.distinct import DistinctTexts
from cluster_r1.types import Clustering, Finding, Record, Round, StopReason, Usage

DEFAULT_ROUNDS = 2


class ClusteringInput(TypedDict, total=False):
    """`texts` are strings or objects `{id, text}`; `k` is a number, a range such as `"4..12"`, or absent."""

    texts: list[Any]
    instruction: str
    k: int | str | None


class ClusteringOutput(TypedDict):
    """The partition of all input texts, and how the graph arrived at it."""

    clustering: Clustering
    rounds: list[Round]
    best_round: int
    stop_reason: StopReason
    notes: list[str]
    usage: Usage


class ScoredRound(Record):
    """A clustering and the score it got."""

    number: int
    clustering: Clustering
    score: float | None


class ClusteringState(TypedDict, total=False):
    """Everything between START and END. `clustering` is of the distinct texts until the end."""

    texts: list[Any]
    instruction: str
    k: int | str | None
    distinct: DistinctTexts
    shown: tuple[str, ...]
    proposal: Proposal | None
    clustering: Clustering
    checked: Checked
    findings: tuple[Finding, ...]
    edits: tuple[str, ...]
    round: int
    rounds: Annotated[list[Round], operator.add]
    best: ScoredRound
    best_round: int
    stop_reason: StopReason
    notes: Annotated[list[str], operator.add]
    usage: Usage


@dataclass
class ClusteringContext:
    """How a run is to be done.

    Attributes:
        model: spec string; empty for the default.
        rounds: how often the clustering may be refined; 0 takes the proposal as it is.
        budget_tokens: the most tokens that the run may spend.
        seed: another number asks models for other samples.
    """

    model: str = ""
    rounds: int = DEFAULT_ROUNDS
    budget_tokens: int | None = None
    seed: int = 0


@dataclass
class OpenContext(ClusteringContext):
    """A context whose reasoning node is open already.

    Attributes:
        node: the reasoning node.
        ledger: that of a larger run, which the calls are entered in as well.
    """

    node: ReasoningNode | None = None
    ledger: Ledger | None = None
