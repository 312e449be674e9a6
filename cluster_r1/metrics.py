"""Agreement of two partitions; the one home of such measures.

All take labels of any hashable kind, aligned by position, and are invariant to what the labels are called.
They are written for rewards, which are taken by the million on some fifty texts each: there, counts in plain
Python beat array libraries by far. The tests hold them to scikit-learn's values.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

Labels = Sequence[Hashable]


@dataclass(frozen=True, slots=True)
class Agreement:
    """The measures that training and evaluation report, from one pass over the labels.

    Attributes:
        ami: adjusted mutual information; 1 equal, about 0 chance.
        ari: adjusted Rand index; 1 equal, about 0 chance, at least -0.5.
        v: V-measure in [0, 1]; not adjusted for chance, singletons score high.
        k_error: |predicted - true| / true number of clusters.
        singleton_rate: share of the texts that stand alone in their predicted cluster.
    """

    ami: float
    ari: float
    v: float
    k_error: float
    singleton_rate: float


def agreement(reference: Labels, predicted: Labels) -> Agreement:
    """All measures at once.

    Raises:
        ValueError: there are no labels, or not equally many.
    """
    table = _Contingency.of(reference, predicted)
    return Agreement(
        ami=table.adjusted_mutual_info(),
        ari=table.adjusted_rand(),
        v=table.v_measure(),
        k_error=table.k_error(),
        singleton_rate=table.singleton_rate(),
    )


def adjusted_mutual_info(reference: Labels, predicted: Labels) -> float:
    """AMI: 1 for equal partitions, about 0 for independent ones whatever their sizes; can be negative.

    Vinh, Epps & Bailey, JMLR 11 (2010), with the arithmetic mean of the entropies.

    Raises:
        ValueError: there are no labels, or not equally many.
    """
    return _Contingency.of(reference, predicted).adjusted_mutual_info()


def adjusted_rand(reference: Labels, predicted: Labels) -> float:
    """ARI: 1 for equal partitions, about 0 for independent ones; at least -0.5.

    Hubert & Arabie, Journal of Classification 2 (1985).

    Raises:
        ValueError: there are no labels, or not equally many.
    """
    return _Contingency.of(reference, predicted).adjusted_rand()


def v_measure(reference: Labels, predicted: Labels) -> float:
    """V-measure in [0, 1], 1 best. Not adjusted for chance: singletons score high.

    Rosenberg & Hirschberg, EMNLP 2007.

    Raises:
        ValueError: there are no labels, or not equally many.
    """
    return _Contingency.of(reference, predicted).v_measure()


def k_error(reference: Labels, predicted: Labels) -> float:
    """Relative error of the number of clusters, |predicted - true| / true; 0 best.

    Raises:
        ValueError: there are no labels, or not equally many.
    """
    return _Contingency.of(reference, predicted).k_error()


def singleton_rate(predicted: Labels) -> float:
    """Share of the texts in [0, 1] that are alone in their cluster.

    Raises:
        ValueError: there are no labels.
    """
    if not len(predicted):
        raise ValueError("there are no labels")
    return sum(size == 1 for size in Counter(predicted).values()) / len(predicted)


def pairwise_f1(reference: Labels, predicted: Labels) -> float:
    """F1 in [0, 1] over pairs of texts: precision and recall of "these two belong together".

    Where neither partition joins any two texts, 1. Not adjusted for chance; large clusters dominate.

    Raises:
        ValueError: there are no labels, or not equally many.
    """
    return _Contingency.of(reference, predicted).pairwise_f1()


def bcubed_f1(reference: Labels, predicted: Labels) -> float:
    """F1 in (0, 1] of BCubed precision and recall: each text's share of its cluster that is of its kind.

    Bagga & Baldwin, COLING-ACL 1998; each text counts equally, itself among its own kind, so that singletons
    have precision 1.

    Raises:
        ValueError: there are no labels, or not equally many.
    """
    _Contingency.check(reference, predicted)
    rows, columns = Counter(reference), Counter(predicted)
    cells = Counter(zip(reference, predicted, strict=True)).items()
    precision = sum(shared * shared / columns[column] for (_, column), shared in cells)
    recall = sum(shared * shared / rows[row] for (row, _), shared in cells)
    return 2 * precision * recall / (precision + recall) / len(reference)


def hungarian_accuracy(reference: Labels, predicted: Labels) -> float:
    """Share of the texts in (0, 1] that are right under the best one-to-one match of clusters.

    Kuhn, Naval Research Logistics Quarterly 2 (1955); clusters left over when their numbers differ are wrong.

    Raises:
        ValueError: there are no labels, or not equally many.
    """
    import numpy as np
    from scipy.optimize import linear_sum_assignment

    _Contingency.check(reference, predicted)
    rows, columns = _numbered(reference), _numbered(predicted)
    table = np.zeros((max(rows) + 1, max(columns) + 1), dtype=np.intp)
    np.add.at(table, (rows, columns), 1)
    return float(table[linear_sum_assignment(table, maximize=True)].sum() / len(rows))


def _numbered(labels: Labels) -> list[int]:
    """Labels as numbers from 0 on."""
    numbers: dict[Hashable, int] = {}
    return [numbers.setdefault(label, len(numbers)) for label in labels]


class _Contingency(NamedTuple):
    """How many texts each pair of clusters shares: all that the measures need to know.

    Attributes:
        n: texts.
        rows: sizes of the reference's clusters.
        columns: sizes of the predicted clusters.
        cells: sizes of the intersections that are not empty.
    """

    n: int
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    cells: tuple[int, ...]

    @staticmethod
    def check(reference: Labels, predicted: Labels) -> None:
        if not len(reference) or len(reference) != len(predicted):
            raise ValueError(
                "two labellings of the same texts are needed, "
                f"not {len(reference)} and {len(predicted)} labels"
            )

    @classmethod
    def of(cls, reference: Labels, predicted: Labels) -> _Contingency:
        cls.check(reference, predicted)
        return cls(
            n=len(reference),
            rows=tuple(Counter(reference).values()),
            columns=tuple(Counter(predicted).values()),
            cells=tuple(Counter(zip(reference, predicted, strict=True)).values()),
        )

    @property
    def _equal(self) -> bool:
        return len(self.cells) == len(self.rows) == len(self.columns)

    def adjusted_mutual_info(self) -> float:
        if self._equal:
            return 1.0
        mutual, entropies = self._information()
        expected = _expected_mutual_info(self.n, self.rows, self.columns)
        room = entropies / 2 - expected
        # Where chance alone would agree as far as the entropies allow, there is nothing to be gained over it.
        return (mutual - expected) / room if room > 1e-12 else 0.0

    def adjusted_rand(self) -> float:
        if self._equal:
            return 1.0
        together = _pairs(self.cells)
        in_rows, in_columns = _pairs(self.rows), _pairs(self.columns)
        expected = in_rows * in_columns / math.comb(self.n, 2)
        return (together - expected) / ((in_rows + in_columns) / 2 - expected)

    def v_measure(self) -> float:
        if self._equal:
            return 1.0
        mutual, entropies = self._information()
        return 2 * mutual / entropies

    def k_error(self) -> float:
        return abs(len(self.columns) - len(self.rows)) / len(self.rows)

    def pairwise_f1(self) -> float:
        pairs = _pairs(self.rows) + _pairs(self.columns)
        return 2 * _pairs(self.cells) / pairs if pairs else 1.0

    def singleton_rate(self) -> float:
        return self.columns.count(1) / self.n

    def _information(self) -> tuple[float, float]:
        """Mutual information, and the sum of both entropies, in nats."""
        entropies = _entropy(self.n, self.rows) + _entropy(self.n, self.columns)
        return max(0.0, entropies - _entropy(self.n, self.cells)), entropies


def _pairs(sizes: Iterable[int]) -> int:
    return sum(size * (size - 1) for size in sizes) // 2


def _entropy(n: int, sizes: Iterable[int]) -> float:
    """In nats."""
    return math.log(n) - sum(map(_times_log, sizes)) / n


@lru_cache(maxsize=100_000)
def _times_log(size: int) -> float:
    return size * math.log(size)


def _expected_mutual_info(n: int, rows: tuple[int, ...], columns: tuple[int, ...]) -> float:
    """Mean over all pairs of partitions with these sizes. A sum over pairs of sizes, most of which recur."""
    return sum(many * _expected_column(n, rows, column) for column, many in Counter(columns).items())


@lru_cache(maxsize=10_000)
def _expected_column(n: int, rows: tuple[int, ...], column: int) -> float:
    """What one predicted cluster adds; the many answers to one prompt share the reference."""
    return sum(many * _expected_share(n, row, column) for row, many in Counter(rows).items())


@lru_cache(maxsize=1_000_000)
def _expected_share(n: int, row: int, column: int) -> float:
    """What two clusters of these sizes add to the expected mutual information (Vinh et al., equation 24a)."""
    log = math.lgamma
    fixed = (
        log(row + 1) + log(column + 1) + log(n - row + 1) + log(n - column + 1) - log(n + 1)
    )  # the part of the hypergeometric probability that does not depend on the overlap
    total = 0.0
    for overlap in range(max(1, row + column - n), min(row, column) + 1):
        rest = (
            log(overlap + 1)
            + log(row - overlap + 1)
            + log(column - overlap + 1)
            + log(n - row - column + overlap + 1)
        )
        total += overlap / n * math.log(n * overlap / (row * column)) * math.exp(fixed - rest)
    return total
