"""Agreement of two partitions; the one home of such measures.

All take labels of any hashable kind, aligned by position, and are invariant to what the labels are called.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence


def adjusted_mutual_info(reference: Sequence[Hashable], predicted: Sequence[Hashable]) -> float:
    """AMI: 1 for equal partitions, about 0 for independent ones whatever their sizes; can be negative.

    Vinh, Epps & Bailey, JMLR 11 (2010), with the arithmetic mean of the entropies.
    """
    from sklearn.metrics import adjusted_mutual_info_score

    return float(adjusted_mutual_info_score(*_coded(reference, predicted)))


def adjusted_rand(reference: Sequence[Hashable], predicted: Sequence[Hashable]) -> float:
    """ARI: 1 for equal partitions, about 0 for independent ones; at least -0.5.

    Hubert & Arabie, Journal of Classification 2 (1985).
    """
    from sklearn.metrics import adjusted_rand_score

    return float(adjusted_rand_score(*_coded(reference, predicted)))


def v_measure(reference: Sequence[Hashable], predicted: Sequence[Hashable]) -> float:
    """V-measure in [0, 1], 1 best. Not adjusted for chance: singletons score high.

    Rosenberg & Hirschberg, EMNLP 2007.
    """
    from sklearn.metrics import v_measure_score

    return float(v_measure_score(*_coded(reference, predicted)))


def k_error(reference: Sequence[Hashable], predicted: Sequence[Hashable]) -> float:
    """Relative error of the number of clusters, |predicted - true| / true; 0 best.

    Raises:
        ValueError: there are no labels.
    """
    _same_length(reference, predicted)
    true = len(set(reference))
    return abs(len(set(predicted)) - true) / true


def _coded(one: Sequence[Hashable], other: Sequence[Hashable]) -> tuple[list[int], list[int]]:
    """Labels as integers, in the order of their first use (scikit-learn refuses mixed types)."""
    _same_length(one, other)
    return _codes(one), _codes(other)


def _codes(labels: Sequence[Hashable]) -> list[int]:
    code: dict[Hashable, int] = {}
    return [code.setdefault(label, len(code)) for label in labels]


def _same_length(one: Sequence[Hashable], other: Sequence[Hashable]) -> None:
    if not len(one) or len(one) != len(other):
        raise ValueError(
            f"two labellings of the same texts are needed, not {len(one)} and {len(other)} labels"
        )
