"""The check: makes an exact cover of whatever a model proposed, and names what only a reader can judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from itertools import combinations

from cluster_r1.agents.clustering.partition import Placement
from cluster_r1.agents.clustering.proposer import Proposal, ProposedCluster
from cluster_r1.agents.distinctive_words import distinct_names, plain_name
from cluster_r1.edits import Edit, apply_edits
from cluster_r1.types import NO_CLUSTER, Assignment, Cluster, Clustering, Finding, KRange, Record, Unassigned

NOT_PLACED = "the model gave no usable answer for this text"
FITS_NONE = "the model found that it fits no cluster"

_NEARLY_EQUAL = 0.88  # similarity of two names, in [0, 1], from which on a reader would confuse them
_CATCH_ALLS = {"other", "others", "misc", "miscellaneous", "general", "various", "unknown", "n/a", "rest"}


class Checked(Record):
    """An exact cover, what was repaired to get there, and what is left to judge."""

    clustering: Clustering
    repairs: tuple[str, ...]
    findings: tuple[Finding, ...]


def check_proposal(proposal: Proposal, ids: Sequence[str], wording: Mapping[str, str]) -> Checked:
    """An exact cover of `ids` out of any proposal: each id once, in a cluster or in `unassigned`.

    Repaired without asking: unknown and repeated texts, clusters that are used but not listed or listed but
    not used, missing and equal names. Texts that were not placed are unassigned, with the reason.

    Args:
        proposal: as the model wrote it; texts are positions in `ids`, from 1.
        ids: the text ids that must be covered.
        wording: text by id, for naming a cluster that has no name.
    """
    repairs: list[str] = []
    best = _best_placements(proposal.placements, len(ids), repairs)
    listed, key_of = _listed_clusters(proposal.clusters)
    members: dict[str, list[str]] = {}
    placed: dict[str, Placement] = {}
    unassigned: list[Unassigned] = []
    for number, text_id in enumerate(ids, 1):
        placement = best.get(number)
        name = plain_name(placement.cluster) if placement else NO_CLUSTER
        if placement is None or name == NO_CLUSTER:
            reason = NOT_PLACED if placement is None else placement.reason or FITS_NONE
            unassigned.append(Unassigned(text_id=text_id, reason=reason))
            continue
        key = key_of.get(name)
        if key is None:
            key = key_of[name] = placement.cluster
            listed[key] = ProposedCluster(id=key, name=placement.cluster)
            repairs.append(f"cluster {placement.cluster!r} was used but not listed: added")
        members.setdefault(key, []).append(text_id)
        placed[text_id] = placement
    unused = sum(key not in members for key in listed)
    if unused:
        repairs.append(f"{unused} clusters without texts removed")
    clustering = _assemble(proposal.criterion, listed, members, placed, unassigned, ids)
    return check_clustering(clustering, ids, wording, tuple(repairs))


def check_clustering(
    clustering: Clustering, ids: Sequence[str], wording: Mapping[str, str], repairs: tuple[str, ...] = ()
) -> Checked:
    """Name the nameless clusters, merge those with equal names, and find what a reader should look at."""
    clustering, named = _name_nameless(clustering, wording)
    clustering, merged = _merge_equal_names(clustering, ids)
    return Checked(
        clustering=clustering, repairs=(*repairs, *named, *merged), findings=tuple(_name_findings(clustering))
    )


def k_finding(clustering: Clustering, k: KRange | None) -> Finding | None:
    """What to do about the number of clusters when it is outside the limits."""
    count = len(clustering.clusters)
    if k is None or k.low <= count <= k.high:
        return None
    kind, bound = ("merge", f"at most {k.high}") if count > k.high else ("split", f"at least {k.low}")
    everything = tuple(cluster.id for cluster in clustering.clusters)
    comment = f"there are {count} clusters, {bound} wanted"
    return Finding(kind=kind, clusters=everything, comment=comment, source="code")


def _best_placements(placements: Sequence[Placement], texts: int, repairs: list[str]) -> dict[int, Placement]:
    """One placement a text: the more confident of two, the first of equals."""
    best: dict[int, Placement] = {}
    unknown = contradicted = 0
    for placement in placements:
        if not 1 <= placement.text <= texts:
            unknown += 1
            continue
        rival = best.get(placement.text)
        if rival is None:
            best[placement.text] = placement
            continue
        contradicted += rival.cluster != placement.cluster
        if (placement.confidence or 0) > (rival.confidence or 0):
            best[placement.text] = placement
    if unknown:
        repairs.append(f"{unknown} placements of texts that do not exist left out")
    if contradicted:
        repairs.append(f"{contradicted} texts placed in several clusters: the most confident place kept")
    return best


def _listed_clusters(
    proposed: Sequence[ProposedCluster],
) -> tuple[dict[str, ProposedCluster], dict[str, str]]:
    """The listed clusters by id, and what leads to an id: the id itself, then the name, in any writing."""
    listed: dict[str, ProposedCluster] = {}
    for cluster in proposed:
        if plain_name(cluster.id) != NO_CLUSTER:
            listed.setdefault(cluster.id, cluster)
    key_of = {plain_name(cluster.name): id for id, cluster in reversed(listed.items()) if cluster.name}
    key_of |= {plain_name(id): id for id in reversed(listed)}
    return listed, key_of


def _assemble(
    criterion: str,
    listed: Mapping[str, ProposedCluster],
    members: Mapping[str, Sequence[str]],
    placed: Mapping[str, Placement],
    unassigned: Sequence[Unassigned],
    ids: Sequence[str],
) -> Clustering:
    """Clusters numbered C1, C2 ... by size, the larger first; equals in the order of their first text."""
    position = {text_id: number for number, text_id in enumerate(ids)}
    keys = sorted(members, key=lambda key: (-len(members[key]), position[members[key][0]]))
    id_of = {key: f"C{number}" for number, key in enumerate(keys, 1)}
    cluster_of = {text_id: id_of[key] for key in keys for text_id in members[key]}
    return Clustering(
        criterion=criterion,
        clusters=tuple(
            Cluster(
                id=id_of[key],
                name=listed[key].name,
                description=listed[key].description,
                members=tuple(members[key]),
            )
            for key in keys
        ),
        assignments=tuple(
            Assignment(
                text_id=text_id,
                cluster_id=cluster_of[text_id],
                confidence=placed[text_id].confidence,
                reason=placed[text_id].reason,
            )
            for text_id in ids
            if text_id in cluster_of
        ),
        unassigned=tuple(unassigned),
    )


def _name_nameless(clustering: Clustering, wording: Mapping[str, str]) -> tuple[Clustering, list[str]]:
    nameless = [cluster for cluster in clustering.clusters if not cluster.name.strip()]
    if not nameless:
        return clustering, []
    groups = [[wording[member] for member in cluster.members] for cluster in nameless]
    taken = [cluster.name for cluster in clustering.clusters]
    name_of = dict(zip((c.id for c in nameless), distinct_names(groups, taken), strict=True))
    clusters = tuple(
        cluster.model_copy(update={"name": name_of.get(cluster.id, cluster.name)})
        for cluster in clustering.clusters
    )
    repaired = f"{len(nameless)} clusters without a name named by their distinctive words"
    return clustering.model_copy(update={"clusters": clusters}), [repaired]


def _merge_equal_names(clustering: Clustering, ids: Sequence[str]) -> tuple[Clustering, list[str]]:
    by_name: dict[str, list[Cluster]] = {}
    for cluster in clustering.clusters:
        by_name.setdefault(plain_name(cluster.name), []).append(cluster)
    merges = [
        Edit(kind="merge", clusters=tuple(c.id for c in same)) for same in by_name.values() if len(same) > 1
    ]
    if not merges:
        return clustering, []
    edited = apply_edits(clustering, merges, ids)
    return edited.clustering, [f"equal names: {done}" for done in edited.applied]


def _name_findings(clustering: Clustering) -> list[Finding]:
    findings = [
        Finding(
            kind="merge",
            clusters=(one.id, other.id),
            comment=f"the names {one.name!r} and {other.name!r} are nearly equal",
            source="code",
        )
        for one, other in combinations(clustering.clusters, 2)
        if _similarity(plain_name(one.name), plain_name(other.name)) >= _NEARLY_EQUAL
    ]
    findings += [
        Finding(
            kind="split", clusters=(cluster.id,), comment=f"{cluster.name!r} is a catch-all", source="code"
        )
        for cluster in clustering.clusters
        if plain_name(cluster.name) in _CATCH_ALLS and len(cluster.members) > 1
    ]
    return findings


def _similarity(one: str, other: str) -> float:
    matcher = SequenceMatcher(None, one, other, autojunk=False)
    return matcher.ratio() if matcher.real_quick_ratio() >= _NEARLY_EQUAL else 0.0
