"""The scorer in llama.cpp: its state after a question about a text, and what that says of labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster_r1.agents.clustering.scorer import answer, answer_prompt
from cluster_r1.agents.models import local_server
from cluster_r1.errors import ModelError

States = NDArray[np.float32]

_SLOTS = 8
_LONGEST_PROMPT = 1024  # tokens; a text is cut well before
_AT_ONCE = 256  # texts in one request
_OUTPUT_TENSORS = ("output.weight", "token_embd.weight")  # the second where both are the same


class ScorerModel:
    """A small language model whose states are read instead of its words.

    Args:
        weights: its GGUF file.
        adapter: a GGUF adapter on top of it, if it was trained as scorer.

    Raises:
        MissingDependencyError: llama.cpp is not installed.
        ModelError: it cannot load the weights.
    """

    def __init__(self, weights: Path, adapter: Path | None = None) -> None:
        import xllamacpp

        params = local_server.parameters(weights, slots=_SLOTS, context_tokens=_LONGEST_PROMPT)
        params.embedding = True
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_LAST
        params.embd_normalize = -1  # as they are
        params.n_batch = params.n_ubatch = _LONGEST_PROMPT
        if adapter is not None:
            lora = xllamacpp.CommonAdapterLoraInfo()
            lora.path, lora.scale = str(adapter), 1.0
            params.lora_adapters = [lora]
        self._weights = weights
        self._server = local_server.load(params)
        self._key = params.api_keys[0]
        self._label_ids: dict[str, list[int]] = {}

    def states(self, texts: Sequence[str], instruction: str) -> States:
        """The last hidden state behind each text's question: shape (texts, width).

        Raises:
            ModelError: llama.cpp refuses a prompt.
        """
        prompts = [answer_prompt(text, instruction) for text in texts]
        return np.vstack([self._embed(prompts[i : i + _AT_ONCE]) for i in range(0, len(prompts), _AT_ONCE)])

    def label_vectors(self, labels: Sequence[str]) -> States:
        """The mean output embedding of each label's tokens: shape (labels, width).

        A state times such a vector is the mean logit of the label's words, in whatever order.
        """
        return np.stack([self._output_embeddings[self._ids(label)].mean(axis=0) for label in labels])

    @cached_property
    def words(self) -> tuple[list[str], States]:
        """Words that are one token behind a space, and their output embeddings: shape (words, width)."""
        found = [(number, token[1:]) for number, token in enumerate(self._vocabulary()) if _is_word(token)]
        numbers = [number for number, _ in found]
        return [word for _, word in found], self._output_embeddings[numbers]

    def _embed(self, prompts: Sequence[str]) -> States:
        answered = self._server.handle_embeddings({"input": list(prompts)})
        if "data" not in answered:
            raise ModelError(f"llama.cpp refuses to read the texts: {answered}")
        return np.array([np.ravel(row["embedding"]) for row in answered["data"]], dtype=np.float32)

    def _ids(self, label: str) -> list[int]:
        import httpx

        if label not in self._label_ids:
            response = httpx.post(
                f"{self._server.listening_address}/tokenize",
                headers={"Authorization": f"Bearer {self._key}"},
                json={"content": answer(label), "add_special": False},
            )
            self._label_ids[label] = [int(token) for token in response.raise_for_status().json()["tokens"]]
        return self._label_ids[label]

    @cached_property
    def _output_embeddings(self) -> States:
        from gguf import GGUFReader, dequantize

        tensors = {tensor.name: tensor for tensor in GGUFReader(self._weights).tensors}
        tensor = next(tensors[name] for name in _OUTPUT_TENSORS if name in tensors)
        return np.asarray(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)

    def _vocabulary(self) -> Iterator[str]:
        from gguf import GGUFReader

        field: Any = GGUFReader(self._weights).fields["tokenizer.ggml.tokens"]
        for part in field.data:
            yield bytes(field.parts[part]).decode("utf-8")


def _is_word(token: str) -> bool:
    """Byte-level BPE writes the space before a word as `Ġ`."""
    return (
        len(token) > 3
        and token[0] == "Ġ"
        and token[1:].isascii()
        and token[1:].isalpha()
        and token[1:].islower()
    )
