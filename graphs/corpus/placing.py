"""Puts texts into a taxonomy: the model reads all of them, or a part from which a classifier learns."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cluster_r1.agents.clustering.proposer import ProposedCluster
from cluster_r1.graphs.corpus.classifying import NEVER, TextClassifier, can_learn
from cluster_r1.graphs.corpus.economy import estimated_disagreement, unsure_positions
from cluster_r1.graphs.corpus.places import NOWHERE, UNREAD, Places
from cluster_r1.graphs.corpus.planning import AUDITED, labelled_of, unsure_of
from cluster_r1.graphs.corpus.reading import Read, Reader, enter
from cluster_r1.graphs.corpus.state import CorpusContext, Effort
from cluster_r1.types import Disagreement

Taxonomy = tuple[ProposedCluster, ...]

_MUCH = 0.1  # share of the texts on which model and classifier differ, from which on the user is told


async def place(
    positions: NDArray[np.intp],
    taxonomy: Taxonomy,
    places: Places,
    effort: Effort,
    context: CorpusContext,
    *,
    keep: bool = False,
) -> int:
    """Enter these texts' clusters into the places.

    With `economy` and enough texts, the model labels a random part; a classifier learns from all that the
    model has placed, and takes the others; of those it is not sure of, the model reads some.

    Args:
        positions: of the texts.
        taxonomy: what they are put into; the first clusters of the places.
        places: where they are entered.
        effort: of the run.
        context: of the corpus.
        keep: leave texts that no answer places where they stand, instead of counting them as failed.

    Returns:
        How many texts the model was to read, but for the budget.

    Raises:
        ModelError: the model is gone.
    """
    labelled = labelled_of(len(positions))
    if effort == "thorough" or len(positions) <= labelled + AUDITED:
        read = await read_by_model(positions, taxonomy, places, context, keep=keep)
        return len(read.unread)
    drawn = np.random.default_rng([context.seed, 1]).choice(positions, size=labelled, replace=False)
    sample = await read_by_model(np.sort(drawn), taxonomy, places, context, keep=keep)
    done = np.array([*sample.placements, *sample.failed], dtype=np.intp)
    left = np.setdiff1d(positions, done)
    known = np.setdiff1d(np.flatnonzero(places.by_model), left)
    labels, sure, threshold = _learnt(known, left, places, context)
    places.enter_learnt(left, labels, sure)
    unsure = unsure_positions(left, sure, threshold, unsure_of(len(positions)))
    rest = await read_by_model(unsure, taxonomy, places, context, keep=True)
    return len(sample.unread) + len(rest.unread)


def _learnt(
    known: NDArray[np.intp], left: NDArray[np.intp], places: Places, context: CorpusContext
) -> tuple[NDArray[np.intp], NDArray[np.float64], float]:
    """Labels of the texts that are left and their probabilities, learnt from the known; the threshold."""
    said = places.cluster[known]
    if not can_learn(said):  # all is one, as far as anybody knows; the audit will tell
        values, counts = np.unique(said, return_counts=True)
        label, share = (values[counts.argmax()], counts.max() / len(said)) if len(said) else (NOWHERE, 0.0)
        return np.full(len(left), label, dtype=np.intp), np.full(len(left), float(share)), NEVER
    context.tell("assign", f"a classifier learns from {len(known):,} texts, and places {len(left):,}")
    classifier = TextClassifier(context.at(known), said.tolist(), context.seed)
    labels, sure = classifier.predict(context.at(left))
    threshold = classifier.calibration.threshold
    context.tell("assign", f"the classifier is sure of {(sure >= threshold).mean():.0%}")
    return labels, sure, threshold


async def measure_disagreement(
    taxonomy: Taxonomy, places: Places, context: CorpusContext
) -> tuple[Disagreement | None, list[str]]:
    """Have the model read some of the texts that a classifier has placed, and see where the two differ.

    The model's word stands. None where no classifier has placed any, or the budget is spent; notes say that,
    and what to do where they differ much.

    Raises:
        ModelError: the model is gone.
    """
    learnt = places.by_classifier()
    if not len(learnt):
        return None, []
    drawn = np.random.default_rng([context.seed, 3]).permutation(learnt)[:AUDITED]
    audited = np.sort(drawn)
    said = places.cluster[audited].copy()
    read = await read_by_model(audited, taxonomy, places, context, keep=True)
    if not read.placements:
        return None, ["the budget was spent before it was measured how often the classifier is right"]
    seen = places.by_model[audited]
    differing = int((said[seen] != places.cluster[audited][seen]).sum())
    stay = len(learnt) - int(seen.sum())
    measured = estimated_disagreement(differing, int(seen.sum()), stay, len(context.texts))
    return measured, _advice(measured)


def _advice(measured: Disagreement) -> list[str]:
    """What to do where the classifier is often wrong."""
    if measured.value < _MUCH:
        return []
    return [
        f"the model would place about {measured.value:.0%} of the texts elsewhere than the classifier did: "
        "with the effort thorough it reads all of them (--effort thorough, effort=)"
    ]


def unread_notes(unread: int, places: Places) -> list[str]:
    """What became of texts that the model was to read, but for the budget."""
    if not unread:
        return []
    nobody = len(places.where(UNREAD))
    if nobody:
        return [f"{nobody} texts were not read: the budget was spent before"]
    return [
        f"the budget was spent before the model had read {unread} more texts: they stand where a classifier "
        "has put them, or where they stood before"
    ]


async def read_by_model(
    positions: NDArray[np.intp],
    taxonomy: Taxonomy,
    places: Places,
    context: CorpusContext,
    *,
    keep: bool = False,
) -> Read:
    """Have the model read these texts, and enter what it says; `keep` as for `place`."""
    if not len(positions):
        return Read()
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
    return read
