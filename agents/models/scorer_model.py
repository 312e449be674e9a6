"""The scorer in llama.cpp: its state after a question about a text, and what that says of labels."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from functools import cache, cached_property
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cluster_r1.agents.clustering.scorer import LONGEST, answer, answer_prompt
from cluster_r1.agents.models import local_server
from cluster_r1.agents.models.output_embeddings import OutputEmbeddings, output_embeddings
from cluster_r1.checkpoints import ADAPTER, WORDS, scorer_folder
from cluster_r1.errors import InputError, ModelError

States = NDArray[np.float32]

_SLOTS = 8
_LONGEST_PROMPT = 1024  # tokens; a token is at least a byte
_SHORTEST = 40  # characters of a text that are worth reading
_AT_ONCE = 256  # texts in one request


class ScorerModel:
    """A small language model whose states are read instead of its words.

    Args:
        weights: its GGUF file.
        adapter: a GGUF adapter on top of it, if it was trained as scorer.
        words: that it may answer with; without them all that are one token.

    Raises:
        MissingDependencyError: llama.cpp is not installed.
        ModelError: it cannot load the weights.
    """

    def __init__(self, weights: Path, adapter: Path | None = None, words: Collection[str] = ()) -> None:
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
        self._chosen_words = frozenset(words)
        self.identity = f"{weights.name} {weights.stat().st_size} {_sha256(adapter)}"
        """Tells models apart that may answer differently."""

    def states(self, texts: Sequence[str], instruction: str) -> States:
        """The last hidden state behind each text's question: shape (texts, width).

        Raises:
            InputError: the instruction alone is longer than what is read at once.
            ModelError: llama.cpp refuses a prompt.
        """
        prompts = [self._prompt(text, instruction) for text in texts]
        return np.vstack([self._embed(prompts[i : i + _AT_ONCE]) for i in range(0, len(prompts), _AT_ONCE)])

    def label_vectors(self, labels: Sequence[str]) -> States:
        """The mean output embedding of each label's tokens: shape (labels, width).

        A state times such a vector is the mean logit of the label's words, in whatever order.
        """
        return np.stack([self._rows(self._ids(label)).mean(axis=0) for label in labels])

    @cached_property
    def words(self) -> tuple[list[str], States]:
        """Words that are one token behind a space, and their output embeddings: shape (words, width)."""
        known = self._chosen_words
        found = [
            (number, token[1:])
            for number, token in enumerate(self._output.tokens)
            if _is_word(token) and (not known or token[1:] in known)
        ]
        return [word for _, word in found], self._rows([number for number, _ in found])

    def _embed(self, prompts: Sequence[str]) -> States:
        answered = self._server.handle_embeddings({"input": list(prompts)})
        if "data" not in answered:
            raise ModelError(f"llama.cpp refuses to read the texts: {answered}")
        return np.array([np.ravel(row["embedding"]) for row in answered["data"]], dtype=np.float32)

    def _prompt(self, text: str, instruction: str) -> str:
        """The prompt, with less of the text where its characters take many tokens."""
        longest = LONGEST
        while True:
            prompt = answer_prompt(text, instruction, longest)
            if len(prompt.encode()) <= _LONGEST_PROMPT or len(self._tokens(prompt)) <= _LONGEST_PROMPT:
                return prompt
            if longest < _SHORTEST:
                raise InputError(
                    f"the instruction is longer than {_LONGEST_PROMPT} tokens: say it in fewer words"
                )
            longest //= 2

    def _ids(self, label: str) -> list[int]:
        if label not in self._label_ids:
            self._label_ids[label] = self._tokens(answer(label))
        return self._label_ids[label]

    def _tokens(self, content: str) -> list[int]:
        import httpx

        response = httpx.post(
            f"{self._server.listening_address}/tokenize",
            headers={"Authorization": f"Bearer {self._key}"},
            json={"content": content, "add_special": False},
        )
        return [int(token) for token in response.raise_for_status().json()["tokens"]]

    def _rows(self, ids: Sequence[int]) -> States:
        return self._output.rows[list(ids)].astype(np.float32)

    @cached_property
    def _output(self) -> OutputEmbeddings:
        return output_embeddings(self._weights)


def scorer_adapter(name: str) -> Path | None:
    """The adapter of `local` (the shipped one) or `local:<name>`; None if that is a model that writes.

    Raises:
        InputError: the file cannot be read as GGUF.
    """
    if not name:
        return scorer_folder() / ADAPTER
    path = Path(name).expanduser()
    if not path.is_file() or find_spec("gguf") is None:
        return None  # whoever opens it as a model says what is missing
    from gguf import GGUFReader

    try:
        kind = GGUFReader(path).fields.get("general.type")
    except ValueError as error:
        raise InputError(f"{path} is no GGUF file ({error}). Convert the checkpoint to GGUF first") from None
    return path if kind is not None and kind.contents() == "adapter" else None


@cache
def open_scorer(adapter: Path) -> ScorerModel:
    """The scorer with an adapter, and the words in `words.txt` beside it; one for the whole process.

    Raises:
        MissingDependencyError: llama.cpp or the base's weights are not installed.
        ModelError: llama.cpp cannot load them.
    """
    words = adapter.with_name(WORDS)
    known = words.read_text(encoding="utf-8").split() if words.is_file() else ()
    return ScorerModel(local_server.find_weights(), adapter, known)


def _is_word(token: str) -> bool:
    """Byte-level BPE writes the space before a word as `Ġ`."""
    return (
        len(token) > 3
        and token[0] == "Ġ"
        and token[1:].isascii()
        and token[1:].isalpha()
        and token[1:].islower()
    )


def _sha256(file: Path | None) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16] if file else "no adapter"
