"""The proposer: reads instruction and texts, and writes the partition."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

from cluster_r1.agents.clustering.partition import (
    Placement,
    assignments_schema,
    first_of,
    places_in,
    read_placement,
    read_placements,
)
from cluster_r1.agents.parsing import AnswerError, as_list, as_string, read_object
from cluster_r1.agents.role import Role, Schema, list_of, object_of, one_of, string
from cluster_r1.prompts import Message
from cluster_r1.types import KRange, Record

_NAME_KEYS = ("name", "label", "title")
_MEMBER_KEYS = ("members", "texts", "assignments", "text_ids")
_CLUSTER_KEYS = {"id", "description", *_NAME_KEYS, *_MEMBER_KEYS}
_PLACES_NOTHING = '"assignments" places no text in any cluster'
_MOST_BOUNDED = 12  # clusters that a small model may list where no k is given


class ProposerInput(Record):
    """What the proposer sees: texts are addressed by their position, from 1."""

    instruction: str
    texts: tuple[str, ...]
    k: KRange | None = None


class ProposedCluster(Record):
    """A cluster as the model wrote it, under the id that its placements use."""

    id: str
    name: str = ""
    description: str = ""


class Proposal(Record):
    """A partition as the model wrote it: not yet checked for cover."""

    criterion: str = ""
    clusters: tuple[ProposedCluster, ...]
    placements: tuple[Placement, ...]


class Proposer(Role[ProposerInput, Proposal]):
    """Proposes a partition of all texts."""

    name = "proposer"
    template_id = "clustering/proposer"
    tokens_per_text = 32

    def schema(self, given: ProposerInput, *, bounded: bool) -> Schema:
        """Criterion, clusters, assignments."""
        most = given.k.high if given.k else min(len(given.texts), _MOST_BOUNDED)
        ids = [f"C{number}" for number in range(1, most + 1)]
        cluster = object_of(
            id=one_of(ids) if bounded else string(),
            name=string(30 if bounded else None),
            description=string(80 if bounded else None),
        )
        return object_of(
            criterion=string(60 if bounded else None),
            clusters=list_of(cluster, at_most=most if bounded else None),
            assignments=assignments_schema(len(given.texts), ids, bounded=bounded),
        )

    def render(self, given: ProposerInput) -> tuple[Message, ...]:
        """The prompt."""
        return self.template.render(instruction=given.instruction, texts=given.texts, k=given.k)

    def parse(self, answer: str, given: ProposerInput) -> Proposal:
        """Read clusters and placements; members listed inside their clusters are understood as well."""
        found = read_object(answer, "clusters")
        entries = _entries(found["clusters"])
        clusters = _clusters(entries)
        placements = (
            *read_placements(found.get("assignments")),
            *_members(entries, clusters),
        )
        if not placements:
            raise AnswerError(_PLACES_NOTHING)
        criterion = as_string(found.get("criterion"))
        return Proposal(criterion=criterion, clusters=clusters, placements=placements)


def read_places(answer: str) -> list[tuple[int, str]]:
    """Text numbers and clusters of an answer, as `Proposer.parse` reads them, and nothing else.

    For rewards, to which names and reasons do not matter, at a fifth of the time.

    Raises:
        AnswerError: nothing in it can be used.
    """
    found = read_object(answer, "clusters")
    places = places_in(found.get("assignments"))
    entries = _entries(found["clusters"])
    if not all(map(frozenset(_MEMBER_KEYS).isdisjoint, entries)):
        members = _members(entries, _clusters(entries))
        places += [(placement.text, placement.cluster) for placement in members]
    if not places:
        raise AnswerError(_PLACES_NOTHING)
    return places


def _entries(value: Any) -> list[dict[str, Any]]:
    """The clusters as objects, whether listed, mapped by id, or mere names."""
    if isinstance(value, dict) and not _CLUSTER_KEYS & value.keys():
        return [_entry_of(id, entry) for id, entry in value.items()]
    listed = ({"name": entry} if isinstance(entry, str) else entry for entry in as_list(value))
    return [entry for entry in listed if isinstance(entry, dict)]


def _entry_of(id: str, value: Any) -> dict[str, Any]:
    """The cluster under an id of a mapping: an object, its name, or its members."""
    if isinstance(value, dict):
        return {"id": id, **value}
    return {"id": id, "members" if isinstance(value, list) else "name": value}


def _clusters(entries: list[dict[str, Any]]) -> tuple[ProposedCluster, ...]:
    """The clusters; one without an id gets that of its position, or the next that no other has."""
    taken = {as_string(entry.get("id")) for entry in entries}
    clusters = []
    for position, entry in enumerate(entries, 1):
        id = as_string(entry.get("id"))
        if not id:
            id = next(f"C{number}" for number in count(position) if f"C{number}" not in taken)
            taken.add(id)
        name = as_string(first_of(entry, *_NAME_KEYS))
        description = as_string(entry.get("description"))
        clusters.append(ProposedCluster(id=id, name=name, description=description))
    return tuple(clusters)


def _members(entries: list[dict[str, Any]], clusters: tuple[ProposedCluster, ...]) -> Iterator[Placement]:
    """Placements from lists of members inside the clusters."""
    for entry, cluster in zip(entries, clusters, strict=True):
        for member in as_list(first_of(entry, *_MEMBER_KEYS)):
            placement = read_placement(member if isinstance(member, dict) else {"text": member}, cluster.id)
            if placement:
                yield placement
