"""Names groups of texts by the words that set them apart from the others."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache, lru_cache

import numpy as np

NO_WORDS = "no distinctive words"
"""The name of a group whose texts hold no word at all."""

_NO_NAMES = frozenset({"http", "https", "www", "com", "amp"})
# scikit-learn's stop words hold these too, and they can well be what a text is about.
# fmt: off
_CONTENT_WORDS = {
    "amount", "bill", "bottom", "call", "cry", "describe", "detail", "empty", "fill", "fire", "front",
    "full", "interest", "mill", "move", "name", "part", "serious", "side", "sincere", "system", "thick",
    "thin", "top",
}
# fmt: on
_LONGEST = 6_000  # characters of a text that are read for words
_WORD = r"(?u)\b[^\W\d_]{3,}\b"
_ANYTHING = r"(?u)\b[^\W_]+\b"


def distinctive_words(groups: Sequence[Sequence[str]], count: int = 3) -> list[list[str]]:
    """For each group up to `count` words, the most distinctive first.

    Class-based TF-IDF (Grootendorst, "BERTopic", arXiv:2203.05794, 2022): a group is one document, and a
    word's weight is tf * log(1 + A / f), with tf its share in the group, f its count in all groups, and A the
    mean number of words in a group. In how many of the group's texts a word stands is used for tf, so that
    one long text does not name its group. Function words and words of one or two letters count only in groups
    that hold nothing else. Groups without any word get an empty list.
    """
    named = _most_distinctive(groups, count, _WORD, _function_words() | _NO_NAMES)
    rest = [position for position, words in enumerate(named) if not words]
    if rest:
        found = _most_distinctive([groups[position] for position in rest], count, _ANYTHING, _NO_NAMES)
        for position, words in zip(rest, found, strict=True):
            named[position] = words
    return named


@cache
def _function_words() -> frozenset[str]:
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    return frozenset(ENGLISH_STOP_WORDS) - _CONTENT_WORDS


def _most_distinctive(
    groups: Sequence[Sequence[str]], count: int, pattern: str, left_out: frozenset[str]
) -> list[list[str]]:
    """The words of each group that match the pattern, by class-based TF-IDF."""
    from sklearn.feature_extraction.text import CountVectorizer

    texts = [text[:_LONGEST] for group in groups for text in group]
    owner = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    vectorizer = CountVectorizer(binary=True, stop_words=sorted(left_out), token_pattern=pattern)
    try:
        counts = vectorizer.fit_transform(texts)
    except ValueError:  # no text has a word
        return [[] for _ in groups]
    words = vectorizer.get_feature_names_out()
    named = []
    in_group = np.vstack([np.asarray(counts[owner == g].sum(axis=0)).ravel() for g in range(len(groups))])
    share = in_group / np.maximum(in_group.sum(axis=1, keepdims=True), 1)
    rarity = np.log1p(in_group.sum() / len(groups) / np.maximum(in_group.sum(axis=0), 1))
    for weights in share * rarity:
        best = np.argsort(-weights, kind="stable")[:count]
        named.append([str(words[i]) for i in best if weights[i] > 0])
    return named


def distinct_names(groups: Sequence[Sequence[str]], taken: Sequence[str] = (), prefix: str = "") -> list[str]:
    """A name for each group out of its distinctive words, e.g. `refund, charged, invoice`, behind `prefix`.

    No two names are equal, and none is one of `taken`, as `plain_name` compares them: a number is added where
    the words are the same.
    """
    used = {plain_name(name) for name in taken}
    names = []
    for words in distinctive_words(groups):
        base = name = prefix + (", ".join(words) or NO_WORDS)
        number = 1
        while plain_name(name) in used:
            number += 1
            name = f"{base} ({number})"
        used.add(plain_name(name))
        names.append(name)
    return names


@lru_cache(maxsize=4096)
def plain_name(name: str) -> str:
    """A name without case, punctuation and surplus white space, for comparing; as it is if that is all."""
    return " ".join(re.sub(r"[^\w\s/&+#-]", " ", name).casefold().split()) or name
