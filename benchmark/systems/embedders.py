"""Embedders by name: from texts, and the instruction where it is put before them, to vectors."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster_r1.agents.models.static_embedder import embed, unit_rows
from cluster_r1.errors import InputError, MissingDependencyError, MissingKeyError, ModelError

Vectors = NDArray[np.float64]
Embed = Callable[[tuple[str, ...]], Vectors]

WITH_INSTRUCTION = "+instruction"
KINDS = "static, tfidf, sentence-transformers:<model> or openai:<model>"

_DIMENSIONS = 100  # that are left of TF-IDF by latent semantic analysis
_OPENAI_AT_ONCE = 256
_KEPT = 64  # corpora whose vectors stay in memory: the tasks of a corpus share them


@dataclass(frozen=True, slots=True)
class Embedder:
    """Embeds texts.

    Attributes:
        name: `static`, `tfidf`, `sentence-transformers:<model>` or `openai:<model>`; with `+instruction`
            behind it, the instruction is put before every text.
        embed: from texts to vectors of length 1, shape (texts, dimensions).
    """

    name: str
    embed: Embed

    @property
    def reads_instruction(self) -> bool:
        """Whether the instruction is embedded with each text."""
        return self.name.endswith(WITH_INSTRUCTION)

    def vectors(self, texts: Sequence[str], instruction: str) -> Vectors:
        """Vectors of length 1, shape (texts, dimensions)."""
        shown = [f"{instruction} {text}" for text in texts] if self.reads_instruction else texts
        return self.embed(tuple(shown))


@lru_cache(maxsize=16)
def open_embedder(name: str) -> Embedder:
    """The embedder of a name.

    Raises:
        InputError: the name is not understood, or something that it needs is missing.
    """
    kind, _, model = name.removesuffix(WITH_INSTRUCTION).partition(":")
    match kind, model:
        case "static", "":
            made: Embed = _static
        case "tfidf", "":
            made = _tfidf
        case "sentence-transformers", str(named) if named:
            made = _sentence_transformer(named)
        case "openai", str(named) if named:
            made = _openai(named)
        case _:
            raise InputError(f"unknown embedder {name!r}: there are {KINDS}, each with {WITH_INSTRUCTION}")
    return Embedder(name, lru_cache(maxsize=_KEPT)(made))


def _static(texts: tuple[str, ...]) -> Vectors:
    return embed(texts).astype(np.float64)


def _tfidf(texts: tuple[str, ...]) -> Vectors:
    """Latent semantic analysis of sublinear TF-IDF over words and pairs of words."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    counts = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), stop_words="english")
    if len({word for text in texts for word in counts.build_analyzer()(text)}) < 2:
        return np.ones((len(texts), 1))  # there is nothing that could tell them apart
    table = counts.fit_transform(texts)
    dimensions = min(_DIMENSIONS, len(texts) - 1, table.shape[1] - 1)
    return _unit(TruncatedSVD(dimensions, random_state=0).fit_transform(table))


def _sentence_transformer(model: str) -> Embed:
    if find_spec("sentence_transformers") is None:
        raise MissingDependencyError('this embedder needs a package: pip install "cluster-r1[bench]"')
    from sentence_transformers import SentenceTransformer

    try:
        loaded = SentenceTransformer(model)
    except OSError as error:
        said = " ".join(str(error).split())[:200]
        raise InputError(f"the embedder {model!r} cannot be loaded: {said}. Name a local folder") from error
    return lambda texts: _unit(np.asarray(loaded.encode(list(texts), show_progress_bar=False)))


def _openai(model: str) -> Embed:
    if not os.environ.get("OPENAI_API_KEY"):
        raise MissingKeyError(f"the embedder openai:{model} needs a key: set OPENAI_API_KEY")
    return partial(_ask_openai, model)


def _ask_openai(model: str, texts: tuple[str, ...]) -> Vectors:
    from openai import OpenAI, OpenAIError

    client = OpenAI()
    try:
        answers = [
            client.embeddings.create(
                model=model, input=list(texts[start : start + _OPENAI_AT_ONCE]), encoding_format="float"
            )
            for start in range(0, len(texts), _OPENAI_AT_ONCE)
        ]
    except OpenAIError as error:
        raise ModelError(f"openai:{model} did not embed the texts: {error}") from error
    return _unit(np.array([row.embedding for answer in answers for row in answer.data]))


def _unit(vectors: NDArray[Any]) -> Vectors:
    return unit_rows(vectors).astype(np.float64)
