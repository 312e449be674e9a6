"""The vocabulary as data types: texts, clusters, assignments, the clustering, the number of clusters."""

from __future__ import annotations

import re
from collections.abc import Sequence
from numbers import Integral
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cluster_r1.errors import InputError


class Record(BaseModel):
    """Base of all types here: immutable, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Text(Record):
    """One item to be grouped."""

    id: str
    text: str


NO_CLUSTER = "none"
"""Where a text is that fits no cluster, in prompts and answers."""


class Cluster(Record):
    """One group: `members` are text ids in input order."""

    id: str
    name: str
    description: str = ""
    members: tuple[str, ...] = ()


class Assignment(Record):
    """Why one text stands in its cluster. `confidence` is in [0, 1], None when the model gave none."""

    text_id: str
    cluster_id: str
    confidence: Annotated[float, Field(ge=0, le=1)] | None = None
    reason: str = ""


class Unassigned(Record):
    """A text that stands in no cluster, and why."""

    text_id: str
    reason: str


class Clustering(Record):
    """A partition: every input text stands exactly once, in `assignments` or in `unassigned`."""

    clusters: tuple[Cluster, ...]
    assignments: tuple[Assignment, ...]
    unassigned: tuple[Unassigned, ...] = ()
    criterion: str = ""


class KRange(Record):
    """How many clusters are wanted: at least `low`, at most `high`, both included."""

    low: int = Field(ge=1)
    high: int = Field(ge=1)

    @classmethod
    def parse(cls, k: int | str | Sequence[int] | KRange | None) -> KRange | None:
        """Read `5`, `"5"`, `"4..12"`, `(4, 12)`, `range(4, 13)` or None (the model decides).

        Raises:
            InputError: anything else, a bound below 1, or bounds the wrong way round.
        """
        if k is None or isinstance(k, KRange):
            return k
        low, high = _bounds(k)
        if low < 1 or high < low:
            raise InputError(f"k is {k!r}: give a number of at least 1, or a range such as 4..12")
        return cls(low=low, high=high)

    @model_validator(mode="after")
    def _right_way_round(self) -> Self:
        if self.high < self.low:
            raise ValueError(f"low is {self.low} and high is {self.high}")
        return self

    def __str__(self) -> str:
        return str(self.low) if self.low == self.high else f"{self.low}..{self.high}"


def _bounds(k: int | str | Sequence[int]) -> tuple[int, int]:
    if isinstance(k, str):
        match = re.fullmatch(r"\s*(\d{1,6})\s*(?:(?:\.\.|-|:)\s*(\d{1,6})\s*)?", k)
        if match:
            return int(match[1]), int(match[2] or match[1])
    elif isinstance(k, range):
        if len(k):
            return min(k), max(k)
    elif isinstance(k, list | tuple):
        if len(k) == 2 and all(_is_whole(bound) for bound in k):
            return int(k[0]), int(k[1])
    elif _is_whole(k):
        return int(k), int(k)  # type: ignore[arg-type]
    shown = repr(k)[:60]
    raise InputError(f"k is {shown}: give a number of at least 1, or a range such as 4..12")


def _is_whole(value: object) -> bool:
    """Whether it is a whole number of any library (NumPy's too); True and False are not meant."""
    return isinstance(value, Integral) and not isinstance(value, bool)


FindingKind = Literal["merge", "split", "move", "rename", "drop", "fine"]


class Finding(Record):
    """One thing that a critic (a model or code) says about a clustering.

    `clusters` are cluster ids, `texts` the ids of the texts that show it.
    """

    kind: FindingKind
    clusters: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    comment: str = ""
    source: Literal["model", "code"] = "model"


class Usage(Record):
    """Model calls and tokens of a run. Cached answers count as saved, not as spent.

    `reasoning_tokens` are part of `output_tokens`; `cached_input_tokens`, which the provider found in its own
    prompt cache, are part of `input_tokens`. `cost_usd` is None where no price is known.
    """

    calls: int = 0
    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    saved_calls: int = 0
    saved_tokens: int = 0
    failed_calls: int = 0
    cost_usd: float | None = None

    @property
    def total_tokens(self) -> int:
        """Tokens spent, in and out."""
        return self.input_tokens + self.output_tokens


class Round(Record):
    """One round of the clustering graph and how it was judged.

    `score` is in [0, 1], 1 best, None where no critic ran; it only compares rounds of one run.
    """

    number: int
    clusters: int
    unassigned: int
    score: float | None = None
    verdict: Literal["accept", "revise"] | None = None
    findings: tuple[Finding, ...] = ()
    repairs: tuple[str, ...] = ()
    edits: tuple[str, ...] = ()


class Disagreement(Record):
    """How often a classifier is estimated to place texts otherwise than the model, with a 95 % interval.

    Attributes:
        value: share of all texts.
        low: end of the interval.
        high: other end.
        audited: texts that the classifier had placed and the model read as well.
    """

    value: float
    low: float
    high: float
    audited: int


class CorpusReading(Record):
    """How a corpus was read that fits no single context.

    Attributes:
        effort: `thorough`, where the model read every text, or `economy`.
        batches: that were grouped first.
        by_classifier: texts that a classifier placed.
        unread: texts that the model was to read, but for the budget.
        disagreement: of classifier and model; None where the model read everything.
        reason_for_k: why there are as many clusters, in the model's words.
    """

    effort: Literal["economy", "thorough"]
    batches: int
    by_classifier: int
    unread: int = 0
    disagreement: Disagreement | None
    reason_for_k: str


StopReason = Literal[
    "accepted",
    "rounds",
    "no_critic",
    "no_edits",
    "budget",
    "critic_failed",
    "refiner_failed",
    "proposer_failed",
    "trivial",
    "batches",
    "assigned",
    "updated",
]
"""Why a clustering graph stopped."""
