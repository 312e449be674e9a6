"""Makes texts fit a model's context: long ones are shortened with a mark, too many are refused."""

from __future__ import annotations

from collections.abc import Sequence

from cluster_r1.agents.models.static_embedder import count_tokens
from cluster_r1.errors import InputError
from cluster_r1.types import Record

MARK = " [… shortened …] "

_PROMPT_TOKENS = 1_200  # system prompt, schema, clusters and findings around the texts
_ANSWER_TOKENS_PER_TEXT = 30
_MOST_REASONING = 8_192  # tokens left free for reasoning, or a quarter of the context if that is less
_LEAST_PER_TEXT = 32  # tokens; below this a text says too little, and it is better to send fewer texts
_NUMBER_TOKENS = 4  # "[12] " and the line break


class Fitted(Record):
    """Texts as prompts show them, and how many of them are shortened."""

    shown: tuple[str, ...]
    shortened: int = 0


def fit_texts(texts: Sequence[str], instruction: str, context_tokens: int | None) -> Fitted:
    """Shorten the longest texts until all fit one context together.

    Raises:
        InputError: too many texts for the context even so; the message names sizes and remedies.
    """
    if context_tokens is None or _surely_fits(texts, instruction, context_tokens):
        return Fitted(shown=tuple(texts))
    counts = count_tokens(texts)
    (instruction_tokens,) = count_tokens([instruction])
    room = _room(len(texts), instruction_tokens, context_tokens)
    cap = _cap(counts, room)
    if cap < min(_LEAST_PER_TEXT, max(counts, default=0)):
        limit = _fitting(counts, instruction_tokens, context_tokens)
        raise InputError(_too_many(counts, context_tokens - room, context_tokens, limit))
    shown = tuple(
        text if count <= cap else shorten(text, count, cap) for text, count in zip(texts, counts, strict=True)
    )
    return Fitted(shown=shown, shortened=sum(count > cap for count in counts))


def _too_many(counts: Sequence[int], around: int, context_tokens: int, limit: int) -> str:
    """What the texts and all around them need, and what to do about it."""
    first = f"take the first {limit} (--limit {limit})" if limit else "set a larger --context-tokens"
    return (
        f"{len(counts)} texts do not fit the model's context of {context_tokens} tokens: they need about "
        f"{sum(counts) + around}, {sum(counts)} for the texts and {around} for prompt, answer and reasoning. "
        f"Remedies: {first}, a model with a larger context, or the model embedding (--model embedding)"
    )


def shorten(text: str, tokens: int, most: int) -> str:
    """A text of so many tokens cut to at most `most`: two thirds from its start, a mark, the rest its end.

    Texts are not equally dense throughout, so the cut is counted, and made shorter until it fits.
    """
    share = most / tokens
    while True:
        kept = max(int(len(text) * share) - len(MARK), 3)
        head = kept * 2 // 3
        cut = f"{text[:head].rstrip()}{MARK}{text[len(text) - (kept - head) :].lstrip()}"
        (counted,) = count_tokens([cut])
        if counted <= most or kept == 3:
            return cut
        share *= 0.95 * most / counted


def _surely_fits(texts: Sequence[str], instruction: str, context_tokens: int) -> bool:
    """Whether all fit even if each byte were a token (none takes more); spares the counting."""
    most = sum(len(text.encode("utf-8", "replace")) for text in texts)
    return most <= _room(len(texts), len(instruction.encode("utf-8", "replace")), context_tokens)


def _room(texts: int, instruction_tokens: int, context_tokens: int) -> int:
    """Tokens that the wording of this many texts may take together."""
    around = _PROMPT_TOKENS + 2 * instruction_tokens + texts * (_NUMBER_TOKENS + _ANSWER_TOKENS_PER_TEXT)
    reasoning = min(_MOST_REASONING, context_tokens // 4)
    return context_tokens - around - reasoning


def _cap(counts: Sequence[int], room: int) -> int:
    """The largest length such that all texts, cut to it, fit the room (water-filling)."""
    left = room
    remaining = sorted(counts)
    for position, count in enumerate(remaining):
        share = left // (len(remaining) - position)
        if count > share:
            return max(share, 0)
        left -= count
    return max(remaining, default=0) if left >= 0 else 0


def _fitting(counts: Sequence[int], instruction_tokens: int, context_tokens: int) -> int:
    """How many of the first texts would fit."""
    low, high = 0, len(counts)
    while low < high:
        middle = (low + high + 1) // 2
        cap = _cap(counts[:middle], _room(middle, instruction_tokens, context_tokens))
        fits = cap >= min(_LEAST_PER_TEXT, max(counts[:middle]))
        low, high = (middle, high) if fits else (low, middle - 1)
    return low
