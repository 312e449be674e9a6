"""A light classifier that takes over from the model what it has learnt to place as the model does."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, hstack
from scipy.stats import beta
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.multiclass import OneVsRestClassifier

from cluster_r1.agents.models.static_embedder import embed
from cluster_r1.types import Record

FOLDS = 3
"""Texts that a label needs before it can be learnt: one for each fold that is held out."""

_WORD = r"(?u)\b\w+\b"
_MOST_FEATURES = 20_000  # words and pairs of words, and as many parts of words
_READ = 2_000  # characters of a text whose words are looked at
_CHUNK = 20_000  # texts whose features are held at once
_SURE = 0.98  # lower bound, at 95 %, of the agreement with the model above the threshold


NEVER = 1.1
"""A threshold that no probability reaches."""


class Calibration(Record):
    """From which probability on the classifier's label is taken.

    Attributes:
        threshold: `NEVER` if it never is.
        agreement: with the model's labels above it, measured on labels that were held out,
        share: of the held-out texts that are above it.
        labelled: texts that the model had labelled.
    """

    threshold: float
    agreement: float
    share: float
    labelled: int


def can_learn(labels: NDArray[np.int32]) -> bool:
    """Whether there are at least two labels with enough texts to learn them from."""
    _, counts = np.unique(labels, return_counts=True)
    return int((counts >= FOLDS).sum()) >= 2


class TextClassifier:
    """Logistic regression on words, parts of words and the static embedding.

    Parts of words tell the tone and the spelling of a text, the embedding what words not seen before mean.
    Labels of fewer than `FOLDS` texts are not learnt; their texts count as errors in the calibration.

    Args:
        texts: that the model has labelled.
        labels: their labels, at least two of them frequent enough.
        seed: of the folds.
    """

    def __init__(self, texts: Sequence[str], labels: Sequence[int], seed: int) -> None:
        self._vectorizers = _vectorizers(texts)
        self._model = _classifier()
        features = self._features(texts)
        known = np.asarray(labels)
        values, counts = np.unique(known, return_counts=True)
        frequent = np.isin(known, values[counts >= FOLDS])
        self._model.fit(features[frequent], known[frequent])
        self.calibration = self._calibrate(features, known, frequent, seed)

    def predict(self, texts: Sequence[str]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Labels and their probabilities, each of shape (n,); features are held for some texts at a time."""
        labels, sure = np.empty(len(texts), dtype=np.intp), np.empty(len(texts))
        for start in range(0, len(texts), _CHUNK):
            chances = self._model.predict_proba(self._features(texts[start : start + _CHUNK]))
            best = chances.argmax(axis=1)
            labels[start : start + _CHUNK] = self._model.classes_[best]
            sure[start : start + _CHUNK] = chances[np.arange(len(best)), best]
        return labels, sure

    def _features(self, texts: Sequence[str]) -> csr_matrix:
        heads = [text[:_READ] for text in texts]
        counted = [vectorizer.transform(heads) for vectorizer in self._vectorizers]
        return hstack([*counted, csr_matrix(embed(texts))], format="csr")

    def _calibrate(
        self,
        features: csr_matrix,
        labels: NDArray[np.intp],
        frequent: NDArray[np.bool_],
        seed: int,
    ) -> Calibration:
        """The lowest threshold above which held-out labels agree as often as wanted."""
        folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
        chances = np.empty((len(labels), len(self._model.classes_)))
        chances[frequent] = cross_val_predict(
            _classifier(), features[frequent], labels[frequent], cv=folds, method="predict_proba"
        )
        if not frequent.all():
            chances[~frequent] = self._model.predict_proba(features[~frequent])
        right = self._model.classes_[chances.argmax(axis=1)] == labels
        return _calibration(right, chances.max(axis=1))


def _vectorizers(texts: Sequence[str]) -> list[TfidfVectorizer]:
    """Fitted, for words and parts of words; without words, as of emoji alone, for parts only."""
    heads = [text[:_READ] for text in texts]
    parts = TfidfVectorizer(
        analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True, max_features=_MOST_FEATURES
    )
    words = TfidfVectorizer(
        token_pattern=_WORD, ngram_range=(1, 2), sublinear_tf=True, max_features=_MOST_FEATURES
    )
    any_word = any(re.search(_WORD, head) for head in heads)
    return [vectorizer.fit(heads) for vectorizer in ((words, parts) if any_word else (parts,))]


def _classifier() -> OneVsRestClassifier:
    """One regression a label: hundreds of labels at once would take gigabytes.

    Balanced: a rare label would else be taken for a frequent one, and surely so. The dual form at this
    tolerance takes a fifth of the time, and is as accurate on labels of which some are wrong.
    """
    one = LogisticRegression(
        C=10.0,
        solver="liblinear",
        dual=True,
        tol=0.1,
        max_iter=300,
        class_weight="balanced",
        random_state=0,
    )
    return OneVsRestClassifier(one)


def _calibration(right: NDArray[np.bool_], sure: NDArray[np.float64]) -> Calibration:
    """From whether held-out labels agree, and the probability of each."""
    order = np.argsort(-sure)
    counts, hits = np.arange(1, len(order) + 1), np.cumsum(right[order])
    bounds = beta.ppf(0.05, hits, counts - hits + 1)  # Clopper & Pearson, Biometrika 26 (1934), one-sided
    good = np.flatnonzero(bounds >= _SURE)
    if not len(good):
        return Calibration(threshold=NEVER, agreement=0.0, share=0.0, labelled=len(order))
    last = int(good[-1])
    return Calibration(
        threshold=float(sure[order][last]),
        agreement=float(hits[last] / counts[last]),
        share=float(counts[last] / len(order)),
        labelled=len(order),
    )
