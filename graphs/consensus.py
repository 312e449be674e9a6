"""One partition out of several of the same texts, and how far these agree."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from cluster_r1.metrics import adjusted_rand

OUTSIDE = -1
"""Label of a text that stands in no cluster."""


_ITERATIONS = 50


@dataclass(frozen=True, slots=True)
class Consensus:
    """What several partitions of n texts have in common.

    Attributes:
        labels: shape (n,), clusters of the typical partition; -1 outside all.
        agreement: shape (n,), in [0, 1]: over the partitions, the mean share of a text's consensus cluster
            that it stands together with; outside, the share of partitions that have it outside.
        typical: position of the partition that agrees best with the others; its clusters give the names.
        stability: mean adjusted Rand index of two of the partitions, 1 if all are the same.
    """

    labels: NDArray[np.intp]
    agreement: NDArray[np.float64]
    typical: int
    stability: float


def consensus_of(partitions: Sequence[Sequence[int]]) -> Consensus:
    """The consensus of at least two partitions.

    Texts are described by their cluster in each partition, one column a cluster; two texts' squared distance
    is then twice the number of partitions that tell them apart, so k-means, begun at the most typical
    partition, looks for clusters of high co-association (Wu et al., IEEE TKDE 27, 2015, "K-means-based
    consensus clustering"). Equal descriptions are taken together, so that the cost hardly grows with n.
    What more than half of the partitions leave outside is outside.

    Args:
        partitions: each of shape (n,): labels, -1 for texts in no cluster.
    """
    columns = np.column_stack([np.asarray(labels, dtype=np.intp) for labels in partitions])
    agreements = _pairwise(columns)
    typical = int(agreements.sum(axis=1).argmax())
    others = agreements[~np.eye(len(partitions), dtype=bool)]
    signatures, inverse, counts = np.unique(columns, axis=0, return_inverse=True, return_counts=True)
    labels, agreement = _joined(signatures, counts, typical)
    inverse = inverse.reshape(-1)
    return Consensus(labels[inverse], agreement[inverse], typical, float(others.mean()))


def _pairwise(columns: NDArray[np.intp]) -> NDArray[np.float64]:
    """Adjusted Rand index of each two partitions, in which what is outside counts as a cluster."""
    count = columns.shape[1]
    found = np.ones((count, count))
    for one, other in combinations(range(count), 2):
        found[one, other] = found[other, one] = adjusted_rand(
            columns[:, one].tolist(), columns[:, other].tolist()
        )
    return found


def _joined(
    signatures: NDArray[np.intp], counts: NDArray[np.intp], typical: int
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Label and agreement of each kind of text, of which there are so many."""
    passes = signatures.shape[1]
    share_outside = (signatures == OUTSIDE).mean(axis=1)
    inside = share_outside <= 0.5
    labels = np.full(len(signatures), OUTSIDE, dtype=np.intp)
    agreement = share_outside.astype(np.float64)
    begin = signatures[:, typical]
    kept = np.unique(begin[inside & (begin != OUTSIDE)])
    if not len(kept):
        return labels, agreement
    together = _one_hot(signatures)
    centres = np.stack(
        [np.average(together[begin == label], axis=0, weights=counts[begin == label]) for label in kept]
    )
    model = KMeans(len(kept), init=centres, n_init=1, max_iter=_ITERATIONS)
    with warnings.catch_warnings():  # where several clusters come to the same centre, one of them is left
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = model.fit_predict(together[inside], sample_weight=counts[inside])
    labels[inside] = kept[found]
    for label in np.unique(labels[inside]):
        members = labels == label
        centre = np.average(together[members], axis=0, weights=counts[members])
        agreement[members] = together[members] @ centre / passes
    return labels, agreement


def _one_hot(signatures: NDArray[np.intp]) -> NDArray[np.float64]:
    """A column for each cluster of each partition; nothing where a text is outside."""
    blocks = []
    for column in signatures.T:
        values = np.unique(column[column != OUTSIDE])
        blocks.append((column[:, None] == values[None, :]).astype(np.float64))
    return np.hstack(blocks)
