"""Floors: what a score is worth that takes no look at the texts."""

from __future__ import annotations

import random

from cluster_r1.benchmark.systems.system import Answer, Panel, Question

_FEWEST, _MOST = 2, 20  # clusters of a random answer that may choose


class Singletons:
    """Every text alone."""

    name = identity = "singletons"
    panels: frozenset[Panel] = frozenset({"discover"})
    reads_instruction = orders_matter = spends_tokens = False

    def answer(self, question: Question) -> Answer:
        """See `System.answer`."""
        return Answer(range(len(question.texts)))


class OneCluster:
    """All texts together."""

    name = identity = "one-cluster"
    panels: frozenset[Panel] = frozenset({"discover"})
    reads_instruction = orders_matter = spends_tokens = False

    def answer(self, question: Question) -> Answer:
        """See `System.answer`."""
        return Answer([0] * len(question.texts))


class RandomLabels:
    """Each text in a cluster drawn evenly; a number of clusters that is not given is drawn from 2 to 20."""

    name = identity = "random"
    panels: frozenset[Panel] = frozenset({"given", "discover"})
    reads_instruction = spends_tokens = False
    orders_matter = True

    def answer(self, question: Question) -> Answer:
        """See `System.answer`."""
        key = (question.seed, question.instruction, *(text.id for text in question.texts))
        drawn = random.Random(repr(key))
        k = question.k or drawn.randint(_FEWEST, _MOST)
        return Answer([drawn.randrange(k) for _ in question.texts])
