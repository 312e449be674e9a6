"""The clustering reward: what an answer to the proposer's prompt is worth, given the reference labels.

Reinforcement learning, rejection sampling and evaluation all use these functions. They never raise on an
answer, whatever it is. The paper publishes no reward formula; this one is our own:

    nothing to be read            0
    not an exact cover            0.1 x coverage
    an exact cover                0.2 + 0.8 x max(0, AMI)

so that validity pays, but nothing that ignores the texts pays more than validity: singletons, one cluster and
random labels all have an AMI of about 0.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Literal

from pydantic import Field

from cluster_r1.agents.clustering.proposer import read_places
from cluster_r1.agents.distinctive_words import plain_name
from cluster_r1.agents.parsing import AnswerError, split_reasoning
from cluster_r1.metrics import (
    Agreement,
    Labels,
    adjusted_mutual_info,
    adjusted_rand,
    agreement,
    k_error,
    v_measure,
)
from cluster_r1.types import NO_CLUSTER, Record

_BROKEN_COVER = 0.1  # the most that an answer without an exact cover may get
_VALID = 0.2  # what an exact cover gets at least

MEASURES: Mapping[str, Callable[[Labels, Labels], float]] = MappingProxyType(
    {"ami": adjusted_mutual_info, "ari": adjusted_rand, "v_measure": v_measure}
)
"""The measures a reward can be made of, by name."""


class RewardSettings(Record):
    """What a reward is made of.

    Attributes:
        measure: of `MEASURES`. `v_measure`, the paper's metric, pays for hiding doubt in singletons; a policy
            trained on it alone collapses into them, so it warns.
        k_weight: share of the reward for an exact cover, in [0, 1], that the number of clusters decides: that
            share of the measure gives way to max(0, 1 - k error).
        long_from: answers of more tokens than this lose reward, linearly,
        long_to: until at this length nothing is left. None: length costs nothing.
    """

    measure: Literal["ami", "ari", "v_measure"] = "ami"
    k_weight: float = Field(default=0.0, ge=0, le=1)
    long_from: int | None = Field(default=None, ge=1)
    long_to: int | None = Field(default=None, ge=2)

    def model_post_init(self, _: object) -> None:
        """Refuse half a length limit; warn of a measure that can be gamed."""
        if (self.long_from is None) != (self.long_to is None):
            raise ValueError("long_from and long_to belong together: set both or neither")
        if self.long_from is not None and self.long_to is not None and self.long_to <= self.long_from:
            raise ValueError(f"long_to ({self.long_to}) is not above long_from ({self.long_from})")
        if self.measure == "v_measure":
            warnings.warn(
                "reward on V-measure alone: all-singleton answers score high, and training collapses into "
                "them. Use ami, or watch singleton_rate",
                stacklevel=2,
            )


DEFAULT = RewardSettings()


@dataclass(frozen=True, slots=True)
class Reading:
    """An answer as a partition of the texts.

    Attributes:
        labels: the cluster of each text, None where the answer does not place it once, or says `none`.
        coverage: share of the texts, in [0, 1], that the answer places once.
        exact: whether every text is placed once, and no text that does not exist.
    """

    labels: tuple[str | None, ...]
    coverage: float
    exact: bool


@dataclass(frozen=True, slots=True)
class Judgement:
    """An answer's reward and the measures behind it; `agreement` is None unless it is an exact cover."""

    reward: float
    coverage: float
    agreement: Agreement | None

    @property
    def exact(self) -> bool:
        """Whether the answer is an exact cover."""
        return self.agreement is not None


def read_partition(completion: str, texts: int) -> Reading | None:
    """The partition of so many texts that a completion (reasoning and answer) writes; None without one.

    Raises:
        ValueError: there are no texts.
    """
    if texts < 1:
        raise ValueError("a partition of no texts cannot be read")
    _, answer = split_reasoning(completion)
    try:
        places = read_places(answer)
    except AnswerError:
        return None
    numbers, labels = zip(*sorted(places), strict=True)
    if numbers == tuple(range(1, texts + 1)) and not any(map(_is_none, set(labels))):
        return Reading(labels, coverage=1.0, exact=True)
    return _broken(places, texts)


def _broken(places: Sequence[tuple[int, str]], texts: int) -> Reading:
    times = Counter(number for number, _ in places)
    once = {number: name for number, name in places if times[number] == 1 and not _is_none(name)}
    labels = tuple(once.get(number) for number in range(1, texts + 1))
    covered = sum(label is not None for label in labels)
    return Reading(labels, coverage=covered / texts, exact=False)


@lru_cache(maxsize=10_000)
def _is_none(name: str) -> bool:
    """Whether the check of a run would leave the text unassigned; else "None" would pass for a cluster."""
    return plain_name(name) == NO_CLUSTER


def reward(
    completion: str, reference: Labels, settings: RewardSettings = DEFAULT, *, tokens: int | None = None
) -> float:
    """The reward in [0, 1] of a completion.

    Args:
        completion: reasoning and answer, as the model wrote them.
        reference: the true label of each text, in the prompt's order.
        settings: what it is made of.
        tokens: the completion's length, for the over-long penalty.

    Raises:
        ValueError: the reference is empty.
    """
    reading = read_partition(completion, len(reference))
    if reading is None or not reading.exact:
        return _worth_of_broken(reading) * _kept_for_length(tokens, settings)
    score = MEASURES[settings.measure](reference, reading.labels)
    off = k_error(reference, reading.labels) if settings.k_weight else 0.0
    return _worth_of_exact(score, off, settings) * _kept_for_length(tokens, settings)


def judge(
    completion: str, reference: Labels, settings: RewardSettings = DEFAULT, *, tokens: int | None = None
) -> Judgement:
    """The reward and all measures; arguments and errors as those of `reward`."""
    reading = read_partition(completion, len(reference))
    kept = _kept_for_length(tokens, settings)
    if reading is None or not reading.exact:
        return Judgement(_worth_of_broken(reading) * kept, reading.coverage if reading else 0.0, None)
    found = agreement(reference, reading.labels)
    score = {"ami": found.ami, "ari": found.ari, "v_measure": found.v}[settings.measure]
    return Judgement(_worth_of_exact(score, found.k_error, settings) * kept, 1.0, found)


def _worth_of_broken(reading: Reading | None) -> float:
    return _BROKEN_COVER * reading.coverage if reading else 0.0


def _worth_of_exact(score: float, off: float, settings: RewardSettings) -> float:
    """What an exact cover with this score and this error of k is worth."""
    score = (1 - settings.k_weight) * max(0.0, score) + settings.k_weight * max(0.0, 1 - off)
    return _VALID + (1 - _VALID) * score


def _kept_for_length(tokens: int | None, settings: RewardSettings) -> float:
    """The share in [0, 1] that the length leaves (after the soft punishment of DAPO, arXiv 2503.14476)."""
    if tokens is None or settings.long_from is None or settings.long_to is None:
        return 1.0
    return min(1.0, max(0.0, (settings.long_to - tokens) / (settings.long_to - settings.long_from)))
