"""What the model still reads where a classifier has placed the texts, and how far the two differ."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from cluster_r1.types import Disagreement


def unsure_positions(
    unread: NDArray[np.intp], sure: NDArray[np.float64], threshold: float, most: int
) -> NDArray[np.intp]:
    """The texts that the classifier is least sure of, at most so many; ascending.

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

    Wilson's 95 % interval (Journal of the American Statistical Association 22, 1927) of the audited texts,
    times the share of the texts that stay where the classifier has placed them. At least one is audited.
    """
    share = by_classifier / texts
    interval = binomtest(differing, audited).proportion_ci(method="wilson")
    return Disagreement(
        value=round(share * differing / audited, 4),
        low=round(share * interval.low, 4),
        high=round(share * interval.high, 4),
        audited=audited,
    )
