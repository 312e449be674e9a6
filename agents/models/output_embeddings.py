"""What a GGUF model multiplies its state with to score a token; read from the file once, then kept."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster_r1.agents.models.cache import default_cache_path

_TENSORS = ("output.weight", "token_embd.weight")  # the second where both are the same
_TOKENS, _ROWS = "tokens.json", "output_embeddings.npy"


@dataclass(frozen=True, slots=True)
class OutputEmbeddings:
    """The vocabulary and its rows.

    Attributes:
        tokens: as the vocabulary writes them.
        rows: shape (tokens, width), in half precision, on disk until they are used.
    """

    tokens: list[str]
    rows: NDArray[np.float16]


def output_embeddings(weights: Path) -> OutputEmbeddings:
    """Those of a GGUF file. Reading it takes seconds, so they are kept beside the response cache."""
    folder = default_cache_path().parent / "base" / f"{weights.stem}-{weights.stat().st_size}-output"
    try:
        return _kept(folder)
    except (OSError, ValueError):  # not there yet, or damaged
        _keep(_read(weights), folder)
        return _kept(folder)


def _kept(folder: Path) -> OutputEmbeddings:
    rows = np.load(folder / _ROWS, mmap_mode="r")
    tokens = json.loads((folder / _TOKENS).read_text(encoding="utf-8"))
    if rows.ndim != 2 or len(tokens) != len(rows):
        raise ValueError(f"{folder} is damaged")
    return OutputEmbeddings(tokens, rows)


def _read(weights: Path) -> OutputEmbeddings:
    from gguf import GGUFReader, dequantize

    reader = GGUFReader(weights)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    tensor = next(tensors[name] for name in _TENSORS if name in tensors)
    field: Any = reader.fields["tokenizer.ggml.tokens"]
    tokens = [bytes(field.parts[part]).decode("utf-8") for part in field.data]
    return OutputEmbeddings(tokens, dequantize(tensor.data, tensor.tensor_type).astype(np.float16))


def _keep(found: OutputEmbeddings, folder: Path) -> None:
    """Write both files whole, so that another process never sees a part."""
    folder.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=folder, delete=False) as rows:
        np.save(rows, found.rows)
    os.replace(rows.name, folder / _ROWS)
    with NamedTemporaryFile("w", dir=folder, delete=False, encoding="utf-8") as tokens:
        json.dump(found.tokens, tokens)
    os.replace(tokens.name, folder / _TOKENS)
