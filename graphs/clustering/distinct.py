"""Equal texts are read once, empty ones not at all; afterwards every input text gets its place back."""

from __future__ import annotations

from collections.abc import Sequence

from cluster_r1.types import Assignment, Clustering, Record, Text, Unassigned

EMPTY = "the text is empty"


class DistinctTexts(Record):
    """The texts to be read: `first_of` leads from every input id to the id of its equal that is read."""

    texts: tuple[Text, ...]
    first_of: dict[str, str | None]

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the texts to be read, in input order."""
        return tuple(text.id for text in self.texts)


def distinct_texts(texts: Sequence[Text]) -> DistinctTexts:
    """Find equal texts (white space aside) and empty ones; the latter lead to None."""
    seen: dict[str, str] = {}
    kept: list[Text] = []
    first_of: dict[str, str | None] = {}
    for text in texts:
        content = " ".join(text.text.replace("\x00", " ").split())
        if not content:
            first_of[text.id] = None
            continue
        if content not in seen:
            seen[content] = text.id
            kept.append(text)
        first_of[text.id] = seen[content]
    return DistinctTexts(texts=tuple(kept), first_of=first_of)


def spread(clustering: Clustering, distinct: DistinctTexts) -> Clustering:
    """A clustering of the distinct texts as one of all input texts, in input order."""
    placed = {assignment.text_id: assignment for assignment in clustering.assignments}
    outside = {text.text_id: text.reason for text in clustering.unassigned}
    assignments: list[Assignment] = []
    unassigned: list[Unassigned] = []
    members: dict[str, list[str]] = {cluster.id: [] for cluster in clustering.clusters}
    for text_id, first in distinct.first_of.items():
        if first is None:
            unassigned.append(Unassigned(text_id=text_id, reason=EMPTY))
        elif first in placed:
            place = placed[first]
            assignments.append(place if first == text_id else place.model_copy(update={"text_id": text_id}))
            members[placed[first].cluster_id].append(text_id)
        else:
            unassigned.append(Unassigned(text_id=text_id, reason=outside[first]))
    return clustering.model_copy(
        update={
            "clusters": tuple(
                cluster.model_copy(update={"members": tuple(members[cluster.id])})
                for cluster in clustering.clusters
            ),
            "assignments": tuple(assignments),
            "unassigned": tuple(unassigned),
        }
    )
