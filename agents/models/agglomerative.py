"""Groups embedded texts by agglomerative clustering, inferring how many groups there are.

1. Subtract the batch's mean from the vectors and scale them back to length 1, so that the cosine of two
   texts says how much more alike they are than the batch at large.
2. Agglomerate by average linkage on cosine distance (UPGMA: Sokal & Michener, 1958).
3. Keep the merges whose two groups have a mean cosine above GAMMA; the groups left are the answer.

Each kept merge of groups A and B raises the sum, over pairs that share a group, of (cosine - GAMMA), by
|A| |B| (mean cosine - GAMMA), and no other merge would. So this is a greedy ascent on the constant Potts
model of Traag, Van Dooren & Nesterov, "Narrow scope for resolution-limit-free community detection", Physical
Review E 84, 016114 (2011); with GAMMA = 0 it is correlation clustering (Bansal, Blum & Chawla, Machine
Learning 56, 2004).
How GAMMA was chosen, and how the rule compares with others, is in docs/decisions/0003-inferring-k.md.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float64]
Labels = NDArray[np.intp]

GAMMA = 0.04  # groups whose mean centred cosine is no higher stay apart; chosen for the static embedder
MOST_IN_TREE = 4_000  # texts that are agglomerated; the tree needs memory with their square

_IDENTICAL = 1e-9  # heights up to this are rounding errors between equal rows
_DECIMALS = 9  # distances are rounded, so that the last bits of a matrix product decide nothing


def cluster_embeddings(
    vectors: NDArray[Any], k: tuple[int, int] | None, gamma: float | None = None
) -> Labels:
    """Label each row, 0 being the largest group.

    Of more than `MOST_IN_TREE` rows, so many (evenly spaced) are grouped, and the others join the group with
    the nearest centre.

    Args:
        vectors: shape (n, d).
        k: bounds of the number of groups, both included; None infers it. Equal rows always share a group,
            so fewer distinct rows than the lower bound give fewer groups.
        gamma: groups whose mean centred cosine is no higher stay apart; None for `GAMMA`.

    Returns:
        Shape (n,), labels from 0 on without gaps.
    """
    gamma = GAMMA if gamma is None else gamma
    rows = _centred(np.asarray(vectors, dtype=np.float64))
    if len(rows) > MOST_IN_TREE:
        chosen = np.linspace(0, len(rows) - 1, MOST_IN_TREE).astype(np.intp)
        found = _group(rows[chosen], k, gamma)
        centres = np.vstack([rows[chosen][found == group].mean(axis=0) for group in range(found.max() + 1)])
        lengths = np.linalg.norm(centres, axis=1)
        return by_size((rows @ (centres / np.maximum(lengths, _IDENTICAL)[:, None]).T).argmax(axis=1))
    return by_size(_group(rows, k, gamma))


def _group(rows: Vectors, k: tuple[int, int] | None, gamma: float) -> Labels:
    from scipy.cluster.hierarchy import average

    if len(rows) < 2:
        return np.zeros(len(rows), dtype=np.intp)
    tree = average(_distances(rows))
    return by_size(_cut(tree, _group_count(tree[:, 2], k, gamma)))


def _centred(vectors: Vectors) -> Vectors:
    """Rows minus their mean, at unit length; rows equal to the mean become zero."""
    centred = vectors - vectors.mean(axis=0)
    norms = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.where(norms > _IDENTICAL, centred / np.maximum(norms, _IDENTICAL), 0.0)


def _distances(rows: Vectors) -> Vectors:
    """Condensed cosine distances; two zero rows are identical, one zero row is unrelated."""
    from scipy.spatial.distance import squareform

    square = 1.0 - rows @ rows.T
    zero = ~rows.any(axis=1)
    square[np.ix_(zero, zero)] = 0.0
    np.fill_diagonal(square, 0.0)
    condensed: Vectors = squareform(square, checks=False)
    return np.maximum(np.round(condensed, _DECIMALS), 0.0)


def _group_count(heights: Vectors, k: tuple[int, int] | None, gamma: float) -> int:
    """Groups left once every merge of mean cosine above gamma is made, clipped to the bounds."""
    found = 1 + int((heights >= 1.0 - gamma).sum())
    distinct = 1 + int((heights > _IDENTICAL).sum())
    low, high = k or (1, len(heights) + 1)
    return min(max(found, low), high, distinct)


def _cut(tree: Vectors, groups: int) -> Labels:
    """Make the first n - `groups` merges: exact even where heights tie."""
    n = len(tree) + 1
    parent = np.arange(2 * n - 1)
    for step, (left, right) in enumerate(tree[: n - groups, :2].astype(np.intp)):
        parent[left] = parent[right] = n + step
    for node in range(2 * n - 2, -1, -1):  # a parent always has the higher number
        parent[node] = parent[parent[node]]
    return parent[:n]


def by_size(labels: Labels) -> Labels:
    """Renumber groups from the largest down, the earliest first row breaking ties."""
    _, first, inverse, sizes = np.unique(labels, return_index=True, return_inverse=True, return_counts=True)
    rank = np.empty(len(sizes), dtype=np.intp)
    rank[np.lexsort((first, -sizes))] = np.arange(len(sizes))
    return rank[inverse]
