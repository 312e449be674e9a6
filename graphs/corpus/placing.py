"""Puts texts into a taxonomy: the model reads all of them, or a part from which a classifier learns."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cluster_r1.agents.clustering.proposer import ProposedCluster
from cluster_r1.graphs.corpus.classifying import TextClassifier, can_learn
from cluster_r1.graphs.corpus.economy import estimated_disagreement, unsure_positions
from cluster_r1.graphs.corpus.places import FAILED, NOWHERE, UNREAD, Places
from cluster_r1.graphs.corpus.planning import AUDITED, UNSURE_SHARE, labelled_of
from cluster_r1.graphs.corpus.reading import Reader, enter
from cluster_r1.graphs.corpus.state import CorpusContext, Effort
from cluster_r1.types import Disagreement

Taxonomy = tuple[ProposedCluster, ...]


async def place(
    positions: NDArray[np.intp], taxonomy: Taxonomy, places: Places, effort: Effort, context: CorpusContext
) -> int:
    """Enter these texts' clusters into the places.

    With `economy` and enough texts, the model labels a random part; a classifier learns from all that the
    model has placed, and takes the others; of those it is least sure of, the model reads some.

    Returns:
        How many texts the model was to read, but for the budget.

    Raises:
        ModelError: the model is gone.
    """
    labelled = labelled_of(len(positions))
    if effort == "thorough" or len(positions) <= labelled + AUDITED:
        return await read_by_model(positions, taxonomy, places, context)
    drawn = np.random.default_rng([context.seed, 1]).choice(positions, size=labelled, replace=False)
    unread = await read_by_model(np.sort(drawn), taxonomy, places, context)
    known = np.flatnonzero(places.by_model)
    left = positions[~places.by_model[positions] & (places.cluster[positions] != FAILED)]
    if not can_learn(places.cluster[known]):
        return unread + await read_by_model(left, taxonomy, places, context)
    classifier = TextClassifier(context.at(known), places.cluster[known].tolist(), context.seed)
    labels, sure = classifier.predict(context.at(left))
    threshold = classifier.calibration.threshold
    context.tell("assign", f"the classifier is sure of {(sure >= threshold).mean():.0%}")
    places.enter_learnt(left, labels, sure)
    unsure = unsure_positions(left, sure, threshold, int(UNSURE_SHARE * len(positions)))
    return unread + await read_by_model(unsure, taxonomy, places, context, keep=True)


async def measure_disagreement(
    taxonomy: Taxonomy, places: Places, context: CorpusContext
) -> Disagreement | None:
    """Have the model read some of the texts that a classifier has placed, and see where the two differ.

    The model's word stands. None where no classifier has placed any.

    Raises:
        ModelError: the model is gone.
    """
    learnt = places.by_classifier()
    if not len(learnt):
        return None
    drawn = np.random.default_rng([context.seed, 3]).permutation(learnt)[:AUDITED]
    audited = np.sort(drawn)
    said = places.cluster[audited].copy()
    await read_by_model(audited, taxonomy, places, context, keep=True)
    seen = places.by_model[audited]
    differing = int((said[seen] != places.cluster[audited][seen]).sum())
    stay = len(learnt) - int(seen.sum())
    return estimated_disagreement(differing, int(seen.sum()), stay, len(context.texts))


async def read_by_model(
    positions: NDArray[np.intp],
    taxonomy: Taxonomy,
    places: Places,
    context: CorpusContext,
    keep: bool = False,
) -> int:
    """Have the model read these texts, and enter what it says; returns how many the budget left unread.

    With `keep`, texts that no answer places stay where they were; otherwise they are dead letters.
    """
    if not len(positions):
        return 0
    context.tell("assign", f"the model reads {len(positions):,} texts")
    reader = Reader(
        context.node,
        context.instruction,
        context.texts,
        context.ledger,
        context.counter("assign", len(positions)),
    )
    read = await reader.read(positions.tolist(), taxonomy)
    if keep:
        read.failed.clear()
    enter(places, read, taxonomy)
    return len(read.unread)


def unread_positions(places: Places) -> NDArray[np.intp]:
    """Texts that nobody has placed yet, ascending."""
    return np.flatnonzero(places.cluster == UNREAD)


def nowhere_positions(places: Places) -> NDArray[np.intp]:
    """Texts that fit no cluster, ascending."""
    return np.flatnonzero(places.cluster == NOWHERE)
