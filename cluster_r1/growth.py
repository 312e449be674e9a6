"""Adds later texts to a clustering, and says what that changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cluster_r1.errors import InputError
from cluster_r1.types import Assignment, Cluster, Clustering, Record, Text, Unassigned


class ClusterGrowth(Record):
    """A cluster's number of texts before and after; new clusters had none."""

    id: str
    name: str
    before: int
    after: int


class Changes(Record):
    """What later texts changed.

    Attributes:
        earlier_run: id of the run that they were added to.
        texts_added: how many there were that the run did not have.
        new_clusters: that were found in texts that fitted nowhere.
        grown: clusters of the earlier run that got texts.
        taken_in: ids of texts of the earlier run that stood in no cluster, and now stand in one.
        unassigned_before: texts in no cluster,
        unassigned_after: and afterwards.
    """

    earlier_run: str
    texts_added: int
    new_clusters: tuple[ClusterGrowth, ...]
    grown: tuple[ClusterGrowth, ...]
    taken_in: tuple[str, ...]
    unassigned_before: int
    unassigned_after: int


@dataclass(frozen=True, slots=True)
class NewTexts:
    """Later texts under ids of their own, and what was done for that."""

    texts: tuple[Text, ...]
    notes: tuple[str, ...]


def with_own_ids(earlier: Sequence[Text], later: Sequence[Text]) -> NewTexts:
    """The later texts that are not there yet, none under an id that is taken.

    Ids that only number the texts go on where the earlier ones end; a text that is there already under the
    same id is left out.

    Raises:
        InputError: another text has the same id.
    """
    taken = {text.id: text.text for text in earlier}
    both = [text for text in later if text.id in taken]
    if not both:
        return NewTexts(tuple(later), ())
    if _are_numbers(later):
        first = 1 + max(int(id) for id in taken if id.isdecimal())
        renamed = [text.model_copy(update={"id": str(n)}) for n, text in enumerate(later, first)]
        return NewTexts(tuple(renamed), (f"the new texts are numbered from {first} on",))
    other = [text.id for text in both if taken[text.id] != text.text]
    if other:
        raise InputError(
            f"the earlier run has another text under the id {other[0]!r} ({len(other)} in all). "
            "Give new texts new ids, or leave out the column of ids"
        )
    new = tuple(text for text in later if text.id not in taken)
    if not new:
        raise InputError(
            "the earlier run has all of these texts, under the same ids. There is nothing to add"
        )
    return NewTexts(new, (f"{len(both)} texts were left out: the earlier run has them under the same ids",))


def _are_numbers(texts: Sequence[Text]) -> bool:
    """Whether the ids are no more than the numbers of the texts, from 0 or 1."""
    return any(all(text.id == str(n) for n, text in enumerate(texts, start)) for start in (0, 1))


def grown(earlier: Clustering, added: Clustering, order: Sequence[str]) -> Clustering:
    """The earlier clustering with the texts of another, whose clusters are the same ones and new ones.

    Args:
        earlier: of the first texts of `order`.
        added: of all others, and perhaps of some that `earlier` has in no cluster.
        order: the ids of all texts.
    """
    placed: dict[str, Assignment] = {a.text_id: a for a in (*earlier.assignments, *added.assignments)}
    outside: dict[str, Unassigned] = {u.text_id: u for u in (*earlier.unassigned, *added.unassigned)}
    clusters: dict[str, Cluster] = {c.id: c for c in (*added.clusters, *earlier.clusters)}
    members: dict[str, list[str]] = {id: [] for id in clusters}
    for text_id in order:
        if text_id in placed:
            members[placed[text_id].cluster_id].append(text_id)
    ids = [cluster.id for cluster in earlier.clusters]
    ids += [cluster.id for cluster in added.clusters if cluster.id not in ids and members[cluster.id]]
    return Clustering(
        criterion=earlier.criterion,
        clusters=tuple(clusters[id].model_copy(update={"members": tuple(members[id])}) for id in ids),
        assignments=tuple(placed[id] for id in order if id in placed),
        unassigned=tuple(outside[id] for id in order if id not in placed),
    )


def changes(earlier_run: str, earlier: Clustering, later: Clustering) -> Changes:
    """What differs between a clustering and what became of it."""
    before = {cluster.id: len(cluster.members) for cluster in earlier.clusters}
    sizes = [
        ClusterGrowth(id=c.id, name=c.name, before=before.get(c.id, 0), after=len(c.members))
        for c in later.clusters
    ]
    placed = {assignment.text_id for assignment in later.assignments}
    return Changes(
        earlier_run=earlier_run,
        texts_added=_texts(later) - _texts(earlier),
        new_clusters=tuple(size for size in sizes if size.id not in before),
        grown=tuple(size for size in sizes if size.id in before and size.after > size.before),
        taken_in=tuple(text.text_id for text in earlier.unassigned if text.text_id in placed),
        unassigned_before=len(earlier.unassigned),
        unassigned_after=len(later.unassigned),
    )


def _texts(clustering: Clustering) -> int:
    return len(clustering.assignments) + len(clustering.unassigned)
