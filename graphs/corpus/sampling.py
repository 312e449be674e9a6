"""Which texts the model sees first: batches that cover the corpus, and the anchors that all of them share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import kmeans_plusplus

from cluster_r1.agents.models.static_embedder import embed
from cluster_r1.types import Record

_POOL = 10_000  # texts that a varied sample is chosen from


class Batches(Record):
    """Positions of texts: `anchors` stand in every batch, all others in one at most."""

    anchors: tuple[int, ...]
    batches: tuple[tuple[int, ...], ...]

    @property
    def positions(self) -> tuple[int, ...]:
        """All texts of the batches, each once, in order."""
        return tuple(sorted({position for batch in self.batches for position in batch}))


def draw_batches(texts: Sequence[str], *, size: int, anchors: int, most: int, seed: int) -> Batches:
    """At most `most` batches of at most `size` texts.

    Half of the texts are drawn at random, so that what is frequent is seen as often as it occurs; half such
    that they lie far apart (k-means++ seeding: Arthur & Vassilvitskii, SODA 2007), so that what is rare is
    seen at all.
    A corpus that the batches can hold is seen as a whole.

    Args:
        texts: the corpus.
        size: texts of a batch, anchors included.
        anchors: texts that all batches share.
        most: batches.
        seed: of the draw.
    """
    random = np.random.default_rng(seed)
    room = most * (size - anchors) + anchors
    chosen = random.permutation(_varied(texts, room, random) if len(texts) > room else len(texts))
    shared, rest = chosen[:anchors], chosen[anchors:]
    count = max(1, -(-len(rest) // (size - anchors)))
    parts = np.array_split(rest, count)
    return Batches(
        anchors=tuple(int(position) for position in np.sort(shared)),
        batches=tuple(
            tuple(int(position) for position in random.permutation(np.concatenate([shared, part])))
            for part in parts
        ),
    )


def _varied(texts: Sequence[str], count: int, random: np.random.Generator) -> NDArray[np.intp]:
    """Positions of so many texts, half at random, half far apart."""
    pool = random.choice(len(texts), size=min(len(texts), max(_POOL, count)), replace=False)
    at_random = pool[: count // 2]
    rest = pool[count // 2 :]
    vectors = embed([texts[position] for position in rest])
    seed = int(random.integers(2**31))
    _, apart = kmeans_plusplus(vectors, n_clusters=count - len(at_random), random_state=seed)
    far = np.unique(apart)  # equal vectors may be chosen twice
    missing = count - len(at_random) - len(far)
    others = np.setdiff1d(np.arange(len(rest)), far)[:missing]
    return np.concatenate([at_random, rest[far], rest[others]])
