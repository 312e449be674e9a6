"""A scikit-learn estimator over the clustering agent."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClusterMixin

from cluster_r1.agent import ClusteringAgent
from cluster_r1.result import ClusteringResult


class InstructionClusterer(ClusterMixin, BaseEstimator):  # type: ignore[misc]
    """Clusters texts by an instruction, in scikit-learn's terms.

    Parameters
    ----------
    instruction : str
        What decides the grouping.
    model : str, default=""
        Spec string of the model; empty for the default of this machine.
    n_clusters : int, tuple of (low, high), str or None, default=None
        How many clusters; None leaves it to the model.
    rounds : int, default=2
        How often the clustering may be refined.
    budget_tokens : int or None, default=None
        The most tokens a fit may spend.
    random_state : int, default=0
        Another number has the model answer anew, past the cache.

    Attributes
    ----------
    labels_ : ndarray of shape (n_samples,)
        Cluster of each text, from 0 on, the largest cluster first; -1 for texts in no cluster.
    n_clusters_ : int
        How many clusters were found.
    cluster_names_ : ndarray of shape (n_clusters_,)
        Their names.
    result_ : ClusteringResult
        Everything else: reasons, confidences, rounds, usage.
    """

    def __init__(
        self,
        instruction: str,
        model: str = "",
        n_clusters: int | tuple[int, int] | str | None = None,
        rounds: int = 2,
        budget_tokens: int | None = None,
        random_state: int = 0,
    ) -> None:
        self.instruction = instruction
        self.model = model
        self.n_clusters = n_clusters
        self.rounds = rounds
        self.budget_tokens = budget_tokens
        self.random_state = random_state

    def fit(self, X: Any, y: object = None) -> InstructionClusterer:  # noqa: N803 - scikit-learn's name
        """Cluster the texts in X.

        Parameters
        ----------
        X : iterable of str, or anything else `ClusteringAgent.cluster` takes
        y : ignored

        Returns
        -------
        self
        """
        agent = ClusteringAgent(
            self.model, rounds=self.rounds, budget_tokens=self.budget_tokens, seed=self.random_state
        )
        self.result_: ClusteringResult = agent.cluster(_column(X), self.instruction, self.n_clusters)
        self.labels_: NDArray[np.intp] = self.result_.labels
        self.n_clusters_ = self.result_.n_clusters
        self.cluster_names_ = np.array([cluster.name for cluster in self.result_.clusters], dtype=object)
        return self

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        return tags


def _column(data: Any) -> Any:
    """scikit-learn hands texts on as arrays of shape (n, 1) at times."""
    if isinstance(data, np.ndarray) and data.ndim == 2 and data.shape[1] == 1:
        return data[:, 0]
    return data
