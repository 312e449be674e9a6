"""Intervals of scores, and paired comparisons of systems.

A bootstrap over texts draws some of them twice, and a text always agrees with its own copy: the agreement of
any partition, singletons too, rises with every repeated text. So texts are drawn without replacement, half
of them at a time. By the delete-d jackknife (Shao & Wu, Annals of Statistics 17, 1989) the spread of a
statistic over subsets of m of n texts, times m / (n - m), estimates its variance; with halves the factor is
1, and the deviations themselves are those of the full sample.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Positions = NDArray[np.intp]

HALVES = 200
"""Halves that are drawn for an interval."""

_RESAMPLES = 10_000  # of tasks, for a paired comparison
_LEVEL = (2.5, 97.5)


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with the bounds of its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """One system minus another, over tasks.

    Attributes:
        difference: mean over tasks, with a 95 % bootstrap interval over tasks.
        better, worse: tasks on which the first is higher, lower.
        p: two-sided, of as large a mean if the signs of the differences were a matter of chance.
    """

    difference: Interval
    better: int
    worse: int
    p: float


def halves(texts: int, corpus: str = "") -> list[Positions]:
    """`HALVES` random halves of so many positions, sorted.

    Tasks over the same texts of a corpus get the same halves, other corpora others.
    """
    random = np.random.default_rng([zlib.crc32(corpus.encode()), texts])
    return [np.sort(random.permutation(texts)[: max(1, texts // 2)]) for _ in range(HALVES)]


def interval_over_texts(value: float, on_halves: Sequence[float]) -> Interval:
    """The interval of a value from what it is on halves of the texts: see the top of this file."""
    deviations = np.asarray(on_halves) - np.mean(on_halves)
    low, high = np.percentile(deviations, _LEVEL)
    return Interval(value, value + float(low), value + float(high))


def on_halves(
    measure: Callable[[Sequence[object], Sequence[object]], float],
    reference: Sequence[object],
    predicted: Sequence[object],
    chosen: Sequence[Positions],
) -> list[float]:
    """A measure of two labellings on halves of the texts."""
    rows = [positions.tolist() for positions in chosen]
    return [measure([reference[i] for i in row], [predicted[i] for i in row]) for row in rows]


def compare(one: Mapping[str, float], other: Mapping[str, float]) -> Comparison:
    """Compare two systems by their scores on the tasks that both have answered.

    Raises:
        ValueError: there is no such task.
    """
    shared = sorted(one.keys() & other.keys())
    if not shared:
        raise ValueError("the two systems have no task in common")
    differences = np.array([one[task] - other[task] for task in shared])
    random = np.random.default_rng(0)
    means = random.choice(differences, (_RESAMPLES, len(shared))).mean(axis=1)
    flipped = (random.choice((-1.0, 1.0), (_RESAMPLES, len(shared))) * differences).mean(axis=1)
    mean = float(differences.mean())
    as_large = int((np.abs(flipped) >= abs(mean) - 1e-12).sum())
    low, high = np.percentile(means, _LEVEL)
    return Comparison(
        difference=Interval(mean, float(low), float(high)),
        better=int((differences > 0).sum()),
        worse=int((differences < 0).sum()),
        p=(1 + as_large) / (1 + _RESAMPLES),
    )
