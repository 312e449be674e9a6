"""What a scorer's states say of the texts: which label fits which, whether or not labels are given."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float32]


def label_scores(states: NDArray[np.float32], labels: NDArray[np.float32]) -> Scores:
    """How much better each label fits a text than it fits the texts at large: shape (texts, labels).

    A model likes some words whatever it reads; taking away each label's mean over the texts takes that away
    (contextual calibration after Zhao et al., arXiv 2102.09690, with the batch for the content-free input).

    Args:
        states: shape (texts, width), as of `ScorerModel.states`.
        labels: shape (labels, width), as of `ScorerModel.label_vectors`.
    """
    scores: Scores = states @ labels.T
    scores -= scores.mean(axis=0, keepdims=True)
    return scores
