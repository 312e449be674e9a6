"""What goes to a model and what comes back, whatever library carries it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cluster_r1.prompts import Message


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One call: messages, the JSON schema of the answer, and which of several samples this is."""

    messages: tuple[Message, ...]
    schema: Mapping[str, Any] | None = None
    sample: int = 0


@dataclass(frozen=True, slots=True)
class ChatAnswer:
    """What a model answered.

    `reasoning` is what it thought before; token counts are 0 where the server does not report them.
    `cached_input_tokens` are those of `input_tokens` that the provider found in its own prompt cache, while
    `cached` says that the whole answer was kept here.
    """

    text: str
    reasoning: str = ""
    finish_reason: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cached: bool = False
    cached_input_tokens: int = 0

    @property
    def truncated(self) -> bool:
        """Whether the server stopped at its length limit."""
        return self.finish_reason == "length"
