"""The static embedder that comes with its weights: no network, no torch, thousands of texts a second."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster_r1.errors import MissingDependencyError

DIMENSIONS = 256
_BATCH = 256
_LONGEST = 6_000  # characters of a text that are embedded (its subject shows by then), or counted at a time


@cache
def _package() -> Path:
    spec = find_spec("wordllama")  # only its files are needed, not its code
    if spec is None or spec.origin is None:
        raise MissingDependencyError("the static embedder is missing. Install it: pip install wordllama")
    return Path(spec.origin).parent


@cache
def _weights() -> NDArray[np.float32]:
    """Token embeddings, shape (32000, 256)."""
    from safetensors.numpy import load_file

    (weights,) = load_file(_package() / "weights" / "l2_supercat_256.safetensors").values()
    matrix: NDArray[np.float32] = np.asarray(weights, dtype=np.float32)
    return matrix


@cache
def _tokenizer() -> Any:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(_package() / "tokenizers" / "l2_supercat_tokenizer_config.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def embed(texts: Sequence[str]) -> NDArray[np.float32]:
    """Unit vectors, shape (n, 256): the mean of the token embeddings of WordLlama (MIT licence).

    A text without any token gets the zero vector.
    """
    vectors = np.zeros((len(texts), DIMENSIONS), dtype=np.float32)
    for start, batch in _token_ids(texts):
        for row, ids in enumerate(batch, start):
            if ids:
                vectors[row] = _weights()[ids].mean(axis=0)
    return unit_rows(vectors)


def unit_rows(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The rows scaled to length 1; zero rows stay zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: NDArray[np.float32] = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return unit


def count_tokens(texts: Sequence[str]) -> list[int]:
    """Tokens of each text by the embedder's tokenizer (Llama 2, 32,000 entries).

    Newer models have larger vocabularies and need fewer tokens, so the count errs on the safe side; so does
    counting long texts piece by piece.
    """
    pieces = [[text[i : i + _LONGEST] for i in range(0, len(text), _LONGEST)] for text in texts]
    counts = (len(ids) for _, batch in _token_ids([p for text in pieces for p in text]) for ids in batch)
    return [sum(islice(counts, len(text))) for text in pieces]


def _token_ids(texts: Sequence[str]) -> Iterator[tuple[int, list[list[int]]]]:
    """Batches of token ids, each with the position of its first text."""
    for start in range(0, len(texts), _BATCH):
        # The tokenizer takes no lone surrogates.
        batch = [t[:_LONGEST].encode("utf-8", "replace").decode() for t in texts[start : start + _BATCH]]
        encodings = _tokenizer().encode_batch(batch, add_special_tokens=False)
        yield start, [encoding.ids for encoding in encodings]
