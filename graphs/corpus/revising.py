"""Carries out what an audit found: clusters that are missing, that are one, or that hold several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cluster_r1.agents.clustering.proposer import ProposedCluster
from cluster_r1.agents.distinctive_words import plain_name
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
        BudgetError: the budget does not cover the grouping.
        ModelError: the model is gone.
    """
    nowhere = np.flatnonzero(places.cluster == NOWHERE)
    added, notes = await find_missing(nowhere, taxonomy, size, context)
    if not added:
        return Revised(taxonomy, tuple(notes))
    context.tell("revise", f"{len(added)} clusters added, {len(nowhere):,} texts are placed again")
    extended = (*taxonomy, *added)
    places.by_model[nowhere] = False
    unread = await place(nowhere, extended, places, effort, context)
    named = ", ".join(cluster.name for cluster in added)
    return Revised(extended, (*notes, f"clusters were added for texts that fitted nowhere: {named}"), unread)


async def carry_out(
    findings: Sequence[Finding],
    taxonomy: Taxonomy,
    places: Places,
    size: int,
    effort: Effort,
    context: CorpusContext,
) -> Revised:
    """Merge and split as a critic wants it, within the limits of k; each cluster is touched once.

    Raises:
        BudgetError: the budget does not cover the grouping of a cluster.
        ModelError: the model is gone.
    """
    notes: list[str] = []
    unread, touched = 0, set[str]()
    for finding in findings:
        numbers = [n for n, cluster in enumerate(taxonomy) if cluster.id in finding.clusters]
        if touched & {taxonomy[number].id for number in numbers} or not numbers:
            continue
        touched |= {taxonomy[number].id for number in numbers}
        if finding.kind == "merge" and _may_have(len(taxonomy) - len(numbers) + 1, context):
            named = ", ".join(taxonomy[number].name for number in numbers)
            taxonomy = merge(numbers, taxonomy, places)
            notes.append(f"a critic found clusters to be one: {named}")
        elif finding.kind == "split":
            parts = await divide(numbers[0], taxonomy, places, size, context)
            if len(parts) == 1 or not _may_have(len(taxonomy) + len(parts) - 1, context):
                continue
            whole = taxonomy[numbers[0]].name
            taxonomy, left = await _split(numbers[0], parts, taxonomy, places, effort, context)
            unread += left
            named = ", ".join(part.name for part in parts)
            notes.append(f"a critic found that {whole!r} holds several things: {named}")
    return Revised(taxonomy, tuple(notes), unread)


def merge(numbers: Sequence[int], taxonomy: Taxonomy, places: Places) -> Taxonomy:
    """Make these clusters one, under the name of the largest; nothing is read again."""
    inside = places.cluster[np.isin(places.cluster, numbers)]
    values, counts = np.unique(inside, return_counts=True)
    kept = int(values[counts.argmax()]) if len(values) else numbers[0]
    gone = sorted(set(numbers) - {kept})
    new = np.array([n - sum(other < n for other in gone) for n in range(len(taxonomy))], dtype=np.int32)
    new[gone] = new[kept]
    placed = places.cluster >= 0
    places.cluster[placed] = new[places.cluster[placed]]
    return tuple(cluster for number, cluster in enumerate(taxonomy) if number not in gone)


async def _split(
    number: int,
    parts: Sequence[ProposedCluster],
    taxonomy: Taxonomy,
    places: Places,
    effort: Effort,
    context: CorpusContext,
) -> tuple[Taxonomy, int]:
    """Put the parts in the place of the whole, and have its texts placed again; also how many are unread."""
    members = np.flatnonzero(places.cluster == number)
    known = {plain_name(cluster.name) for n, cluster in enumerate(taxonomy) if n != number}
    first, *others = parts
    new = numbered([part for part in others if plain_name(part.name) not in known], taxonomy)
    extended = (*taxonomy[:number], first, *taxonomy[number + 1 :], *new)
    context.tell("revise", f"{taxonomy[number].name!r} is divided, {len(members):,} texts are placed again")
    places.by_model[members] = False
    return extended, await place(members, extended, places, effort, context)


def _may_have(clusters: int, context: CorpusContext) -> bool:
    """Whether so many clusters are within the limits of k."""
    return context.k is None or context.k.low <= clusters <= context.k.high
