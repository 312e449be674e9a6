"""What the model still reads where a classifier has placed the texts, and how far the two differ."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from cluster_r1.types import Disagreement

_Z = 1.96  # of a 95 % interval


def unsure_positions(
    unread: NDArray[np.intp], sure: NDArray[np.float64], threshold: float, most: int
) -> NDArray[np.intp]:
    """The texts that the classifier is least sure of, below the threshold, at most so many; ascending.

    Args:
        unread: shape (n,), positions in the corpus.
        sure: shape (n,), the classifier's probability for each.
        threshold: from which on it is trusted.
        most: that may be read.
    """
    below = np.flatnonzero(sure < threshold)
    chosen = below[np.argsort(sure[below], kind="stable")[:most]]
    return np.sort(unread[chosen])


def estimated_disagreement(differing: int, audited: int, by_classifier: int, texts: int) -> Disagreement:
    """The share of all texts that the model would place otherwise, from a random audit of the classifier's.

    Wilson's interval (Journal of the American Statistical Association 22, 1927) of the audited texts, times
    the share of the texts that the classifier has placed.
    """
    if not audited:
        return Disagreement(value=0.0, low=0.0, high=by_classifier / texts, audited=0)
    share, rate = by_classifier / texts, differing / audited
    scale = 1 + _Z**2 / audited
    middle = (rate + _Z**2 / (2 * audited)) / scale
    reach = _Z / scale * math.sqrt(rate * (1 - rate) / audited + _Z**2 / (4 * audited**2))
    return Disagreement(
        value=round(share * rate, 4),
        low=round(share * max(0.0, middle - reach), 4),
        high=round(share * min(1.0, middle + reach), 4),
        audited=audited,
    )
