"""Keeps the number of clusters that the user asked for, when no round of the graph arrived at it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from cluster_r1.agents.distinctive_words import distinct_names
from cluster_r1.agents.models.static_embedder import embed
from cluster_r1.edits import Edit, apply_edits
from cluster_r1.types import Cluster, Clustering, KRange

_MANY_NOTES = 5


def enforce_k(
    clustering: Clustering, k: KRange | None, ids: Sequence[str], wording: Mapping[str, str]
) -> tuple[Clustering, tuple[str, ...]]:
    """The clustering with at least `k.low` and at most `k.high` clusters, and notes on what was done for it.

    The smallest cluster joins the one whose texts are most similar; the largest cluster is divided in two by
    similarity. Both go by embeddings, not by the instruction, which is why they come last and are noted.
    Fewer clusters than `k.low` remain only where there are not enough texts.
    """
    if k is None:
        return clustering, ()
    notes: list[str] = []
    merges = _merges(clustering.clusters, k.high, wording)
    if merges:
        notes += _merge_notes(merges, clustering)
        clustering = apply_edits(clustering, merges, ids).clustering
    undivided: dict[str, str] = {}  # by a part's name that of the whole, lest names grow with each division
    while len(clustering.clusters) < k.low:
        divisible = [cluster for cluster in clustering.clusters if len(cluster.members) > 1]
        if not divisible:
            break
        largest = max(divisible, key=lambda cluster: len(cluster.members))
        others = [cluster.name for cluster in clustering.clusters if cluster.id != largest.id]
        whole = undivided.get(largest.name, largest.name)
        edits = _divide(largest, whole, others, wording)
        clustering = apply_edits(clustering, edits, ids).clustering
        undivided |= {edit.name: whole for edit in edits if edit.name}
        notes.append(f"{largest.name!r} was divided by similarity, to keep k")
    return clustering, tuple(notes)


def _merges(clusters: Sequence[Cluster], most: int, wording: Mapping[str, str]) -> list[Edit]:
    """The merges after which `most` clusters are left: of the smallest, that which is most like another."""
    if len(clusters) <= most:
        return []
    sums = np.stack([_sum(cluster, wording) for cluster in clusters])
    sizes = np.array([len(cluster.members) for cluster in clusters])
    left = list(range(len(clusters)))
    edits = []
    while len(left) > most:
        smallest = [number for number in reversed(left) if sizes[number] == sizes[left].min()]
        centres = sums[left] / np.maximum(np.linalg.norm(sums[left], axis=1, keepdims=True), 1e-9)
        place = {number: position for position, number in enumerate(left)}
        rows = [place[number] for number in smallest]
        alike = centres[rows] @ centres.T
        alike[np.arange(len(rows)), rows] = -np.inf
        row, column = np.unravel_index(int(alike.argmax()), alike.shape)
        gone, kept = smallest[int(row)], left[int(column)]
        edits.append(Edit(kind="merge", clusters=(clusters[kept].id, clusters[gone].id)))
        sums[kept] += sums[gone]
        sizes[kept] += sizes[gone]
        left.remove(gone)
    return edits


def _merge_notes(merges: Sequence[Edit], clustering: Clustering) -> list[str]:
    """A note for each merge, or one for all where there are many."""
    if len(merges) > _MANY_NOTES:
        return [f"{len(merges)} small clusters were merged into others by similarity, to keep k"]
    name = {cluster.id: cluster.name for cluster in clustering.clusters}
    return [
        f"{name[gone]!r} was merged into {name[kept]!r} by similarity, to keep k"
        for kept, gone in (edit.clusters for edit in merges)
    ]


def _divide(
    cluster: Cluster, whole: str, other_names: Sequence[str], wording: Mapping[str, str]
) -> list[Edit]:
    """The edits that make two clusters of one, each named `whole` and its own distinctive words."""
    from scipy.cluster.hierarchy import fcluster, linkage

    texts = [wording[member] for member in cluster.members]
    halves = fcluster(linkage(embed(texts).astype(np.float64), "ward"), 2, "maxclust")
    if len(set(halves)) < 2:  # all alike: any division is as good
        halves = np.array([1 + (position % 2) for position in range(len(texts))])
    grouped = [[text for text, half in zip(texts, halves, strict=True) if half == side] for side in (1, 2)]
    names = distinct_names(grouped, taken=other_names, prefix=f"{whole}: ")
    moving = tuple(member for member, half in zip(cluster.members, halves, strict=True) if half == 2)
    return [
        Edit(kind="rename", clusters=(cluster.id,), name=names[0]),
        Edit(
            kind="split",
            clusters=(cluster.id,),
            texts=moving,
            name=names[1],
            description=cluster.description,
        ),
    ]


def _sum(cluster: Cluster, wording: Mapping[str, str]) -> NDArray[np.float32]:
    total: NDArray[np.float32] = embed([wording[member] for member in cluster.members]).sum(axis=0)
    return total
