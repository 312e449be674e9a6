"""Decides what is read: batches, labelled sample, effort; and about what that takes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cluster_r1.agents.clustering.fitting import fit_texts
from cluster_r1.agents.models.static_embedder import count_tokens
from cluster_r1.agents.reasoning_node import ReasoningNode
from cluster_r1.errors import InputError
from cluster_r1.graphs.corpus.reading import BATCH
from cluster_r1.graphs.corpus.sampling import Batches, draw_batches
from cluster_r1.graphs.corpus.state import CorpusContext, Effort, Plan
from cluster_r1.types import Text

MOST_AT_ONCE = 200  # different texts that are grouped in one context
BATCH_TEXTS = 100  # that are grouped in one context
ANCHOR_SHARE = 0.2  # of a batch
MOST_BATCHES = 10
ECONOMY_FROM = 2_000  # texts above which a classifier helps, if nobody says otherwise
LABELLED = 2_000  # texts that the model labels for the classifier, besides those of the batches
UNSURE_SHARE = 0.04  # of the texts: those the classifier is unsure of that the model reads
AUDITED = 300  # texts of those the classifier has placed that the model reads as well

_PROMPT_TOKENS = 900  # of a prompt besides the texts
_PER_TEXT = 6  # tokens around a text in a prompt
_SAMPLED = 2_000  # texts whose tokens are counted


def needs_batches(texts: Sequence[Text], instruction: str, node: ReasoningNode) -> bool:
    """Whether texts are too many for one context: more than a model groups well, or than fit.

    Nodes without a context (embeddings, the scorer) take any number at once.
    """
    if node.context_tokens is None or "assigner" not in node.roles:
        return False
    different = {" ".join(text.text.split()) for text in texts}
    if len(different) > MOST_AT_ONCE:
        return True
    try:
        fit_texts(list(different), instruction, node.context_tokens)
    except InputError:
        return True
    return False


def make_plan(context: CorpusContext) -> Plan:
    """The plan; it depends on texts, seed and model alone.

    Raises:
        InputError: not even a few texts fit the model's context.
    """
    texts = context.texts
    size = _batch_size(context)
    batches = draw_batches(
        texts, size=size, anchors=max(2, int(size * ANCHOR_SHARE)), most=MOST_BATCHES, seed=context.seed
    )
    seen = set(batches.positions)
    left = np.array([position for position in range(len(texts)) if position not in seen], dtype=np.intp)
    effort: Effort = context.effort or ("economy" if len(texts) > ECONOMY_FROM else "thorough")
    labelled: tuple[int, ...] = ()
    if effort == "economy" and len(left) > LABELLED + AUDITED:
        drawn = np.random.default_rng([context.seed, 1]).choice(left, size=LABELLED, replace=False)
        labelled = tuple(int(position) for position in np.sort(drawn))
    else:
        effort = "thorough"
    return _with_cost(texts, batches, labelled, effort, len(left))


def _batch_size(context: CorpusContext) -> int:
    """Texts of a batch: as many as usual, or as fit the model's context."""
    size = BATCH_TEXTS
    longest_first = sorted(context.texts[: 50 * size], key=len, reverse=True)
    while size >= 8:
        try:
            fit_texts(longest_first[:size], context.instruction, context.node.context_tokens)
            return size
        except InputError:
            size = size * 3 // 4
    raise InputError("the texts do not fit the model's context, not even a few at once: take another model")


def _with_cost(
    texts: Sequence[str], batches: Batches, labelled: tuple[int, ...], effort: Effort, left: int
) -> Plan:
    step = max(1, len(texts) // _SAMPLED)
    sampled = texts[::step]
    mean = sum(count_tokens(sampled)) / len(sampled) + _PER_TEXT
    grouped = sum(map(len, batches.batches))
    read = left if effort == "thorough" else len(labelled) + AUDITED + int(UNSURE_SHARE * len(texts))
    calls = 2 * len(batches.batches) + 1 + -(-read // BATCH)
    tokens = (2 * grouped + read) * mean + calls * _PROMPT_TOKENS + 32 * (grouped + read)
    return Plan(
        texts=len(texts), batches=batches, labelled=labelled, effort=effort, calls=calls, tokens=round(tokens)
    )
