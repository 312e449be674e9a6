"""The embedding baseline as a reasoning node: groups by words alone, whatever the instruction says."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cluster_r1.agents.clustering.assigner import AssignerInput, Placements
from cluster_r1.agents.clustering.partition import Placement
from cluster_r1.agents.clustering.proposer import Proposal, ProposedCluster, ProposerInput
from cluster_r1.agents.distinctive_words import distinct_names, distinctive_words
from cluster_r1.agents.ledger import Ledger
from cluster_r1.agents.models.agglomerative import cluster_embeddings
from cluster_r1.agents.models.static_embedder import embed, unit_rows
from cluster_r1.agents.role import Answered, Given, Role
from cluster_r1.types import KRange

SHARED_WORDS = "Shared words: "
"""How the baseline's descriptions begin: they repeat the names, which are the first of these words."""

_CRITERION = "similar words (the embedding baseline does not follow the instruction)"


class EmbeddingNode:
    """Plays proposer and assigner with the static embedder; it can neither criticise nor refine."""

    spec = "embedding"
    context_tokens = None
    roles = frozenset({"proposer", "assigner"})
    templates: Mapping[str, str] = MappingProxyType({})  # it reads no prompts

    async def ask(
        self, role: Role[Given, Answered], given: Given, *, texts: int, round: int, ledger: Ledger
    ) -> Answered:
        """Group or assign by embeddings, in a thread, since it can take seconds."""
        answer: Any
        if isinstance(given, ProposerInput):
            answer = await asyncio.to_thread(propose, given.texts, given.k)
        elif isinstance(given, AssignerInput):
            answer = await asyncio.to_thread(assign, given)
        else:
            raise TypeError(f"the embedding baseline cannot play the {role.name}")
        return cast(Answered, answer)


def propose(texts: tuple[str, ...], k: KRange | None) -> Proposal:
    """Agglomerative clustering with inferred k, names from distinctive words.

    A text's confidence compares its similarity to the centre of its cluster with that to the next one:
    1 - (1 - own) / (1 - other), clipped to [0, 1] (a simplified silhouette).
    """
    vectors = embed(texts)
    labels = cluster_embeddings(vectors, (k.low, k.high) if k else None)
    groups = [[text for text, label in zip(texts, labels, strict=True) if label == g] for g in _range(labels)]
    similarity = vectors @ _centres(vectors, labels).T
    words = distinctive_words(groups, count=6)
    clusters = tuple(
        ProposedCluster(
            id=f"C{number}",
            name=name,
            description=f"{SHARED_WORDS}{', '.join(shared)}." if shared else "",
        )
        for number, (name, shared) in enumerate(zip(distinct_names(groups), words, strict=True), 1)
    )
    placements = [
        Placement(
            text=number,
            cluster=f"C{label + 1}",
            confidence=_confidence(row, label),
            reason=f"closest to the centre of its group (cosine {row[label]:.2f})",
        )
        for number, (label, row) in enumerate(zip(labels.tolist(), similarity, strict=True), 1)
    ]
    return Proposal(criterion=_CRITERION, clusters=clusters, placements=tuple(placements))


def assign(given: AssignerInput) -> Placements:
    """Each text to the cluster whose name and description it resembles most."""
    described = embed([f"{cluster.name}. {cluster.description}" for cluster in given.clusters])
    similarity = embed(given.texts) @ described.T
    return Placements(
        placements=tuple(
            Placement(
                text=number,
                cluster=given.clusters[int(row.argmax())].id,
                confidence=_confidence(row, int(row.argmax())),
                reason=f"closest to the cluster's description (cosine {row.max():.2f})",
            )
            for number, row in enumerate(similarity, 1)
        )
    )


def _range(labels: NDArray[np.intp]) -> range:
    return range(int(labels.max()) + 1)


def _centres(vectors: NDArray[np.float32], labels: NDArray[np.intp]) -> NDArray[np.float32]:
    return unit_rows(np.vstack([vectors[labels == group].mean(axis=0) for group in _range(labels)]))


def _confidence(similarity: NDArray[np.float32], own: int) -> float:
    if len(similarity) == 1:
        return 1.0
    nearest_other = float(np.delete(similarity, own).max())
    return round(float(np.clip(1 - (1 - similarity[own]) / max(1 - nearest_other, 1e-6), 0, 1)), 3)
