"""Has a critic look at some texts of every cluster: which clusters are one, and which hold several."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cluster_r1.agents.clustering.critic import Critic, CriticInput
from cluster_r1.agents.clustering.fitting import fit_texts
from cluster_r1.agents.clustering.grouping_view import view_of
from cluster_r1.agents.clustering.proposer import ProposedCluster
from cluster_r1.errors import BudgetError
from cluster_r1.graphs.corpus.batching import group_batch
from cluster_r1.graphs.corpus.missing import LEAST_NEW
from cluster_r1.graphs.corpus.places import Places
from cluster_r1.graphs.corpus.planning import REVIEWED
from cluster_r1.graphs.corpus.state import CorpusContext
from cluster_r1.types import NO_CLUSTER, Assignment, Cluster, Clustering, Finding

_MOST_OF_ONE = 12


async def review(
    taxonomy: Sequence[ProposedCluster], places: Places, size: int, context: CorpusContext
) -> tuple[Finding, ...]:
    """What should be merged or split, the gravest first; nothing where there are too many clusters to see.

    Args:
        taxonomy: the clusters.
        places: where the texts stand.
        size: texts that one context holds.
        context: of the corpus.

    Raises:
        AnswerError, RefusedError, BudgetError: there is no judgement.
        ModelError: the model is gone.
    """
    most = min(REVIEWED, size)
    if not 2 <= len(_sizes(places)) <= most:
        return ()
    shown = _sample(taxonomy, places, most, context)
    ids = [assignment.text_id for assignment in shown.assignments]
    texts = [context.texts[int(id)] for id in ids]
    fitted = fit_texts(texts, context.instruction, context.node.context_tokens).shown
    sizes = ", ".join(f"{taxonomy[n].id} {count:,}" for n, count in _sizes(places).items())
    given = CriticInput(
        instruction=context.instruction,
        view=view_of(shown, ids, fitted),
        k=context.k,
        remarks=(
            f"The collection has {len(context.texts):,} texts; a few of each cluster are shown. Report only "
            f"merge and split. Texts of the clusters: {sizes}",
        ),
    )
    context.tell("audit", f"a critic looks at {len(ids)} texts of {len(shown.clusters)} clusters")
    judged = await context.node.ask(Critic(), given, texts=len(ids), round=0, ledger=context.ledger)
    if judged.verdict == "accept":
        return ()
    return tuple(finding for finding in judged.findings if finding.kind in ("merge", "split"))


async def divide(
    number: int, taxonomy: Sequence[ProposedCluster], places: Places, size: int, context: CorpusContext
) -> tuple[ProposedCluster, ...]:
    """What a cluster that holds several things is made of, the largest first; nothing if it is one.

    Args:
        number: of the cluster in the taxonomy.
        taxonomy: the clusters.
        places: where the texts stand.
        size: texts of a batch.
        context: of the corpus.

    Raises:
        BudgetError: the budget does not cover it.
        ModelError: the model is gone.
    """
    members = np.flatnonzero(places.cluster == number)
    drawn = np.random.default_rng([context.seed, 4]).permutation(members)[:size]
    whole = taxonomy[number]
    grouped = await group_batch(number, [int(n) for n in np.sort(drawn)], f"{whole.name!r}", context)
    expected = len(members) / max(len(drawn), 1)
    if grouped.unpaid:
        raise BudgetError(grouped.unpaid)
    parts = [
        ProposedCluster(id=whole.id, name=cluster.name, description=cluster.description)
        for cluster in sorted(grouped.found, key=lambda cluster: -len(cluster.members))
        if cluster.name != NO_CLUSTER and len(cluster.members) * expected >= LEAST_NEW
    ]
    return tuple(parts) if len(parts) > 1 else ()


def _sample(
    taxonomy: Sequence[ProposedCluster], places: Places, most: int, context: CorpusContext
) -> Clustering:
    """The clusters that have texts, with as many of each as are shown, drawn at random."""
    sizes = _sizes(places)
    each = min(most // len(sizes), _MOST_OF_ONE)
    random = np.random.default_rng([context.seed, 5])
    clusters, assignments = [], []
    for number in sizes:
        drawn = np.sort(random.permutation(np.flatnonzero(places.cluster == number))[:each])
        members = tuple(str(position) for position in drawn)
        cluster = taxonomy[number]
        clusters.append(
            Cluster(id=cluster.id, name=cluster.name, description=cluster.description, members=members)
        )
        assignments += [Assignment(text_id=member, cluster_id=cluster.id) for member in members]
    return Clustering(clusters=tuple(clusters), assignments=tuple(assignments))


def _sizes(places: Places) -> dict[int, int]:
    """How many texts stand in each cluster that has any, by its number."""
    numbers, counts = np.unique(places.cluster[places.cluster >= 0], return_counts=True)
    return dict(zip(numbers.tolist(), counts.tolist(), strict=True))
