"""Finds the clusters that a taxonomy lacks, in the texts that fit none of its clusters."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cluster_r1.agents.clustering.proposer import ProposedCluster
from cluster_r1.agents.clustering.reconciler import Reconciler
from cluster_r1.agents.distinctive_words import plain_name
from cluster_r1.agents.parsing import AnswerError
from cluster_r1.edits import cluster_number
from cluster_r1.errors import BudgetError, RefusedError
from cluster_r1.graphs.corpus.batching import group_batch
from cluster_r1.graphs.corpus.reconciling import BatchCluster, join_by_anchors
from cluster_r1.graphs.corpus.sampling import draw_batches
from cluster_r1.graphs.corpus.state import CorpusContext
from cluster_r1.graphs.corpus.taxonomy import complete, found_groups, taxonomy_of, unjoined
from cluster_r1.types import NO_CLUSTER

SEARCHES = 3  # for missing clusters: those found first may be a part of them
LEAST_NEW = 3  # texts that a cluster is expected to have before it is added

_ANCHOR_SHARE = 0.1
_MOST_BATCHES = 5


async def find_missing(
    nowhere: NDArray[np.intp], taxonomy: Sequence[ProposedCluster], size: int, context: CorpusContext
) -> tuple[tuple[ProposedCluster, ...], list[str]]:
    """Clusters to add, under ids that go on from those of the taxonomy, and notes.

    Args:
        nowhere: positions of texts that fit nowhere; as many as some batches hold are grouped.
        taxonomy: that they do not fit.
        size: texts of a batch.
        context: of the corpus.

    Raises:
        BudgetError: the budget does not cover it.
        ModelError: the model is gone.
    """
    assert len(nowhere), "there is nothing to group"
    drawn = draw_batches(
        context.at(nowhere),
        size=size,
        anchors=max(2, int(_ANCHOR_SHARE * size)),
        most=_MOST_BATCHES,
        seed=context.seed,
    )
    called = "the texts that fit nowhere"
    grouped = await asyncio.gather(
        *(
            group_batch(number, [int(nowhere[place]) for place in batch], called, context)
            for number, batch in enumerate(drawn.batches)
        )
    )
    notes = list(dict.fromkeys(group.note for group in grouped if group.note))
    if not any(group.found for group in grouped) and (unpaid := [g.unpaid for g in grouped if g.unpaid]):
        raise BudgetError(unpaid[0])
    found = [cluster for group in grouped for cluster in group.found if cluster.name != NO_CLUSTER]
    anchors = [int(nowhere[place]) for place in drawn.anchors]
    groups = join_by_anchors(found, anchors, context.seed) if found else []
    expected = len(nowhere) / max(len(drawn.positions), 1)  # texts for each that was grouped
    large = [group for group in groups if _texts(group, found) * expected >= LEAST_NEW]
    if not large:
        return (), notes
    known = {plain_name(cluster.name) for cluster in taxonomy}
    named = await _named(large, found, context)
    new = [cluster for cluster in named if plain_name(cluster.name) not in known]
    return numbered(new, taxonomy), notes


def numbered(
    new: Sequence[ProposedCluster], taxonomy: Sequence[ProposedCluster]
) -> tuple[ProposedCluster, ...]:
    """The new clusters under ids that no cluster of the taxonomy has."""
    first = 1 + max((cluster_number(cluster.id) for cluster in taxonomy), default=0)
    return tuple(cluster.model_copy(update={"id": f"C{number}"}) for number, cluster in enumerate(new, first))


async def _named(
    groups: Sequence[Sequence[int]], found: Sequence[BatchCluster], context: CorpusContext
) -> tuple[ProposedCluster, ...]:
    """The groups as a taxonomy; the model joins those of several batches."""
    given = found_groups(groups, found, context).model_copy(update={"k": None})
    joined = unjoined(given)
    if len(groups) > 1 and len({cluster.batch for cluster in found}) > 1:
        try:
            joined = await context.node.ask(
                Reconciler(), given, texts=len(groups), round=1, ledger=context.ledger
            )
        except (AnswerError, RefusedError, BudgetError) as error:
            context.tell("revise", f"not reconciled by the model: {error}")
    return taxonomy_of(complete(joined, given))


def _texts(group: Sequence[int], found: Sequence[BatchCluster]) -> int:
    return len({member for place in group for member in found[place].members})
