"""What the synthesis graph takes, keeps between its nodes, and gives back."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, TypedDict

from cluster_r1.agents.ledger import Ledger
from cluster_r1.agents.synthesis.critic import Judgement
from cluster_r1.agents.synthesis.designer import Property
from cluster_r1.agents.synthesis.draft import Draft
from cluster_r1.agents.synthesis.panel import Panel
from cluster_r1.graphs.synthesis.accepted import AcceptedTasks
from cluster_r1.graphs.synthesis.accounts import add_needs
from cluster_r1.graphs.synthesis.config import SynthesisConfig
from cluster_r1.graphs.synthesis.outcome import (
    Need,
    Outcome,
    Rejection,
    Revision,
    SynthesisEvent,
    Trace,
    TraceFault,
)
from cluster_r1.graphs.synthesis.slicing import Slice, SliceStore
from cluster_r1.graphs.synthesis.voting import Verification
from cluster_r1.types import Record, Text


class WrittenSlice(Record):
    """Texts written for a domain, and their values: `labels[p][t]` is that of property p and text t."""

    properties: tuple[Property, ...]
    texts: tuple[Text, ...]
    labels: tuple[tuple[str, ...], ...]


class Earlier(Record):
    """A task that was accepted of the same slice: its instruction, and labels by text id."""

    instruction: str
    labels: dict[str, str]


class SynthesisInput(TypedDict, total=False):
    """One attempt. Give `texts` (strings or objects `{id, text}`) or `domain`; the rest is for bulk runs.

    `corpus` names the texts, or the source in the context's store. `visible` is how many accepted tasks the
    attempt knows of; `tried` are the instructions of the attempts before it on the same slice, `earlier` the
    accepted ones by id, and `written` their texts, if they were written.
    """

    texts: list[Any]
    domain: str
    corpus: str
    number: int
    attempt: int
    visible: int
    tried: tuple[str, ...]
    earlier: dict[str, Earlier]
    written: WrittenSlice | None


class SynthesisOutput(TypedDict):
    """What became of the attempt."""

    outcome: Outcome
    written: WrittenSlice | None


class SynthesisState(SynthesisInput, total=False):
    """Everything between START and END. `shown` are the slice's texts as prompts show them."""

    slice: Slice
    members: tuple[Text, ...]
    shown: tuple[str, ...]
    draft: Draft
    findings: tuple[str, ...]
    round: int
    embedding_ami: float | None
    verification: Verification | None
    judgement: Judgement | None
    same_as: str | None
    traces: tuple[Trace, ...]
    trace_faults: dict[TraceFault, int]
    revisions: Annotated[list[Revision], operator.add]
    need: Annotated[dict[str, Need], add_needs]
    rejection: Rejection
    outcome: Outcome


@dataclass
class SynthesisContext:
    """How attempts are to be made.

    Attributes:
        model: spec string of all roles; empty for the default.
        models: spec strings by role, where they differ.
        config: sizes and bars, as in a configuration file.
    """

    model: str = ""
    models: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)


@dataclass(kw_only=True)
class OpenContext(SynthesisContext):
    """A context whose models are open, and that knows what was accepted.

    Attributes:
        settings: the configuration, read.
        panel: who plays the roles.
        accepted: what new tasks must differ from.
        store: where slices come from; None where each attempt brings its own texts.
        ledger: of the run.
        on_event: is told what happens.
    """

    settings: SynthesisConfig
    panel: Panel
    accepted: AcceptedTasks
    store: SliceStore | None = None
    ledger: Ledger = field(default_factory=Ledger)
    on_event: Callable[[SynthesisEvent], None] | None = None

    @property
    def context_tokens(self) -> int:
        """What texts are shortened for: the configuration's context, or a model's that is smaller."""
        return min(self.settings.context_tokens, self.panel.context_tokens)
