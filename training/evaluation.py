"""How well a model that is being trained answers held-out tasks."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from cluster_r1.training.examples import Example
from cluster_r1.training.rewards import DEFAULT, Judgement, RewardSettings, judge

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Answered:
    """A row, what the model wrote, how many tokens that took, and how it was judged."""

    row: Example
    completion: str
    tokens: int
    judgement: Judgement

    def sample(self, step: int) -> dict[str, Any]:
        """As a line of the samples file."""
        return {
            "step": step,
            "task": self.row.task,
            "prompt": self.row.prompt[-1].content,
            "completion": self.completion,
            "reference": list(self.row.reference),
            "tokens": self.tokens,
            "reward": self.judgement.reward,
        }


@dataclass(frozen=True, slots=True)
class Means:
    """Means over answers.

    `ami`, `v`, `ari` count an answer that is no exact cover as 0; `k_error` and `singleton_rate` are means
    over the exact ones, None where there are none. `length` is in tokens.
    """

    reward: float
    valid: float
    ami: float
    v: float
    ari: float
    k_error: float | None
    singleton_rate: float | None
    length: float

    def named(self, prefix: str = "") -> dict[str, float]:
        """The means that exist, by name."""
        return {f"{prefix}{name}": value for name, value in asdict(self).items() if value is not None}


def means(judgements: Sequence[Judgement], lengths: Sequence[int]) -> Means:
    """The means over answers, at least one."""
    found = [judgement.agreement for judgement in judgements if judgement.agreement]
    count = len(judgements)
    return Means(
        reward=statistics.fmean(judgement.reward for judgement in judgements),
        valid=len(found) / count,
        ami=sum(agreement.ami for agreement in found) / count,
        v=sum(agreement.v for agreement in found) / count,
        ari=sum(agreement.ari for agreement in found) / count,
        k_error=statistics.fmean(agreement.k_error for agreement in found) if found else None,
        singleton_rate=statistics.fmean(agreement.singleton_rate for agreement in found) if found else None,
        length=statistics.fmean(lengths),
    )


def answer_rows(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Example],
    *,
    batch: int,
    max_new_tokens: int,
    reward: RewardSettings = DEFAULT,
) -> list[Answered]:
    """Have the model answer each row's prompt, greedily and unconstrained, and judge the answers."""
    answered: list[Answered] = []
    ordered = sorted(rows, key=lambda row: sum(len(turn.content) for turn in row.prompt))
    for start in range(0, len(ordered), batch):
        some = ordered[start : start + batch]
        for row, (completion, tokens) in zip(
            some, _write(model, tokenizer, some, max_new_tokens), strict=True
        ):
            judgement = judge(completion, row.reference, reward, tokens=tokens)
            answered.append(Answered(row, completion, tokens, judgement))
    return answered


def _write(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: Sequence[Example], max_new_tokens: int
) -> list[tuple[str, int]]:
    """Completions and their lengths; answers to one padded batch."""
    import torch

    chats = [[turn.model_dump() for turn in row.prompt] for row in rows]
    side, tokenizer.padding_side = tokenizer.padding_side, "left"
    inputs = tokenizer.apply_chat_template(
        chats, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
    ).to(model.device)
    tokenizer.padding_side = side
    training, cached = model.training, model.config.use_cache
    model.eval()
    model.config.use_cache = True
    try:
        with torch.no_grad():
            written = model.generate(
                **inputs,
                max_new_tokens=max_new_tokens,
                do_sample=False,
                pad_token_id=tokenizer.pad_token_id,
                eos_token_id=tokenizer.eos_token_id,
            )
    finally:
        model.config.use_cache = cached
        model.train(training)
    completions = written[:, inputs["input_ids"].shape[1] :]
    lengths = (completions != tokenizer.pad_token_id).sum(dim=1).tolist()
    texts = tokenizer.batch_decode(completions, skip_special_tokens=True)
    return list(zip(texts, lengths, strict=True))
