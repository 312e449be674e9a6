"""What a synthesis would send, found out without asking anybody."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean

from cluster_r1.agents.models.static_embedder import count_tokens
from cluster_r1.agents.role import Role
from cluster_r1.agents.synthesis.critic import TaskCritic
from cluster_r1.agents.synthesis.designer import Designer
from cluster_r1.agents.synthesis.generator import Generator
from cluster_r1.agents.synthesis.teacher import Teacher
from cluster_r1.agents.synthesis.verifier import Verifier
from cluster_r1.agents.synthesis.writer import Writer
from cluster_r1.graphs.synthesis.config import SynthesisConfig
from cluster_r1.graphs.synthesis.slicing import Slice, SliceStore

_SLICES = 50  # that are drawn to see how long texts are
_PROMPT_TOKENS = 700  # of a prompt besides the texts
_WRITTEN_TOKENS = 60  # of a text that is yet to be written
_ORDERS = 10  # texts that are ordered in one call


@dataclass(frozen=True, slots=True)
class SynthesisEstimate:
    """What attempts take, reasoning aside; an attempt that is rejected early takes less.

    Attributes:
        slices: drawn to find out.
        texts: of a slice, mean.
        calls: of an attempt that is accepted at once.
        tokens: likewise, in and out.
        tasks: that are wanted.
    """

    slices: int
    texts: float
    calls: float
    tokens: int
    tasks: int

    @property
    def least_calls(self) -> int:
        """If every attempt is accepted."""
        return math.ceil(self.calls * self.tasks)

    @property
    def least_tokens(self) -> int:
        """If every attempt is accepted."""
        return self.tokens * self.tasks


def estimate_synthesis(store: SliceStore, settings: SynthesisConfig, tasks: int) -> SynthesisEstimate:
    """The estimate from the first slices that would be drawn."""
    names = list(store.sources)
    count = min(_SLICES, max(len(names), math.ceil(tasks / settings.instructions_a_slice)))
    slices = [store.slice(names[position % len(names)], position // len(names)) for position in range(count)]
    needs = [_need(each, settings) for each in slices]
    return SynthesisEstimate(
        slices=count,
        texts=round(fmean(each.size for each in slices), 1),
        calls=round(fmean(calls for calls, _ in needs), 2),
        tokens=round(fmean(tokens for _, tokens in needs)),
        tasks=tasks,
    )


def _need(wanted: Slice, settings: SynthesisConfig) -> tuple[float, float]:
    """Calls and tokens of one attempt on a slice."""
    size = wanted.size
    shown = sum(count_tokens([text.text for text in wanted.texts])) or _WRITTEN_TOKENS * size
    shown = min(shown, settings.context_tokens)
    made: list[tuple[type[Role], float, float]] = [  # type: ignore[type-arg]
        (Verifier, settings.verify.samples, shown),
        (TaskCritic, 1, shown),
        (Teacher, settings.distill.samples, shown),
    ]
    if wanted.domain:
        share = 1 / settings.instructions_a_slice
        made += [(Designer, share, 0), (Writer, share * math.ceil(size / _ORDERS), 0)]
    else:
        made.append((Generator, 1, shown))
    return sum(calls for _, calls, _ in made), sum(_tokens(role, size, *about) for role, *about in made)


def _tokens(role: type[Role], size: int, calls: float, shown: float) -> float:  # type: ignore[type-arg]
    answered = min(size, _ORDERS) if role is Writer else size
    return calls * (_PROMPT_TOKENS + shown + role.tokens_per_text * answered)
