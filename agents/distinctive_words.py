"""Names groups of texts by the words that set them apart from the others."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

_NO_NAMES = {"http", "https", "www", "com", "amp"}
_LONGEST = 6_000  # characters of a text that are read for words


def distinctive_words(groups: Sequence[Sequence[str]], count: int = 3) -> list[list[str]]:
    """For each group up to `count` words, the most distinctive first.

    Class-based TF-IDF (Grootendorst, "BERTopic", arXiv:2203.05794, 2022): a group is one document, and a
    word's weight is tf * log(1 + A / f), with tf its share in the group, f its count in all groups, and A the
    mean number of words in a group. In how many of the group's texts a word stands is used for tf, so that
    one long text does not name its group. Groups without any word get an empty list.
    """
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, CountVectorizer

    texts = [text[:_LONGEST] for group in groups for text in group]
    owner = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    vectorizer = CountVectorizer(
        binary=True,
        stop_words=sorted(ENGLISH_STOP_WORDS | _NO_NAMES),
        token_pattern=r"(?u)\b[^\W\d_]{3,}\b",
    )
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
        base = name = prefix + (", ".join(words) or "texts without words")
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
