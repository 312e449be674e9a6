"""Carries out what an audit found: clusters that are missing, that are one, or that hold several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cluster_r1.agents.distinctive_words import plain_name
from cluster_r1.errors import BudgetError
from cluster_r1.graphs.corpus.missing import find_missing, numbered
from cluster_r1.graphs.corpus.places import NOWHERE, Places
from cluster_r1.graphs.corpus.placing import Taxonomy, place
from cluster_r1.graphs.corpus.reviewing import divide
from cluster_r1.graphs.corpus.state import CorpusContext, Effort
from cluster_r1.types import Finding


@dataclass(frozen=True, slots=True)
class Revised:
    """The taxonomy after a revision, what was done in words, and how many texts the budget left unread."""

    taxonomy: Taxonomy
    notes: tuple[str, ...] = ()
    unread: int = 0


async def add_missing(
    taxonomy: Taxonomy, places: Places, size: int, effort: Effort, context: CorpusContext
) -> Revised:
    """Group some of the texts that fit nowhere, and have all of them placed again with what is new.

    Raises:
        ModelError: the model is gone.
    """
    nowhere = places.where(NOWHERE)
    try:
        added, notes = await find_missing(nowhere, taxonomy, size, context)
    except BudgetError:
        return Revised(taxonomy, ("the budget was spent before missing clusters were looked for",))
    if not added:
        return Revised(taxonomy, tuple(notes))
    context.tell("revise", f"{len(added)} clusters added, {len(nowhere):,} texts are placed again")
    extended = (*taxonomy, *added)
    unread = await place(nowhere, extended, places, effort, context, keep=True)
    used = [c.name for n, c in enumerate(added, len(taxonomy)) if len(places.where(n))]
    if used:
        notes.append(f"clusters were added for texts that fitted nowhere: {', '.join(used)}")
    return Revised(extended, tuple(notes), unread)


async def carry_out(
    findings: Sequence[Finding],
    taxonomy: Taxonomy,
    places: Places,
    size: int,
    effort: Effort,
    context: CorpusContext,
) -> Revised:
    """Merge and split as a critic wants it, within the limits of k; each cluster is changed once.

    Raises:
        ModelError: the model is gone.
    """
    notes: list[str] = []
    unread, changed = 0, set[str]()
    for finding in findings:
        named = [id for id in finding.clusters if id not in changed]
        numbers = [n for n, cluster in enumerate(taxonomy) if cluster.id in named]
        before = taxonomy
        merged = len(taxonomy) - len(numbers) + 1
        if finding.kind == "merge" and len(numbers) > 1 and _may_have(merged, context):
            said = ", ".join(taxonomy[number].name for number in numbers)
            taxonomy = merge(numbers, taxonomy, places)
            notes.append(f"a critic found clusters to be one: {said}")
        elif finding.kind == "split" and numbers:
            whole = taxonomy[numbers[0]]
            try:
                taxonomy, left = await _split(numbers[0], taxonomy, places, size, effort, context)
            except BudgetError:
                notes.append("the budget was spent before all findings of the critic were carried out")
                break
            unread += left
            if taxonomy != before:
                notes.append(f"a critic found that {whole.name!r} holds several things")
        if taxonomy != before:
            changed |= {before[number].id for number in numbers}
    return Revised(taxonomy, tuple(notes), unread)


def merge(numbers: Sequence[int], taxonomy: Taxonomy, places: Places) -> Taxonomy:
    """Make these clusters one, under the name of the largest; nothing is read again."""
    sizes = [len(places.where(number)) for number in numbers]
    kept = numbers[int(np.argmax(sizes))]
    gone = sorted(set(numbers) - {kept})
    new = np.array([n - sum(other < n for other in gone) for n in range(len(taxonomy))], dtype=np.int32)
    new[gone] = new[kept]
    _renumber(places, new)
    return tuple(cluster for number, cluster in enumerate(taxonomy) if number not in gone)


async def _split(
    number: int,
    taxonomy: Taxonomy,
    places: Places,
    size: int,
    effort: Effort,
    context: CorpusContext,
) -> tuple[Taxonomy, int]:
    """Have the texts of a cluster placed again, with its parts as clusters; also how many are unread.

    The whole is last in the meantime, and keeps the texts that no answer places; it goes when it is empty.
    """
    whole, others = taxonomy[number], (*taxonomy[:number], *taxonomy[number + 1 :])
    known = {plain_name(cluster.name) for cluster in others}
    found = [
        part
        for part in await divide(number, taxonomy, places, size, context)
        if plain_name(part.name) not in known
    ]
    if not found or not _may_have(len(others) + len(found), context):
        return taxonomy, 0
    members = places.where(number)
    context.tell("revise", f"{whole.name!r} is divided, {len(members):,} texts are placed again")
    parts = numbered(found, taxonomy)
    shown = (*others, *parts)
    new = np.array([n - (n > number) for n in range(len(taxonomy))], dtype=np.int32)
    new[number] = len(shown)
    _renumber(places, new)
    unread = await place(members, shown, places, effort, context, keep=True)
    if not len(places.where(len(shown))):
        return shown, unread
    same = [n for n, part in enumerate(shown) if plain_name(part.name) == plain_name(whole.name)]
    if same:
        places.cluster[places.where(len(shown))] = same[0]
        return shown, unread
    return (*shown, whole), unread


def _renumber(places: Places, new: NDArray[np.int32]) -> None:
    """Give clusters other positions: that at `i` goes to `new[i]`."""
    placed = places.cluster >= 0
    places.cluster[placed] = new[places.cluster[placed]]


def _may_have(clusters: int, context: CorpusContext) -> bool:
    """Whether so many clusters are within the limits of k."""
    return context.k is None or context.k.low <= clusters <= context.k.high
