"""What becomes of an attempt: a task with its traces, or the reason why not, and how it came to that."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cluster_r1.agents.synthesis.critic import Aspect
from cluster_r1.agents.synthesis.draft import Category, Form
from cluster_r1.graphs.synthesis.config import Split
from cluster_r1.task import Task
from cluster_r1.types import Record

Stage = Literal["sample", "generate", "screen", "verify", "critique", "distill", "write"]

Reason = Literal[
    "unusable_answer",
    "refused",
    "too_long",
    "partition",
    "evidence",
    "leakage",
    "trivial",
    "duplicate",
    "disagreement",
    "ambiguous",
    "critic",
    "harmful",
    "no_trace",
]
"""Why an attempt was rejected. `refused`: the server took not the request; `critic`: its verdict."""

TraceFault = Literal[
    "truncated", "unusable", "no_cover", "low_ami", "singletons", "no_reasoning", "not_about_texts", "length"
]
"""Why a teacher's answer is no trace to learn from."""


class Fault(Record):
    """What speaks against a draft; `mendable` if its generator may try again."""

    reason: Reason
    detail: str
    mendable: bool = True


class Rejection(Record):
    """Why, where, and in which words."""

    stage: Stage
    reason: Reason
    detail: str


class Revision(Record):
    """A draft that was sent back: its instruction, and what was wrong with it."""

    stage: Stage
    instruction: str
    findings: tuple[str, ...]


class Trace(Record):
    """A teacher's answer that may be learnt from.

    Attributes:
        completion: reasoning and answer, as a model should write them.
        ami: of its partition and the reference.
        sample: which of the teacher's answers.
    """

    completion: str
    ami: float
    sample: int


class Scores(Record):
    """What was measured on the way; None where the attempt did not get so far. Agreements are AMI.

    Attributes:
        embedding: of the labels and a grouping by embeddings.
        verifier: of the labels and what most blind readings say,
        single: of the labels and one reading, mean over the readings,
        kept: of the labels and most readings over the texts that stayed.
        vote: mean share of readings that agree with a text's label.
        dropped: texts that were dropped.
    """

    embedding: float | None = None
    verifier: float | None = None
    single: float | None = None
    kept: float | None = None
    vote: float | None = None
    dropped: int | None = None


class Need(Record):
    """What the calls of a role took, whether they were made now or came from the cache."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    def __add__(self, other: Need) -> Need:
        return Need(
            calls=self.calls + other.calls,
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
        )


class Outcome(Record):
    """All that is kept of an attempt.

    Attributes:
        id: of the attempt, and of its task.
        size: texts that were wanted.
        k: clusters that were asked for.
        written: whether the texts were written for it.
        same_as: the accepted task that the critic finds to ask for the same.
        task: if it was accepted,
        traces: with what the teacher's answers gave,
        trace_faults: and why others gave nothing.
        rejection: if it was not.
    """

    id: str
    corpus: str
    slice: int
    attempt: int
    split: Split
    size: int
    k: int
    form: Form
    angle: str
    written: bool = False
    instruction: str = ""
    criterion: str = ""
    categories: tuple[Category, ...] = ()
    revisions: tuple[Revision, ...] = ()
    scores: Scores = Scores()
    ratings: dict[Aspect, int] = Field(default_factory=dict)
    need: dict[str, Need] = Field(default_factory=dict)
    same_as: str | None = None
    task: Task | None = None
    traces: tuple[Trace, ...] = ()
    trace_faults: dict[TraceFault, int] = Field(default_factory=dict)
    rejection: Rejection | None = None

    def reject(self, rejection: Rejection) -> Outcome:
        """The same attempt, rejected after all."""
        return self.model_copy(update={"task": None, "traces": (), "rejection": rejection})


class SynthesisEvent(Record):
    """What happens to an attempt: it enters a stage, is revised, and in the end accepted or rejected."""

    kind: Literal["stage", "revised", "rejected", "accepted"]
    task_id: str
    stage: Stage
    message: str = ""
