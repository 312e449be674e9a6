"""Embeddings grouped by a standard algorithm, with a usual way to find the number of clusters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from cluster_r1.agents.models.agglomerative import cluster_embeddings
from cluster_r1.benchmark.systems.embedders import Embedder, Vectors
from cluster_r1.benchmark.systems.system import Answer, Panel, Question

Labels = NDArray[np.intp]
Group = Callable[[Vectors, int | None, int], Labels]

_MOST_TRIED = 25  # clusters, where k is chosen by a score
_SMALLEST_DENSE = 4  # texts of a HDBSCAN cluster
_FEWEST = 5  # texts that are worth grouping; fewer stay together
_SINGLE_THREADED = 1


@dataclass(frozen=True, slots=True)
class Algorithm:
    """A way to group vectors.

    Attributes:
        group: from vectors, k (None to find it) and a seed to labels, -1 for none.
        panels: those it can take part in.
        orders_matter: whether the order of the rows can change the partition.
    """

    group: Group
    panels: frozenset[Panel]
    orders_matter: bool = False


class GroupedEmbeddings:
    """An algorithm over an embedder's vectors.

    Args:
        algorithm: one of `ALGORITHMS`.
        embedder: where the vectors come from.
    """

    spends_tokens = False

    def __init__(self, algorithm: str, embedder: Embedder) -> None:
        self.name = f"{algorithm}@{embedder.name}"
        self.identity = f"{self.name} scikit-learn {version('scikit-learn')}"
        self._algorithm = ALGORITHMS[algorithm]
        self._embedder = embedder
        self.panels = self._algorithm.panels
        self.orders_matter = self._algorithm.orders_matter
        self.reads_instruction = embedder.reads_instruction

    def answer(self, question: Question) -> Answer:
        """See `System.answer`."""
        if len(question.texts) < _FEWEST:
            return Answer([0] * len(question.texts))
        vectors = self._embedder.vectors(question.wordings, question.instruction)
        labels = self._algorithm.group(vectors, question.k, question.seed).tolist()
        return Answer([None if label < 0 else label for label in labels])


def _k_means(vectors: Vectors, k: int | None, seed: int) -> Labels:
    """Lloyd's algorithm; k by the highest mean silhouette (Rousseeuw, 1987)."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_score

    def fitted(count: int) -> Labels:
        found: Labels = KMeans(count, n_init=4, random_state=seed).fit_predict(vectors)
        return found

    return fitted(k) if k else _best_cut(vectors, fitted, silhouette_score)


def _ward(vectors: Vectors, k: int | None, seed: int) -> Labels:
    """Ward's method; k by the highest variance ratio (Caliński & Harabasz, 1974)."""
    from scipy.cluster.hierarchy import fcluster, ward
    from sklearn.metrics import calinski_harabasz_score

    tree = ward(vectors)

    def cut(count: int) -> Labels:
        found: Labels = fcluster(tree, count, criterion="maxclust") - 1
        return found

    return cut(k) if k else _best_cut(vectors, cut, calinski_harabasz_score)


def _average(vectors: Vectors, k: int | None, seed: int) -> Labels:
    """The package's own baseline: `cluster_r1.agents.models.agglomerative`."""
    return cluster_embeddings(vectors, (k, k) if k else None)


def _hdbscan(vectors: Vectors, k: int | None, seed: int) -> Labels:
    """Campello, Moulavi & Sander, 2013; its noise is left unassigned."""
    from sklearn.cluster import HDBSCAN

    found: Labels = HDBSCAN(min_cluster_size=_SMALLEST_DENSE, n_jobs=_SINGLE_THREADED, copy=True).fit_predict(
        vectors
    )
    return found


def _best_cut(
    vectors: Vectors, cut: Callable[[int], Labels], score: Callable[[Vectors, Labels], float]
) -> Labels:
    distinct = len(np.unique(vectors.round(9), axis=0))
    cuts = [cut(count) for count in range(2, min(_MOST_TRIED, distinct - 1) + 1)]
    scorable = [labels for labels in cuts if 1 < len(np.unique(labels)) < len(vectors)]
    if not scorable:
        return np.zeros(len(vectors), dtype=np.intp)
    return max(scorable, key=lambda labels: score(vectors, labels))


_BOTH: frozenset[Panel] = frozenset({"given", "discover"})
_DISCOVER: frozenset[Panel] = frozenset({"discover"})

ALGORITHMS: Mapping[str, Algorithm] = {
    "kmeans": Algorithm(_k_means, _BOTH, orders_matter=True),
    "ward": Algorithm(_ward, _BOTH),
    "average": Algorithm(_average, _BOTH),
    "hdbscan": Algorithm(_hdbscan, _DISCOVER),
}
