"""BERTopic over the bundled embedder's vectors: what most users of topic models have."""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec

import numpy as np

from cluster_r1.benchmark.systems.embedders import Embedder
from cluster_r1.benchmark.systems.system import Answer, Panel, Question
from cluster_r1.errors import MissingDependencyError


class BerTopicSystem:
    """BERTopic (Grootendorst, arXiv 2203.05794) with its defaults, UMAP seeded; a given k is its `nr_topics`.

    Args:
        embedder: where the vectors come from.

    Raises:
        MissingDependencyError: bertopic is not installed.
    """

    panels: frozenset[Panel] = frozenset({"given", "discover"})
    orders_matter = True
    spends_tokens = False

    def __init__(self, embedder: Embedder) -> None:
        if find_spec("bertopic") is None:
            raise MissingDependencyError('bertopic is not installed: pip install "cluster-r1[bench]"')
        self.name = f"bertopic@{embedder.name}"
        self.identity = f"{self.name} {version('bertopic')}"
        self.reads_instruction = embedder.reads_instruction
        self._embedder = embedder

    def answer(self, question: Question) -> Answer:
        """See `System.answer`. Its outliers are left unassigned."""
        from bertopic import BERTopic
        from umap import UMAP

        vectors = self._embedder.vectors(question.wordings, question.instruction).astype(np.float32)
        reduction = UMAP(
            n_neighbors=min(15, len(vectors) - 1), n_components=5, min_dist=0.0, metric="cosine",
            random_state=question.seed,
        )  # fmt: skip
        model = BERTopic(
            umap_model=reduction,
            min_topic_size=min(10, max(2, len(vectors) // 10)),
            nr_topics=question.k + 1 if question.k else None,  # its outliers count as a topic
        )
        topics, _ = model.fit_transform(question.wordings, vectors)
        names = {topic: ", ".join(word for word, _ in model.get_topic(topic)[:3]) for topic in set(topics)}
        return Answer([None if topic < 0 else int(topic) for topic in topics], names)
