"""A light classifier that takes over from the model what it has learnt to place as the model does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from cluster_r1.agents.models.static_embedder import embed
from cluster_r1.types import Record

FOLDS = 5
"""Texts that a label needs before it can be learnt: one for each fold that is held out."""

_WORD_FEATURES = 2**16
_WORD_DIMENSIONS = 128
_CHUNK = 20_000  # texts whose features are held at once
_SURE = 0.95  # lower bound, at 95 %, of the agreement with the model above the threshold


class Calibration(Record):
    """From which probability on the classifier's label is taken.

    Attributes:
        threshold: above 1 if it never is.
        agreement: with the model's labels above it, measured on labels that were held out,
        share: of the held-out texts that are above it.
        labelled: texts that the model had labelled.
    """

    threshold: float
    agreement: float
    share: float
    labelled: int


class TextClassifier:
    """Logistic regression on the static embedding and on the words (hashed, reduced by SVD).

    Args:
        texts: that the model has labelled.
        labels: their labels, at least two different ones.
        seed: of folds and SVD.
    """

    def __init__(self, texts: Sequence[str], labels: Sequence[int], seed: int) -> None:
        self._words = HashingVectorizer(n_features=_WORD_FEATURES, ngram_range=(1, 2), alternate_sign=False)
        hashed = self._words.transform(texts)
        self._svd = TruncatedSVD(min(_WORD_DIMENSIONS, len(texts) - 1), random_state=seed).fit(hashed)
        self._model = LogisticRegression(C=10.0, max_iter=300)
        features = self._features(texts)
        known = np.asarray(labels)
        self.calibration = self._calibrate(features, known, seed)
        self._model.fit(features, known)

    def predict(self, texts: Sequence[str]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Labels and their probabilities, each of shape (n,); features are held for some texts at a time."""
        labels, sure = np.empty(len(texts), dtype=np.intp), np.empty(len(texts))
        for start in range(0, len(texts), _CHUNK):
            chances = self._model.predict_proba(self._features(texts[start : start + _CHUNK]))
            best = chances.argmax(axis=1)
            labels[start : start + _CHUNK] = self._model.classes_[best]
            sure[start : start + _CHUNK] = chances[np.arange(len(best)), best]
        return labels, sure

    def _features(self, texts: Sequence[str]) -> NDArray[np.float64]:
        reduced = self._svd.transform(self._words.transform(texts))
        return np.hstack([embed(texts), reduced])

    def _calibrate(self, features: NDArray[np.float64], labels: NDArray[np.intp], seed: int) -> Calibration:
        """The lowest threshold above which held-out labels agree as often as wanted."""
        folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
        chances = cross_val_predict(
            LogisticRegression(C=10.0, max_iter=300), features, labels, cv=folds, method="predict_proba"
        )
        classes = np.unique(labels)
        right = classes[chances.argmax(axis=1)] == labels
        sure = chances.max(axis=1)
        order = np.argsort(-sure)
        counts, hits = np.arange(1, len(order) + 1), np.cumsum(right[order])
        bounds = beta.ppf(0.05, hits, counts - hits + 1)  # Clopper & Pearson, Biometrika 26 (1934), one-sided
        good = np.flatnonzero(bounds >= _SURE)
        if not len(good):
            return Calibration(threshold=1.1, agreement=0.0, share=0.0, labelled=len(labels))
        last = int(good[-1])
        return Calibration(
            threshold=float(sure[order][last]),
            agreement=float(hits[last] / counts[last]),
            share=float(counts[last] / len(order)),
            labelled=len(labels),
        )
