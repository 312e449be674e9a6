"""What is measured of an answer to a task, and over several answers."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations

from cluster_r1.metrics import (
    Labels,
    adjusted_mutual_info,
    adjusted_rand,
    bcubed_f1,
    hungarian_accuracy,
    pairwise_f1,
    v_measure,
)
from cluster_r1.types import Record


class Scores(Record):
    """One answer against its reference. An unassigned text counts as a cluster of its own, except in `k`.

    Attributes:
        ami: adjusted mutual information, the headline: 1 equal, about 0 chance.
        v: V-measure, as papers report it; not adjusted for chance.
        ari: adjusted Rand index.
        pairwise_f1, bcubed_f1, accuracy: see `cluster_r1.metrics`.
        k: clusters that the answer has.
        k_error: |k - true| / true.
        coverage: share of the texts that are in a cluster.
        singleton_rate: share of the texts that are alone in their cluster, those in none not counted.
        gap: the instruction gap: `ami` minus the highest AMI with another attribute of the same texts; below
            0 another question was answered. None where the corpus has no other attribute.
        nearest: that attribute.
    """

    ami: float
    v: float
    ari: float
    pairwise_f1: float
    bcubed_f1: float
    accuracy: float
    k: int
    k_error: float
    coverage: float
    singleton_rate: float
    gap: float | None
    nearest: str | None


def score(reference: Labels, predicted: Sequence[int | None], others: Mapping[str, Labels]) -> Scores:
    """All measures of one answer.

    Args:
        reference: the true label of each text.
        predicted: the label of each text; None where it is in no cluster.
        others: the true labels for the corpus's other attributes, by attribute.

    Raises:
        ValueError: there are no labels, or not equally many.
    """
    placed = as_partition(predicted)
    sizes = Counter(label for label in predicted if label is not None)
    k, true_k = len(sizes), len(set(reference))
    ami = adjusted_mutual_info(reference, placed)
    elsewhere = {name: adjusted_mutual_info(labels, placed) for name, labels in others.items()}
    nearest = max(elsewhere, key=elsewhere.__getitem__, default=None)
    return Scores(
        ami=ami,
        v=v_measure(reference, placed),
        ari=adjusted_rand(reference, placed),
        pairwise_f1=pairwise_f1(reference, placed),
        bcubed_f1=bcubed_f1(reference, placed),
        accuracy=hungarian_accuracy(reference, placed),
        k=k,
        k_error=abs(k - true_k) / true_k,
        coverage=sum(sizes.values()) / len(predicted),
        singleton_rate=sum(size == 1 for size in sizes.values()) / len(predicted),
        gap=None if nearest is None else ami - elsewhere[nearest],
        nearest=nearest,
    )


def as_partition(predicted: Sequence[int | None]) -> list[int]:
    """Labels without None: each unassigned text gets a label of its own, below 0."""
    return [-1 - position if label is None else label for position, label in enumerate(predicted)]


def stability(partitions: Sequence[Sequence[int | None]]) -> float | None:
    """Mean ARI of all pairs of partitions of the same texts; None of fewer than two.

    Of answers to paraphrases it is the paraphrase robustness, of answers to shuffled texts the order
    stability.
    """
    placed = [as_partition(partition) for partition in partitions]
    pairs = [adjusted_rand(one, other) for one, other in combinations(placed, 2)]
    return statistics.fmean(pairs) if pairs else None
