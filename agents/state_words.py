"""Puts a scorer's states into words: the model's answer for a text, and names for groups of texts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cluster_r1.agents.distinctive_words import NO_WORDS, plain_name
from cluster_r1.agents.scoring import Floats

_NAME_WORDS, _NAME_LENGTH = 3, 26  # the third word is left out where it makes a name long
_STEM = 4  # letters that words of one stem share at least


def likely_words(
    states: Floats, middle: Floats, words: Sequence[str], embeddings: Floats, count: int
) -> list[list[str]]:
    """The words that best answer for each state, no two of one stem.

    A word counts by its score among all words, which favours common ones, and by how far that lies above its
    score for the middle of the batch, which favours what sets the state apart; each in standard deviations.

    Args:
        states: shape (n, width).
        middle: the batch's mean state, shape (width,).
        words: that may be answered.
        embeddings: their output embeddings, shape (words, width).
        count: of words for each state.
    """
    usual = embeddings @ middle
    found = []
    for state in states:
        scores = embeddings @ state
        fit = _standard(scores) + _standard(scores - usual)
        found.append(_of_different_stems([words[i] for i in np.argsort(-fit)[: 8 * count]], count))
    return found


def group_names(listed: Sequence[Sequence[str]]) -> list[str]:
    """A name for each group, e.g. `delivery, courier, parcel`, out of its words; no two are equal.

    Args:
        listed: words of each group, the best first, larger groups first.
    """
    names: list[str] = []
    taken: set[str] = set()
    for words in listed:
        fresh = [word for word in words if word not in taken] or list(words)
        chosen = fresh[:_NAME_WORDS]
        if len(", ".join(chosen)) > _NAME_LENGTH:
            chosen = chosen[:-1]
        base = name = ", ".join(chosen) or NO_WORDS
        number = 1
        while plain_name(name) in map(plain_name, names):
            number += 1
            name = f"{base} ({number})"
        taken.update(chosen)
        names.append(name)
    return names


def _standard(scores: Floats) -> Floats:
    deviation = float(scores.std())
    standard: Floats = (scores - scores.mean()) / deviation if deviation > 1e-6 else np.zeros_like(scores)
    return standard


def _of_different_stems(words: Sequence[str], count: int) -> list[str]:
    chosen: list[str] = []
    for word in words:
        if not any(_same_stem(word, other) for other in chosen):
            chosen.append(word)
        if len(chosen) == count:
            break
    return chosen


def _same_stem(left: str, right: str) -> bool:
    """Whether one could be a form of the other: `deliver` and `delivered`, `parcel` and `parcels`."""
    shared = next(
        (i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right))
    )
    return shared >= max(_STEM, min(len(left), len(right)) - 2)
