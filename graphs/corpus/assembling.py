"""From places to the clustering: every text once, in a cluster or outside with the reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cluster_r1.agents.clustering.proposer import ProposedCluster
from cluster_r1.graphs.corpus.places import UNREAD, Places
from cluster_r1.types import Assignment, Cluster, Clustering, Unassigned

NOT_READ = "the budget was spent before this text was read"
"""The reason of a text that nobody has looked at."""

_NOWHERE = "the model found that it fits no cluster"
_LEARNT_NOWHERE = "a classifier that learnt from the model found that it fits no cluster"
_LEARNT = "placed by a classifier that learnt from the model"


def clustering_of(places: Places, taxonomy: Sequence[ProposedCluster], ids: Sequence[str]) -> Clustering:
    """The clustering of the texts `ids`; clusters are numbered by size, and those without texts left out."""
    members = _members(places, ids)
    by_size = sorted(members, key=lambda place: (-len(members[place]), place))
    return _assembled(places, taxonomy, ids, {place: f"C{n}" for n, place in enumerate(by_size, 1)})


def assigned_to(places: Places, taxonomy: Sequence[ProposedCluster], ids: Sequence[str]) -> Clustering:
    """The same under the taxonomy's own ids and in its order; clusters without texts stay."""
    return _assembled(places, taxonomy, ids, {n: cluster.id for n, cluster in enumerate(taxonomy)})


def _members(places: Places, ids: Sequence[str]) -> dict[int, list[str]]:
    members: dict[int, list[str]] = {}
    for position, place in enumerate(places.cluster.tolist()):
        if place >= 0:
            members.setdefault(place, []).append(ids[position])
    return members


def _assembled(
    places: Places, taxonomy: Sequence[ProposedCluster], ids: Sequence[str], id_of: Mapping[int, str]
) -> Clustering:
    members = _members(places, ids)
    assignments, unassigned = [], []
    rows = zip(places.cluster.tolist(), places.confidence.tolist(), strict=True)
    for position, (place, confidence) in enumerate(rows):
        why = places.reasons.get(position, "")
        if place >= 0:
            assignments.append(
                Assignment(
                    text_id=ids[position],
                    cluster_id=id_of[place],
                    confidence=None if confidence != confidence else round(min(confidence, 1.0), 4),
                    reason=why or ("" if places.by_model[position] else _LEARNT),
                )
            )
        else:
            nowhere = _NOWHERE if places.by_model[position] else _LEARNT_NOWHERE
            otherwise = NOT_READ if place == UNREAD else nowhere
            unassigned.append(Unassigned(text_id=ids[position], reason=why or otherwise))
    return Clustering(
        clusters=tuple(
            Cluster(
                id=id_of[place],
                name=taxonomy[place].name,
                description=taxonomy[place].description,
                members=tuple(members.get(place, ())),
            )
            for place in id_of
        ),
        assignments=tuple(assignments),
        unassigned=tuple(unassigned),
    )
