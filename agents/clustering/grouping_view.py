"""A clustering as critic and refiner see it: clusters with their texts, texts by number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cluster_r1.agents.parsing import as_list, as_number, as_string
from cluster_r1.agents.role import INTEGER, Schema, list_of, one_of, string
from cluster_r1.types import NO_CLUSTER, Clustering, Record


class NumberedText(Record):
    """A text under the number that prompts and answers use."""

    number: int
    text: str


class Group(Record):
    """A cluster with its texts."""

    id: str
    name: str
    description: str
    texts: tuple[NumberedText, ...]


class GroupingView(Record):
    """All groups; `ids[number - 1]` is the id of the text with that number."""

    groups: tuple[Group, ...]
    ids: tuple[str, ...]

    def clusters_schema(self, *, bounded: bool) -> Schema:
        """The schema of a list of cluster ids."""
        ids = [group.id for group in self.groups]
        return list_of(one_of(ids), at_most=3) if bounded else list_of(string())

    def texts_schema(self, *, bounded: bool) -> Schema:
        """The schema of a list of text numbers."""
        return list_of(one_of(range(1, len(self.ids) + 1)), at_most=5) if bounded else list_of(INTEGER)

    def cluster_ids(self, value: Any) -> tuple[str, ...]:
        """The existing clusters that an answer names, by id or by name."""
        known = {group.name.casefold(): group.id for group in self.groups}
        known |= {group.id.casefold(): group.id for group in self.groups}
        named = (as_string(item).casefold() for item in as_list(value))
        return tuple(dict.fromkeys(known[name] for name in named if name in known))

    def text_ids(self, value: Any) -> tuple[str, ...]:
        """The ids of the existing texts that an answer names by number."""
        numbers = (as_number(item) for item in as_list(value))
        return tuple(dict.fromkeys(self.ids[n - 1] for n in numbers if n and 1 <= n <= len(self.ids)))

    def numbers(self, text_ids: Sequence[str]) -> tuple[int, ...]:
        """The numbers of texts, ascending."""
        position = {text_id: number for number, text_id in enumerate(self.ids, 1)}
        return tuple(sorted(position[text_id] for text_id in text_ids))


def view_of(clustering: Clustering, ids: Sequence[str], shown: Sequence[str]) -> GroupingView:
    """The view of a clustering of the texts `ids`, whose wording in prompts is `shown`."""
    numbered = {
        text_id: NumberedText(number=number, text=text)
        for number, (text_id, text) in enumerate(zip(ids, shown, strict=True), 1)
    }
    groups = [
        Group(
            id=cluster.id,
            name=cluster.name,
            description=cluster.description,
            texts=tuple(numbered[member] for member in cluster.members),
        )
        for cluster in clustering.clusters
    ]
    if clustering.unassigned:
        texts = tuple(numbered[outside.text_id] for outside in clustering.unassigned)
        groups.append(Group(id=NO_CLUSTER, name="in no cluster", description="", texts=texts))
    return GroupingView(groups=tuple(groups), ids=tuple(ids))
