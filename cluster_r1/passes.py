"""Several passes over the same texts, each in another order, made into one clustering."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cluster_r1.graphs.clustering.limits import enforce_k
from cluster_r1.graphs.consensus import OUTSIDE, Consensus, consensus_of
from cluster_r1.types import Assignment, Clustering, KRange, Text, Unassigned

_DISAGREE = "most passes put it in no cluster"


@dataclass(frozen=True, slots=True)
class Merged:
    """The consensus of passes: the typical one, by position, gives names; `stability` is their mean ARI."""

    clustering: Clustering
    typical: int
    stability: float
    notes: tuple[str, ...]


def in_input_order(clustering: Clustering, order: Sequence[str]) -> Clustering:
    """The same clustering, its members and assignments in the order of these ids."""
    place = {text_id: number for number, text_id in enumerate(order)}
    return Clustering(
        criterion=clustering.criterion,
        clusters=tuple(
            cluster.model_copy(update={"members": tuple(sorted(cluster.members, key=place.__getitem__))})
            for cluster in clustering.clusters
        ),
        assignments=tuple(sorted(clustering.assignments, key=lambda each: place[each.text_id])),
        unassigned=tuple(sorted(clustering.unassigned, key=lambda each: place[each.text_id])),
    )


def merge_passes(passes: Sequence[Clustering], texts: Sequence[Text], k: KRange | None) -> Merged:
    """The consensus of at least two clusterings of the same texts.

    A text's confidence is the agreement of the passes about it; its reason is that of a pass which agrees.
    """
    ids = [text.id for text in texts]
    labels = [_labels(clustering, ids) for clustering in passes]
    found = consensus_of(labels)
    clustering = _clustering(passes, labels, found, ids)
    kept, notes = enforce_k(clustering, k, ids, {text.id: text.text for text in texts})
    return Merged(kept, found.typical, round(found.stability, 4), notes)


def _labels(clustering: Clustering, ids: Sequence[str]) -> list[int]:
    number = {cluster.id: n for n, cluster in enumerate(clustering.clusters)}
    placed = {each.text_id: number[each.cluster_id] for each in clustering.assignments}
    return [placed.get(text_id, OUTSIDE) for text_id in ids]


def _clustering(
    passes: Sequence[Clustering], labels: Sequence[Sequence[int]], found: Consensus, ids: Sequence[str]
) -> Clustering:
    typical = passes[found.typical]
    reasons = [{each.text_id: each.reason for each in clustering.assignments} for clustering in passes]
    outside = [{each.text_id: each.reason for each in clustering.unassigned} for clustering in passes]
    counterparts = [_counterparts(found.labels.tolist(), each) for each in labels]
    first = [found.typical, *(n for n in range(len(passes)) if n != found.typical)]
    assignments, unassigned = [], []
    members: dict[int, list[str]] = {}
    for position, (label, agreement) in enumerate(
        zip(found.labels.tolist(), found.agreement.tolist(), strict=True)
    ):
        text_id = ids[position]
        if label == OUTSIDE:
            why = next((outside[n][text_id] for n in first if text_id in outside[n]), _DISAGREE)
            unassigned.append(Unassigned(text_id=text_id, reason=why))
            continue
        members.setdefault(label, []).append(text_id)
        agreeing = (n for n in first if labels[n][position] == counterparts[n][label])
        assignments.append(
            Assignment(
                text_id=text_id,
                cluster_id=typical.clusters[label].id,
                confidence=round(float(np.clip(agreement, 0, 1)), 4),
                reason=next((reasons[n].get(text_id, "") for n in agreeing), ""),
            )
        )
    return Clustering(
        criterion=typical.criterion,
        clusters=tuple(
            cluster.model_copy(update={"members": tuple(members[label])})
            for label, cluster in enumerate(typical.clusters)
            if label in members
        ),
        assignments=tuple(assignments),
        unassigned=tuple(unassigned),
    )


def _counterparts(consensus: Sequence[int], labels: Sequence[int]) -> Mapping[int, int]:
    """For each cluster of the consensus, the cluster of a pass that holds most of its texts."""
    together: dict[int, Counter[int]] = {}
    for label, other in zip(consensus, labels, strict=True):
        together.setdefault(label, Counter())[other] += 1
    return {label: counted.most_common(1)[0][0] for label, counted in together.items()}
