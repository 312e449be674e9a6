"""Keeps the number of clusters that the user asked for, when no round of the graph arrived at it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from cluster_r1.agents.distinctive_words import distinct_names
from cluster_r1.agents.models.static_embedder import embed
from cluster_r1.edits import Edit, apply_edits
from cluster_r1.types import Cluster, Clustering, KRange


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
    while len(clustering.clusters) > k.high:
        edit, note = _merge_smallest(clustering, wording)
        clustering = apply_edits(clustering, [edit], ids).clustering
        notes.append(note)
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


def _merge_smallest(clustering: Clustering, wording: Mapping[str, str]) -> tuple[Edit, str]:
    """Of the smallest clusters, the one that is most like another joins it."""
    least = min(len(cluster.members) for cluster in clustering.clusters)
    centres = {cluster.id: _centre(cluster, wording) for cluster in clustering.clusters}
    pairs = [
        (smallest, other)
        for smallest in reversed(clustering.clusters)
        for other in clustering.clusters
        if len(smallest.members) == least and other.id != smallest.id
    ]
    smallest, nearest = max(pairs, key=lambda pair: float(centres[pair[0].id] @ centres[pair[1].id]))
    note = f"{smallest.name!r} was merged into {nearest.name!r} by similarity, to keep k"
    return Edit(kind="merge", clusters=(nearest.id, smallest.id)), note


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


def _centre(cluster: Cluster, wording: Mapping[str, str]) -> NDArray[np.float32]:
    centre: NDArray[np.float32] = embed([wording[member] for member in cluster.members]).mean(axis=0)
    return centre / max(float(np.linalg.norm(centre)), 1e-9)
