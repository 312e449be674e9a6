"""Generates several answers at once: one padded batch, one forward pass a step, rows leave when done.

Each row has tokens that the model has not read yet: first its prompt, then what was written last, which may
be more than one token where a guide has written for the model. A step feeds some of them, padded on the left,
and lets every row that has none left choose what to write next.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from cluster_r1.agents.models.constrained_decoding import AnswerGuide, Mask

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PretrainedConfig, PreTrainedModel

# Tokens that all rows together are fed in a step: up to about here it costs little more than for one each.
_STEP_TOKENS, _STEP_TOKENS_GPU = 8, 64


@dataclass(slots=True)
class Row:
    """One answer on its way.

    Attributes:
        prompt: its tokens.
        most_tokens: that the answer may have, 1 or more.
        guide: what it may say.
        temperature: 0 takes the likeliest token.
        draws: decides between tokens above temperature 0, the same way whoever else is in the batch.
        is_wanted: asked at each step; a row that nobody waits for any more leaves.
        written: the answer's tokens so far.
        finish: why it ended; empty while it goes on.
    """

    prompt: list[int]
    most_tokens: int
    guide: AnswerGuide
    temperature: float
    draws: random.Random
    is_wanted: Callable[[], bool]
    written: list[int] = field(default_factory=list)
    finish: Literal["", "stop", "length", "dropped"] = ""
    unread: list[int] = field(default_factory=list)
    read: int = 0


def generate(model: PreTrainedModel, rows: Sequence[Row]) -> None:
    """Write the rows' answers, each in its `written`, with its `finish`."""
    import torch
    from transformers import DynamicCache

    cache = DynamicCache(config=model.config)
    seen = torch.zeros((len(rows), 0), dtype=torch.long, device=model.device)
    for row in rows:
        row.unread = list(row.prompt)
    active, width = list(rows), max(len(row.unread) for row in rows)
    with torch.inference_mode():
        while active:
            tokens, new, positions = _chunk(active, width)
            seen = torch.cat([seen, new.to(model.device)], dim=1)
            output = model(
                input_ids=tokens.to(model.device),
                attention_mask=seen,
                position_ids=positions.to(model.device),
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            for row, logits in zip(active, output.logits[:, -1], strict=True):
                _advance(row, logits)
            kept = [position for position, row in enumerate(active) if not row.finish]
            if len(kept) < len(active):
                active = [active[position] for position in kept]
                if active:
                    cache.batch_select_indices(torch.tensor(kept, device=model.device))
                    seen = seen[kept]
            width = _width(active, model)


def _width(active: Sequence[Row], model: PreTrainedModel) -> int:
    """How many tokens a row is fed in the next step.

    Rows that are fed fewer are padded amid their tokens, which attention over all of them can leave out, but
    a sliding window or a recurrent state would count: there it is one token a step.
    """
    if not (active and _attends_to_all(model.config)):
        return 1
    together = _STEP_TOKENS_GPU if model.device.type == "cuda" else _STEP_TOKENS
    return max(1, min(max(len(row.unread) for row in active), together // len(active)))


def _attends_to_all(config: PretrainedConfig) -> bool:
    """Whether every layer sees all tokens so far."""
    if kinds := set(getattr(config, "layer_types", None) or ()):
        return kinds == {"full_attention"}
    return not getattr(config, "sliding_window", None)


def _chunk(active: Sequence[Row], width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens, which of them are no padding, and their positions, each of shape (rows, width)."""
    import torch

    shape = (len(active), width)
    tokens, real, positions = (torch.zeros(shape, dtype=torch.long) for _ in range(3))
    for number, row in enumerate(active):
        fed, row.unread = row.unread[:width], row.unread[width:]
        start = width - len(fed)
        tokens[number, start:] = torch.tensor(fed)
        real[number, start:] = 1
        positions[number, start:] = torch.arange(row.read, row.read + len(fed))
        row.read += len(fed)
    return tokens, real, positions


def _advance(row: Row, logits: Tensor) -> None:
    """Let a row that has been read to its end write on."""
    if not row.is_wanted():
        row.finish = "dropped"
    elif not row.unread:
        row.unread = row.guide.write(lambda mask: _choice(logits, mask, row))
        row.written += row.unread
        if row.guide.finished and len(row.written) <= row.most_tokens:
            row.finish = "stop"
        elif len(row.written) >= row.most_tokens:
            row.finish = "length"
            del row.written[row.most_tokens :]


def _choice(logits: Tensor, mask: Mask | None, row: Row) -> int:
    """A token by its logits, shape (vocabulary,), among those that the mask allows."""
    import torch

    if mask is not None:
        allowed: Any = torch.from_numpy(mask).to(logits.device)
        logits = logits.masked_fill(~allowed, float("-inf"))
    if row.temperature == 0:
        return int(logits.argmax())
    shares = torch.softmax(logits.double() / row.temperature, dim=-1).cumsum(dim=-1)
    drawn = torch.searchsorted(shares, shares[-1:] * row.draws.random(), right=True)
    return min(int(drawn), len(shares) - 1)
