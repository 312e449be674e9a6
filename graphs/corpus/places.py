"""Where each text of a corpus stands, in arrays: a corpus may have a million."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

NOWHERE = -1
"""The model found that the text fits no cluster."""

UNREAD = -2
"""The text was not read yet."""

FAILED = -3
"""No answer placed the text: a dead letter, with its reason."""


@dataclass
class Places:
    """Where each text stands: arrays of shape (n,), and reasons of those that the model read.

    Attributes:
        cluster: position in the taxonomy, or one of the above.
        confidence: in [0, 1]; NaN where there is none.
        by_model: whether the model has placed it.
        learnt: whether a classifier has.
        reasons: by position.
    """

    cluster: NDArray[np.int32]
    confidence: NDArray[np.float32]
    by_model: NDArray[np.bool_]
    learnt: NDArray[np.bool_]
    reasons: dict[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, texts: int) -> Places:
        """All unread."""
        return cls(
            np.full(texts, UNREAD, dtype=np.int32),
            np.full(texts, np.nan, dtype=np.float32),
            np.zeros(texts, dtype=np.bool_),
            np.zeros(texts, dtype=np.bool_),
        )

    def enter_learnt(
        self, positions: NDArray[np.intp], labels: NDArray[np.intp], sure: NDArray[np.float64]
    ) -> None:
        """Enter where a classifier puts these texts, and how sure it is."""
        self.cluster[positions], self.confidence[positions] = labels, sure
        self.by_model[positions], self.learnt[positions] = False, True
        for position in positions.tolist() if self.reasons else ():
            self.reasons.pop(position, None)

    def by_classifier(self) -> NDArray[np.intp]:
        """Texts that stand where a classifier has put them, ascending."""
        return np.flatnonzero(self.learnt)

    def where(self, cluster: int) -> NDArray[np.intp]:
        """Texts of a cluster, or of NOWHERE, UNREAD, FAILED; ascending."""
        return np.flatnonzero(self.cluster == cluster)
