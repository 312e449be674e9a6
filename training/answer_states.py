"""What a language model thinks after each of several questions about a text, which it reads only once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cluster_r1.agents.clustering.scorer import answer, text_and_question

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_NOTHING, _TEXT = -2, -1  # what a position belongs to, if not to a question


@dataclass(frozen=True, slots=True)
class Tokens:
    """A batch of rows: a text, then its questions, each of which sees the text and itself alone.

    Attributes:
        ids, positions: shape (texts, length); a question's positions go on from the text's.
        owners: likewise: the number of the question that a token belongs to, or the text.
        ends: shape (texts, questions): where each question ends.
    """

    ids: Tensor
    positions: Tensor
    owners: Tensor
    ends: Tensor

    def mask(self, dtype: Any) -> Tensor:
        """What each token sees, as attention adds it: shape (texts, 1, length, length)."""
        import torch

        length = self.ids.shape[1]
        before = torch.ones((length, length), dtype=torch.bool).tril().to(self.ids.device)
        same = self.owners[:, :, None] == self.owners[:, None, :]
        seen = before & (same | (self.owners[:, None, :] == _TEXT)) & (self.owners[:, None, :] != _NOTHING)
        seen |= torch.eye(
            length, dtype=torch.bool, device=self.ids.device
        )  # padding sees itself: no empty rows
        hidden = torch.zeros(seen.shape, dtype=dtype, device=self.ids.device)
        return hidden.masked_fill(~seen, torch.finfo(dtype).min)[:, None]


class AnswerReader:
    """Reads texts with a model and looks at its states, not at what it would write.

    Args:
        model: a causal language model, with or without an adapter.
        tokenizer: its tokenizer.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._decoder: Any = getattr(model, "get_base_model", lambda: model)().model  # without the LM head
        self._label_ids: dict[str, Any] = {}
        self._dtype = model.dtype
        # Scores and losses are differences of large numbers: bfloat16 would round them away.
        self.output_embeddings: Tensor = model.get_output_embeddings().weight.detach().float()

    def states(self, texts: Sequence[str], questions: Sequence[str]) -> Tensor:
        """The last hidden state at the end of each question, in float32: shape (texts, questions, width)."""
        import torch

        tokens = self._tokens(texts, questions)
        found = self._decoder(
            input_ids=tokens.ids,
            position_ids=tokens.positions,
            attention_mask=tokens.mask(self._dtype),
            use_cache=False,
        ).last_hidden_state
        rows = torch.arange(len(texts), device=found.device)
        states: Tensor = found[rows[:, None], tokens.ends].float()
        return states

    def label_ids(self, label: str) -> Tensor:
        """The tokens of a label behind a question."""
        import torch

        if label not in self._label_ids:
            self._label_ids[label] = torch.tensor(
                self._encode(answer(label)), device=self.output_embeddings.device
            )
        ids: Tensor = self._label_ids[label]
        return ids

    def label_vectors(self, labels: Sequence[str]) -> Tensor:
        """The mean output embedding of each label's tokens: shape (labels, width).

        A state times such a vector is the mean logit of the label's words, in whatever order.
        """
        import torch

        return torch.stack([self.output_embeddings[self.label_ids(label)].mean(0) for label in labels])

    def _tokens(self, texts: Sequence[str], questions: Sequence[str]) -> Tokens:
        import torch

        heads = [self._encode(text_and_question(text, "")[0]) for text in texts]
        tails = [self._encode(text_and_question("", question)[1]) for question in questions]
        length = max(map(len, heads)) + sum(map(len, tails))
        ids, positions, owners = (torch.zeros((len(heads), length), dtype=torch.long) for _ in range(3))
        owners += _NOTHING
        ends = torch.zeros((len(heads), len(tails)), dtype=torch.long)
        for row, head in enumerate(heads):
            parts = [(_TEXT, head), *enumerate(tails)]
            at = 0
            for owner, part in parts:
                begin = 0 if owner == _TEXT else len(head)
                span = slice(at, at + len(part))
                ids[row, span] = torch.tensor(part)
                positions[row, span] = torch.arange(begin, begin + len(part))
                owners[row, span] = owner
                at += len(part)
                if owner != _TEXT:
                    ends[row, owner] = at - 1
        device = self.output_embeddings.device
        return Tokens(ids.to(device), positions.to(device), owners.to(device), ends.to(device))

    def _encode(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])
