"""Decides what is read: batches, labelled sample, effort; and about what that takes."""

from __future__ import annotations

from collections.abc import Sequence

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
LABELLED_SHARE = 0.2  # of the texts: those that the model labels for the classifier,
LEAST_LABELLED = 2_000  # at least,
MOST_LABELLED = 4_000  # and at most: more teach it little
UNSURE_SHARE = 0.06  # of the texts: those the classifier is unsure of that the model reads, at most,
UNSURE = 4_000  # or so many, if that is more
AUDITED = 300  # texts of those the classifier has placed that the model reads as well

REVIEWED = 120  # texts of all clusters that a critic sees together

_PROMPT_TOKENS = 900  # of a prompt besides the texts
_ANSWER = 32  # tokens of an answer for a text
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


def labelled_of(texts: int) -> int:
    """How many of so many texts the model labels for the classifier."""
    return min(max(LEAST_LABELLED, int(LABELLED_SHARE * texts)), MOST_LABELLED)


def unsure_of(texts: int) -> int:
    """How many of so many texts the model reads at most because the classifier is unsure of them."""
    return max(UNSURE, int(UNSURE_SHARE * texts))


def make_plan(context: CorpusContext) -> Plan:
    """The plan; it depends on texts, seed and model alone.

    Raises:
        InputError: not even a few texts fit the model's context.
    """
    texts = context.texts
    size = batch_size(context)
    batches = draw_batches(
        texts, size=size, anchors=max(2, int(size * ANCHOR_SHARE)), most=MOST_BATCHES, seed=context.seed
    )
    left = len(texts) - len(batches.positions)
    return _with_cost(texts, batches, choose_effort(context.effort, len(texts), left), left)


def choose_effort(wanted: Effort | None, texts: int, left: int) -> Effort:
    """The effort as carried out: `economy` only where enough texts are left to make it worthwhile."""
    effort = wanted or ("economy" if texts > ECONOMY_FROM else "thorough")
    return effort if left > labelled_of(left) + AUDITED else "thorough"


def batch_size(context: CorpusContext) -> int:
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


def tokens_of_texts(texts: Sequence[str]) -> float:
    """About how many tokens a text takes in a prompt, on average, counted on some of them."""
    sampled = texts[:: max(1, len(texts) // _SAMPLED)]
    return sum(count_tokens(sampled)) / len(sampled) + _PER_TEXT


def texts_read(effort: Effort, left: int) -> int:
    """How many of the texts outside the batches the model reads, at most."""
    if effort == "thorough":
        return left
    return min(left, labelled_of(left) + AUDITED + unsure_of(left))


def _with_cost(texts: Sequence[str], batches: Batches, effort: Effort, left: int) -> Plan:
    """The plan with what it takes where nothing has to be asked again and no cluster is missing."""
    mean = tokens_of_texts(texts)
    grouped = sum(map(len, batches.batches))
    read = texts_read(effort, left)
    calls = len(batches.batches) + 2 + -(-read // BATCH)  # one of the reconciler, one of the critic
    sent = round((grouped + read + REVIEWED) * mean + calls * _PROMPT_TOKENS)
    answered = _ANSWER * (grouped + read)
    return Plan(
        texts=len(texts),
        batches=batches,
        effort=effort,
        calls=calls,
        tokens_in=sent,
        tokens=sent + answered,
    )
