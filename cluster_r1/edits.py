"""Edits of a clustering (merge, split, move, rename, drop): whatever they are, the cover stays exact."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from cluster_r1.errors import InputError
from cluster_r1.types import NO_CLUSTER, Assignment, Cluster, Clustering, Record, Unassigned

EditKind = Literal["merge", "split", "move", "rename", "drop"]


class Edit(Record):
    """One change.

    - merge: `clusters` become the first of them, named `name` if given.
    - split: the `texts` that stand in the first of `clusters` go into a new cluster `name`.
    - move: `texts` go into the first of `clusters`.
    - rename: the first of `clusters` gets `name` and `description`, each if given.
    - drop: `texts` stand in no cluster.

    With `together`, it is part of the change that the edit before it began.
    """

    kind: EditKind
    clusters: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    name: str = ""
    description: str = ""
    reason: str = ""
    together: bool = False


class Edited(Record):
    """A clustering after edits: those carried out, and those that could not be, in words."""

    clustering: Clustering
    applied: tuple[str, ...]
    refused: tuple[str, ...]


def apply_edits(clustering: Clustering, edits: Sequence[Edit], order: Sequence[str]) -> Edited:
    """Carry out edits in order; an edit that changes nothing or names nothing that exists is refused.

    Args:
        clustering: an exact cover of `order`.
        edits: what to do.
        order: all text ids in input order; members and assignments keep this order.
    """
    draft = _Draft(clustering)
    applied: list[str] = []
    refused: list[str] = []
    for edit in map(_naming_once, edits):
        done = getattr(draft, edit.kind)(edit)
        (applied if done else refused).append(done or f"{edit.kind} could not be carried out: {edit.reason}")
    return Edited(clustering=draft.finished(order), applied=tuple(applied), refused=tuple(refused))


def resolved(edit: Edit, clustering: Clustering, order: Sequence[str]) -> Edit:
    """The edit with clusters by id, as somebody meant it who may have named them.

    Raises:
        InputError: it names what does not exist, lacks something, or would change nothing.
    """
    ids = tuple(cluster_id(name, clustering) for name in edit.clusters)
    known = set(order)
    unknown = [id for id in edit.texts if id not in known]
    if unknown:
        more = f", nor {len(unknown) - 1} others" if len(unknown) > 1 else ""
        raise InputError(f"there is no text with the id {unknown[0]!r}{more}")
    clear = edit.model_copy(update={"clusters": ids})
    if edit.kind == "merge" and not edit.description:
        clear = clear.model_copy(update={"description": _descriptions(ids, clustering)})
    _refuse_taken_name(clear, clustering)
    if not apply_edits(clustering, [clear], order).applied:
        raise InputError(f"the {edit.kind} changes nothing: {_NEEDED[edit.kind]}")
    return clear


def changes_of(edits: Sequence[Edit]) -> list[tuple[Edit, ...]]:
    """The edits, those that make one change together in one tuple."""
    made: list[tuple[Edit, ...]] = []
    for edit in edits:
        if edit.together and made:
            made[-1] = (*made[-1], edit)
        else:
            made.append((edit,))
    return made


def _descriptions(ids: Sequence[str], clustering: Clustering) -> str:
    """What belongs in any of these clusters."""
    said = {cluster.id: cluster.description for cluster in clustering.clusters}
    return "; ".join(dict.fromkeys(said[id] for id in ids if said.get(id)))


def _refuse_taken_name(edit: Edit, clustering: Clustering) -> None:
    """Raise an InputError where a cluster would be called as another is, or as no cluster may be."""
    gone = edit.clusters if edit.kind == "merge" else edit.clusters[:1]
    others = [cluster for cluster in clustering.clusters if edit.kind == "split" or cluster.id not in gone]
    taken = next(
        (other for other in others if _plain(edit.name) in (_plain(other.name), _plain(other.id))), None
    )
    if edit.name and taken is not None:
        raise InputError(f"{taken.id} is called {taken.name!r} already. Give another name, or merge the two")
    if _plain(edit.name) == NO_CLUSTER:
        raise InputError(f"no cluster can be called {edit.name!r}: that is where texts of no cluster are")


def taken_out(edits: Iterable[Edit], before: Iterable[str] = ()) -> frozenset[str]:
    """The texts that people left in no cluster: those of before, and what the edits, in order, change."""
    outside = set(before)
    for edit in edits:
        if edit.kind == "drop" or (edit.kind == "move" and NO_CLUSTER in edit.clusters):
            outside |= set(edit.texts)
        elif edit.kind == "move":
            outside -= set(edit.texts)
    return frozenset(outside)


def division(whole: Cluster, parts: Sequence[Cluster]) -> tuple[Edit, ...]:
    """The edits that make these parts of a cluster; the first part keeps its id."""
    first, *others = parts
    edits = [
        Edit(
            kind="split",
            clusters=(whole.id,),
            texts=part.members,
            name=part.name,
            description=part.description,
            together=number > 0,
        )
        for number, part in enumerate(others)
    ]
    if first.name != whole.name or first.description not in ("", whole.description):
        edits.append(
            Edit(
                kind="rename",
                clusters=(whole.id,),
                name=first.name,
                description=first.description,
                together=True,
            )
        )
    return tuple(edits)


_NEEDED = {
    "merge": "name at least two different clusters",
    "split": "name a cluster, some of its texts but not all, and the new cluster",
    "move": "name texts that are not in the cluster yet, and the cluster",
    "rename": "give another name or description than the cluster has",
    "drop": "name texts that stand in a cluster",
}


def cluster_id(named: str, clustering: Clustering) -> str:
    """The id of the cluster that is named by id or, whatever its case, by name; "none" for none.

    Raises:
        InputError: there is no such cluster.
    """
    if _plain(named) == NO_CLUSTER:
        return NO_CLUSTER
    by_id = {cluster.id: cluster.id for cluster in clustering.clusters}
    by_name = {_plain(cluster.name): cluster.id for cluster in clustering.clusters}
    found = by_id.get(named) or by_id.get(named.upper()) or by_name.get(_plain(named))
    alike = [c.id for c in clustering.clusters if _plain(c.name) == _plain(named)]
    if found in alike and len(alike) > 1:
        raise InputError(
            f"{len(alike)} clusters are called {named!r}. Name one by its id: {', '.join(alike)}"
        )
    if found is None:
        there = ", ".join(f"{cluster.id} ({cluster.name})" for cluster in clustering.clusters[:20])
        raise InputError(f"there is no cluster {named!r}. There are: {there}")
    return found


def _plain(name: str) -> str:
    return name.strip().casefold()


def _naming_once(edit: Edit) -> Edit:
    """The edit without repetitions among its clusters and texts."""
    unique = {"clusters": tuple(dict.fromkeys(edit.clusters)), "texts": tuple(dict.fromkeys(edit.texts))}
    return edit.model_copy(update=unique)


class _Draft:
    """A clustering under change: where each text stands, and the clusters by id.

    Each edit returns what it did in words, or an empty string when there was nothing to do.
    """

    def __init__(self, clustering: Clustering) -> None:
        self._criterion = clustering.criterion
        self._clusters = {cluster.id: cluster for cluster in clustering.clusters}
        self._placed = {assignment.text_id: assignment for assignment in clustering.assignments}
        self._outside = {outside.text_id: outside for outside in clustering.unassigned}
        self._next_number = 1 + max((cluster_number(id) for id in self._clusters), default=0)

    def merge(self, edit: Edit) -> str:
        existing = [id for id in edit.clusters if id in self._clusters]
        if len(existing) < 2:
            return ""
        target, *others = existing
        for text_id, assignment in list(self._placed.items()):
            if assignment.cluster_id in others:
                self._placed[text_id] = assignment.model_copy(update={"cluster_id": target})
        for id in others:
            del self._clusters[id]
        self._name(target, edit)
        return f"merged {', '.join(others)} into {target}"

    def split(self, edit: Edit) -> str:
        source = self._first(edit)
        moving = [id for id in edit.texts if id in self._placed and self._placed[id].cluster_id == source]
        if not source or not moving or len(moving) == self._size(source) or not edit.name:
            return ""
        id = f"C{self._next_number}"
        self._next_number += 1
        self._clusters[id] = Cluster(id=id, name=edit.name, description=edit.description)
        self._place(moving, id, edit.reason)
        return f"split {len(moving)} texts off {source} as {id}"

    def move(self, edit: Edit) -> str:
        target = self._first(edit)
        if not target and NO_CLUSTER in edit.clusters:
            return self.drop(edit)
        moving = [id for id in self._existing(edit.texts) if self._cluster_of(id) != target]
        if not target or not moving:
            return ""
        self._place(moving, target, edit.reason)
        return f"moved {len(moving)} texts to {target}"

    def rename(self, edit: Edit) -> str:
        target = self._first(edit)
        if not target:
            return ""
        before = self._clusters[target]
        self._name(target, edit)
        return f"renamed {target}" if self._clusters[target] != before else ""

    def drop(self, edit: Edit) -> str:
        dropped = [id for id in edit.texts if id in self._placed]
        for id in dropped:
            del self._placed[id]
            reason = edit.reason or "the instruction cannot be applied to it"
            self._outside[id] = Unassigned(text_id=id, reason=reason)
        return f"dropped {len(dropped)} texts" if dropped else ""

    def finished(self, order: Sequence[str]) -> Clustering:
        """The clustering, without clusters that have lost all their texts."""
        assignments = [self._placed[id] for id in order if id in self._placed]
        members: dict[str, list[str]] = {id: [] for id in self._clusters}
        for assignment in assignments:
            members[assignment.cluster_id].append(assignment.text_id)
        return Clustering(
            clusters=tuple(
                cluster.model_copy(update={"members": tuple(members[id])})
                for id, cluster in self._clusters.items()
                if members[id]
            ),
            assignments=tuple(assignments),
            unassigned=tuple(self._outside[id] for id in order if id in self._outside),
            criterion=self._criterion,
        )

    def _first(self, edit: Edit) -> str:
        return next((id for id in edit.clusters if id in self._clusters), "")

    def _existing(self, text_ids: Iterable[str]) -> list[str]:
        return [id for id in text_ids if id in self._placed or id in self._outside]

    def _cluster_of(self, text_id: str) -> str | None:
        assignment = self._placed.get(text_id)
        return assignment.cluster_id if assignment else None

    def _size(self, cluster_id: str) -> int:
        return sum(assignment.cluster_id == cluster_id for assignment in self._placed.values())

    def _name(self, cluster_id: str, edit: Edit) -> None:
        given = {"name": edit.name, "description": edit.description}
        update = {field: value for field, value in given.items() if value}
        self._clusters[cluster_id] = self._clusters[cluster_id].model_copy(update=update)

    def _place(self, text_ids: list[str], cluster_id: str, reason: str) -> None:
        for id in text_ids:
            before = self._placed.get(id)
            self._outside.pop(id, None)
            self._placed[id] = Assignment(
                text_id=id,
                cluster_id=cluster_id,
                confidence=before.confidence if before else None,
                reason=reason or (before.reason if before else ""),
            )


def cluster_number(cluster_id: str) -> int:
    """The number in an id such as C12; 0 where there is none."""
    digits = cluster_id.removeprefix("C")
    return int(digits) if digits.isdecimal() else 0
