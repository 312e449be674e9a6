"""Which rows are trained on, and in which order: by length, by difficulty, by growing number of texts."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from cluster_r1.training.examples import Example

AnyRow = TypeVar("AnyRow", bound=Example)


@dataclass(frozen=True, slots=True)
class LengthReport:
    """What the length filter did; lengths in tokens."""

    rows: int
    kept: int
    median: int
    longest: int
    limit: int

    def __str__(self) -> str:
        left_out = self.rows - self.kept
        return (
            f"{self.kept} of {self.rows} rows have at most {self.limit} tokens"
            f"{f' ({left_out} left out)' if left_out else ''}; median {self.median}, longest {self.longest}"
        )


def within_length(
    rows: Sequence[AnyRow], tokens_of: Callable[[AnyRow], int], limit: int
) -> tuple[list[AnyRow], LengthReport]:
    """The rows of at most `limit` tokens. Cutting a longer one off would teach an answer without its end."""
    lengths = [tokens_of(row) for row in rows]
    kept = [row for row, length in zip(rows, lengths, strict=True) if length <= limit]
    report = LengthReport(len(rows), len(kept), int(statistics.median(lengths)), max(lengths), limit)
    return kept, report


def within_difficulty(
    rows: Sequence[AnyRow],
    rewards: Mapping[str, Sequence[float]],
    least_std: float = 0.05,
    mean: tuple[float, float] = (0.1, 0.9),
) -> list[AnyRow]:
    """The rows whose answers differ in reward, and are neither hopeless nor solved.

    A group of answers that all score alike has no advantage to learn from. The bounds are judgement.

    Args:
        rows: what there is.
        rewards: of several answers to each row, by its id; a row without any is left out.
        least_std: least standard deviation of the rewards.
        mean: lowest and highest mean reward.
    """
    return [
        row
        for row in rows
        if len(found := rewards.get(row.id, ())) > 1
        and statistics.pstdev(found) >= least_std
        and mean[0] <= statistics.fmean(found) <= mean[1]
    ]


def by_growing_size(rows: Sequence[AnyRow], stages: int, seed: int) -> list[AnyRow]:
    """Rows in so many stages of growing number of texts, shuffled within each."""
    ordered = sorted(rows, key=lambda row: row.n)
    size = -(-len(ordered) // stages)
    random = Random(seed)
    result: list[AnyRow] = []
    for start in range(0, len(ordered), size):
        stage = ordered[start : start + size]
        random.shuffle(stage)
        result += stage
    return result
