"""What the scorer is trained for: to tell labels apart, to say them unasked, and to group without them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cluster_r1.training.recipe import ScorerLosses

if TYPE_CHECKING:
    from torch import Tensor

    from cluster_r1.training.answer_states import AnswerReader

_TEMPERATURE = 0.2  # of the contrast between states
_IMPOSSIBLE = -1e9


def choice_loss(states: Tensor, labels: Tensor, gold: Tensor) -> Tensor:
    """Cross-entropy of the right label among the attribute's, scores centred over the batch.

    Args:
        states: shape (texts, width).
        labels: shape (labels, width), as of `AnswerReader.label_vectors`.
        gold: shape (texts,): each text's label.

    Centring takes away what the model thinks of a label whatever the text is; inference does the same.
    """
    from torch.nn.functional import cross_entropy

    scores = states @ labels.T
    return cross_entropy(scores - scores.mean(0, keepdim=True), gold)


def question_loss(states: Tensor, all_labels: Tensor, gold: Tensor) -> Tensor:
    """Cross-entropy of the right label among those of all questions: the model must heed the one asked."""
    from torch.nn.functional import cross_entropy

    return cross_entropy(states @ all_labels.T, gold)


def open_loss(states: Tensor, output_embeddings: Tensor, words: Sequence[Tensor]) -> Tensor:
    """Mean negative log probability of the words of each text's label among all words there are.

    Args:
        states: shape (texts, width).
        output_embeddings: shape (vocabulary, width).
        words: the tokens of each text's label.
    """
    import torch

    likely = (states @ output_embeddings.T).log_softmax(-1)
    return -torch.stack([row[ids].mean() for row, ids in zip(likely, words, strict=True)]).mean()


def contrast_loss(states: Tensor, gold: Tensor) -> Tensor:
    """Supervised contrastive loss on centred states (Khosla et al., arXiv 2004.11362, equation 2).

    Args:
        states: shape (texts, width).
        gold: shape (texts,); texts with a label of their own are left out.
    """
    import torch

    directions = torch.nn.functional.normalize(states - states.mean(0, keepdim=True), dim=-1)
    itself = torch.eye(len(gold), dtype=torch.bool, device=gold.device)
    likely = (directions @ directions.T / _TEMPERATURE).masked_fill(itself, _IMPOSSIBLE).log_softmax(-1)
    mates = (gold[:, None] == gold[None]) & ~itself
    paired = mates.any(1)
    if not paired.any():
        return states.sum() * 0
    return -((likely * mates).sum(1)[paired] / mates.sum(1)[paired]).mean()


def scorer_loss(
    reader: AnswerReader,
    states: Tensor,
    labels: Sequence[Sequence[str]],
    gold: Sequence[Sequence[int]],
    weights: ScorerLosses,
) -> tuple[Tensor, dict[str, float]]:
    """The weighted loss of a batch, mean over its questions, and its parts by name.

    Args:
        reader: what read the texts.
        states: shape (texts, questions, width).
        labels: of each question, as phrased in this batch.
        gold: of each question: the number of each text's label among them.
        weights: of the parts.
    """
    import torch

    every = reader.label_vectors([label for listed in labels for label in listed])
    total, parts, start = states.new_zeros(()), dict.fromkeys(ScorerLosses.model_fields, 0.0), 0
    for number, (listed, right) in enumerate(zip(labels, gold, strict=True)):
        asked, truth = states[:, number], torch.tensor(right, device=states.device)
        found = {
            "choice": choice_loss(asked, every[start : start + len(listed)], truth),
            "question": question_loss(asked, every, truth + start),
            "open": open_loss(asked, reader.output_embeddings, [reader.label_ids(listed[i]) for i in right]),
            "contrast": contrast_loss(asked, truth),
        }
        start += len(listed)
        for name, loss in found.items():
            total = total + getattr(weights, name) * loss / len(labels)
            parts[name] += float(loss.detach()) / len(labels)
    return total, parts
