"""From the batches' clusters to one taxonomy, and to the places of the texts that the batches held."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from cluster_r1.agents.clustering.proposer import ProposedCluster
from cluster_r1.agents.clustering.reconciler import FoundGroup, Joined, JoinedCategory, ReconcilerInput
from cluster_r1.agents.distinctive_words import plain_name
from cluster_r1.graphs.corpus.places import NOWHERE, Places
from cluster_r1.graphs.corpus.reconciling import BatchCluster
from cluster_r1.graphs.corpus.state import CorpusContext
from cluster_r1.types import NO_CLUSTER

_EXAMPLES = 3
_EXAMPLE_LETTERS = 200


def found_groups(
    groups: Sequence[Sequence[int]], found: Sequence[BatchCluster], context: CorpusContext
) -> ReconcilerInput:
    """What the reconciler is asked: each group as its most typical cluster calls it, with some texts."""
    shown = []
    for number, group in enumerate(groups, 1):
        typical = _typical(group, found)
        members = {member for place in group for member in found[place].members}
        shown.append(
            FoundGroup(
                id=f"G{number}",
                name=found[typical].name,
                description=found[typical].description,
                texts=len(members),
                examples=_examples(typical, group, found, context),
            )
        )
    return ReconcilerInput(instruction=context.instruction, groups=tuple(shown), k=context.k)


def _typical(group: Sequence[int], found: Sequence[BatchCluster]) -> int:
    """The cluster whose name most batches use or, where all differ, that shares most texts with the others.

    Not the largest: that is the one in which a batch has taken two things for one.
    """
    names = Counter(plain_name(found[place].name) for place in group)
    seen = Counter(member for place in group for member in found[place].members)

    def rank(place: int) -> tuple[int, float, int]:
        members = found[place].members
        shared = sum(seen[member] > 1 for member in members)
        return names[plain_name(found[place].name)], shared / max(len(members), 1), -place

    return max(group, key=rank)


def _examples(
    typical: int, group: Sequence[int], found: Sequence[BatchCluster], context: CorpusContext
) -> tuple[str, ...]:
    """The shortest text of the typical cluster and of others: each batch may mean something else."""
    first = [typical, *(place for place in group if place != typical)]
    shortest = (min(found[place].members, key=lambda member: len(context.texts[member])) for place in first)
    wordings = (context.texts[member][:_EXAMPLE_LETTERS] for member in shortest)
    return tuple(dict.fromkeys(wordings))[:_EXAMPLES]


def unjoined(given: ReconcilerInput) -> Joined:
    """Each group as a category of its own: what is left where the reconciler gives no usable answer."""
    categories = tuple(
        JoinedCategory(name=group.name, description=group.description, groups=(group.id,))
        for group in given.groups
    )
    return Joined(categories=categories, reason="the groups as they were found")


def complete(joined: Joined, given: ReconcilerInput) -> Joined:
    """The answer with names for the nameless, equal names joined, and forgotten groups as they were found."""
    by_id = {group.id: group for group in given.groups}
    named = {id for category in joined.categories for id in category.groups}
    forgotten = [
        JoinedCategory(name=group.name, description=group.description, groups=(group.id,))
        for group in given.groups
        if group.id not in named
    ]
    merged: dict[str, JoinedCategory] = {}
    for category in (*joined.categories, *forgotten):
        name = category.name or by_id[category.groups[0]].name
        key = plain_name(name)
        known = merged.get(key)
        groups = (*(known.groups if known else ()), *category.groups)
        merged[key] = JoinedCategory(
            name=known.name if known else name,
            description=(known.description if known else "") or category.description,
            groups=groups,
        )
    return joined.model_copy(update={"categories": tuple(merged.values())})


def taxonomy_of(joined: Joined) -> tuple[ProposedCluster, ...]:
    """The categories under ids C1, C2 ...; what fits nowhere is none of them."""
    kept = [category for category in joined.categories if plain_name(category.name) != NO_CLUSTER]
    return tuple(
        ProposedCluster(id=f"C{number}", name=category.name, description=category.description)
        for number, category in enumerate(kept, 1)
    )


def place_batches(
    joined: Joined,
    taxonomy: Sequence[ProposedCluster],
    groups: Sequence[Sequence[int]],
    found: Sequence[BatchCluster],
    outside: Sequence[BatchCluster],
    texts: int,
) -> Places:
    """The texts of the batches where their clusters went; an anchor where most of its clusters did."""
    position = {plain_name(cluster.name): number for number, cluster in enumerate(taxonomy)}
    votes: dict[int, Counter[int]] = {}
    reasons: dict[tuple[int, int], str] = {}

    def vote(cluster: BatchCluster, place: int) -> None:
        for member in cluster.members:
            votes.setdefault(member, Counter())[place] += 1
            reasons[member, place] = cluster.reasons.get(member, "")

    for category in joined.categories:
        place = position.get(plain_name(category.name), NOWHERE)
        for id in category.groups:
            for number in groups[int(id[1:]) - 1]:
                vote(found[number], place)
    for cluster in outside:
        vote(cluster, NOWHERE)
    places = Places.of(texts)
    for member, counted in votes.items():
        place, most = counted.most_common(1)[0]
        places.cluster[member] = place
        places.confidence[member] = most / counted.total()
        places.by_model[member] = True
        places.reasons[member] = reasons[member, place]
    return places
