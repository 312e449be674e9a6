"""Finds which clusters of different batches are one: by the anchors they share, and by their names."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import networkx as nx
from pydantic import Field

from cluster_r1.agents.distinctive_words import plain_name
from cluster_r1.types import Record

_ENOUGH = 0.5  # Jaccard of shared anchors from which on two clusters are taken for one


class BatchCluster(Record):
    """A cluster of one batch, or, under the name "none", its texts that fit nowhere.

    `members` are positions in the corpus; `reasons` say why each of them is there.
    """

    batch: int
    name: str
    description: str = ""
    members: tuple[int, ...]
    reasons: dict[int, str] = Field(default_factory=dict)


def join_by_anchors(found: Sequence[BatchCluster], anchors: Sequence[int], seed: int) -> list[list[int]]:
    """Groups of positions in `found`, the largest group by texts first.

    Clusters are nodes; an edge weighs the Jaccard index of the anchors that both hold, 1 for equal names.
    Communities are found by modularity (Blondel et al., J. Stat. Mech. P10008, 2008). Two clusters of one
    batch were told apart by whoever saw both, so of those in one community only the best connected stays.
    """
    shared = [frozenset(cluster.members) & frozenset(anchors) for cluster in found]
    graph = nx.Graph()
    graph.add_nodes_from(range(len(found)))
    for one, other in combinations(range(len(found)), 2):
        if found[one].batch == found[other].batch:
            continue
        weight = _weight(found[one], found[other], shared[one], shared[other])
        if weight >= _ENOUGH:
            graph.add_edge(one, other, weight=weight)
    communities = nx.community.louvain_communities(graph, weight="weight", seed=seed)
    groups = [group for community in communities for group in _told_apart(graph, found, community)]
    return sorted(groups, key=lambda group: (-sum(len(found[n].members) for n in group), group[0]))


def _weight(one: BatchCluster, other: BatchCluster, first: frozenset[int], second: frozenset[int]) -> float:
    if plain_name(one.name) == plain_name(other.name):
        return 1.0
    together = first | second
    return len(first & second) / len(together) if together else 0.0


def _told_apart(graph: nx.Graph, found: Sequence[BatchCluster], community: set[int]) -> list[list[int]]:
    """The community without second clusters of a batch, and these alone."""
    strength = {
        node: sum(data["weight"] for _, _, data in graph.edges(node, data=True)) for node in community
    }
    best: dict[int, int] = {}
    for node in sorted(community, key=lambda node: (-strength[node], node)):
        best.setdefault(found[node].batch, node)
    together = sorted(best.values())
    return [together, *([node] for node in sorted(community - set(together)))]
