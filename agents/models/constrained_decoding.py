"""Leads one answer from its reasoning into JSON: free until `</think>`, under the schema from there on.

The rules, for an answer whose schema is known:

1. If the first token begins `<think>`, the tag is completed and the model reasons freely; so it does where
   the chat template has opened the tag already. Any other first token is taken back, and the answer stands
   under the schema from its start.
2. Reasoning ends with `</think>`. It is written for a model that has used up its allowance of reasoning, ends
   its turn while it reasons, or closes the tag and goes on in the same token.
3. After at most two blanks or line breaks comes the JSON object, written as `json.dumps` writes it, which is
   how prompts show it. Tokens that the schema leaves no choice about are written without asking the model.
4. When the object is complete the answer ends.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from llguidance import LLMatcher
    from transformers import PreTrainedTokenizerFast

_log = logging.getLogger(__name__)

_OPEN, _CLOSE = "<think>", "</think>"
_WINDOW = 16  # tokens in which a closing tag is looked for; the tag itself has at most 8 characters
_AS_DUMPED = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}

Mask = NDArray[np.bool_]


class Vocabulary:
    """A tokenizer as constrained decoding needs it; made once a model, since it takes up to a second.

    Args:
        tokenizer: of the model.
        size: how many tokens the model has logits for.
        ends: the tokens that end a turn.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, size: int, ends: frozenset[int]) -> None:
        import llguidance.hf

        self.size = size
        self.ends = ends
        self._tokenizer = tokenizer
        self._guided = llguidance.hf.from_tokenizer(
            tokenizer, n_vocab=max(size, len(tokenizer)), eos_token=sorted(ends)
        )
        self._warned = False

    def encode(self, text: str) -> list[int]:
        """The tokens of a piece of an answer."""
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def text(self, tokens: list[int]) -> str:
        """What tokens say, tags included, whether a tokenizer calls them special or not."""
        said = self._tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return str(said)

    def matcher(self, schema: Mapping[str, Any]) -> LLMatcher | None:
        """What follows a schema token by token; None, and a warning, for a schema that it does not know."""
        from llguidance import LLMatcher

        dumped = json.dumps({**schema, "x-guidance": _AS_DUMPED})
        lark = f"start: BLANK? answer\nanswer: %json {dumped}\nBLANK: /[ \\n]{{1,2}}/\n"
        matcher = LLMatcher(self._guided, LLMatcher.grammar_from_lark(lark), log_level=0)
        if matcher.is_error():
            self.warn(matcher.get_error())
            return None
        return matcher

    def warn(self, problem: str) -> None:
        """Say once that answers are not constrained."""
        if not self._warned:
            self._warned = True
            _log.warning("answers are not constrained to their schema: %s", " ".join(problem.split())[:200])


class _Stage(Enum):
    START = auto()
    REASONING = auto()
    ANSWER = auto()
    FREE = auto()


class AnswerGuide:
    """What one answer may say next.

    Args:
        vocabulary: of the model.
        schema: of the answer; None leaves all of it free.
        opened: whether the chat template has opened `<think>` already.
        most_reasoning: tokens after which reasoning is closed.

    Attributes:
        finished: whether the answer is complete.
        opened: as given.
        reasoning_tokens: how many tokens of it are reasoning.
    """

    def __init__(
        self, vocabulary: Vocabulary, schema: Mapping[str, Any] | None, *, opened: bool, most_reasoning: int
    ) -> None:
        self.finished = False
        self.opened = opened
        self.reasoning_tokens = 0
        self._vocabulary = vocabulary
        self._matcher = vocabulary.matcher(schema) if schema else None
        self._most_reasoning = most_reasoning
        self._recent: list[int] = []
        self._stage = _Stage.FREE if self._matcher is None else _Stage.REASONING if opened else _Stage.START

    def mask(self) -> Mask | None:
        """Which tokens may come next, shape (vocabulary,); None if any may."""
        if self._stage is not _Stage.ANSWER or self._matcher is None:
            return None
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        allowed = np.unpackbits(bits, bitorder="little")[: self._vocabulary.size]
        return allowed.astype(np.bool_)

    def write(self, choose: Callable[[Mask | None], int]) -> list[int]:
        """Have the model choose a token, and give the tokens that are written for it, at least one.

        Args:
            choose: the model's choice among the tokens that a mask allows.
        """
        token = choose(self.mask())
        if self._stage is _Stage.START and not self._begins_reasoning(token):
            self._stage = _Stage.ANSWER
            token = choose(self.mask())
        written = self._rule()(token)
        self._recent = [*self._recent, *written][-_WINDOW:]
        return written

    def _begins_reasoning(self, token: int) -> bool:
        piece = self._vocabulary.text([token]).lstrip()
        return bool(piece) and (_OPEN.startswith(piece) or piece.startswith(_OPEN))

    def _rule(self) -> Callable[[int], list[int]]:
        return {
            _Stage.START: self._open,
            _Stage.REASONING: self._reason,
            _Stage.ANSWER: self._answer,
            _Stage.FREE: self._speak,
        }[self._stage]

    def _open(self, token: int) -> list[int]:
        self._stage = _Stage.REASONING
        rest = _OPEN[len(self._vocabulary.text([token]).lstrip()) :]
        return self._reasoned([token, *self._vocabulary.encode(rest)])

    def _reason(self, token: int) -> list[int]:
        if token in self._vocabulary.ends:
            return self._close([])
        _, tag, after = self._vocabulary.text([*self._recent, token]).rpartition(_CLOSE)
        if tag and after.strip():
            return self._close([])
        if tag:
            self._stage = _Stage.ANSWER
        elif self.reasoning_tokens + 1 >= self._most_reasoning:
            return self._close([token])
        return self._reasoned([token])

    def _close(self, written: list[int]) -> list[int]:
        """Write what is missing of the closing tag after `written`."""
        self._stage = _Stage.ANSWER
        said = self._vocabulary.text([*self._recent, *written])
        begun = next(size for size in range(len(_CLOSE), -1, -1) if said.endswith(_CLOSE[:size]))
        line_break = "" if begun or not said or said.endswith("\n") else "\n"
        return self._reasoned([*written, *self._vocabulary.encode(line_break + _CLOSE[begun:])])

    def _reasoned(self, written: list[int]) -> list[int]:
        self.reasoning_tokens += len(written)
        return written

    def _answer(self, token: int) -> list[int]:
        assert self._matcher is not None  # or the stage would be another
        forced: list[int] = []
        if self._matcher.consume_token(token) and not self._matcher.is_stopped():
            forced = self._matcher.compute_ff_tokens()
            self._matcher.consume_tokens(forced)
        if self._matcher.is_error():  # a limit of the parser, which a schema can meet half way
            self._vocabulary.warn(self._matcher.get_error())
            self._stage = _Stage.FREE
        else:
            self.finished = self._matcher.is_stopped()
        return [token, *forced]

    def _speak(self, token: int) -> list[int]:
        self.finished = token in self._vocabulary.ends
        return [token]
