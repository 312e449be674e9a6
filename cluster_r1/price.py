"""What a model's tokens cost."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from cluster_r1.errors import InputError

_PER = 1_000_000  # tokens that a price is given for
_NUMBER = r"\s*(\d+\.?\d*|\.\d+)\s*"
_FORM = re.compile(rf"{_NUMBER}/{_NUMBER}(?:/{_NUMBER})?")


@dataclass(frozen=True, slots=True)
class Price:
    """The price of a model, in USD per million tokens, at least 0.

    Attributes:
        input: of prompts.
        output: of answers with their reasoning.
        cached_input: of what the provider finds in its own prompt cache, at most `input`; None: as `input`.

    Raises:
        InputError: a price is negative or no number, or cached input costs more than input.
    """

    input: float
    output: float
    cached_input: float | None = None

    def __post_init__(self) -> None:
        cached = self.input if self.cached_input is None else self.cached_input
        if not all(math.isfinite(usd) and usd >= 0 for usd in (self.input, self.output, cached)):
            raise InputError(f"the price is {self}: give USD per million tokens, each 0 or more")
        if cached > self.input:
            raise InputError(
                f"the price is {self}, with cached input dearer than input. The order is input/output/cached "
                "input"
            )

    @classmethod
    def parse(cls, price: str) -> Price:
        """Read `0.25/2` (input/output) or `0.25/2/0.025` (input/output/cached input).

        Raises:
            InputError: anything else.
        """
        match = _FORM.fullmatch(price)
        if match is None:
            raise InputError(
                f"the price is {price[:60]!r}: give USD per million tokens as input/output or "
                "input/output/cached input, such as 0.25/2 or 0.25/2/0.025"
            )
        given, answered, cached = match.groups()
        return cls(float(given), float(answered), None if cached is None else float(cached))

    def cost(self, input_tokens: int, output_tokens: int, cached_input_tokens: int = 0) -> float:
        """USD for so many tokens. `cached_input_tokens` are part of `input_tokens`."""
        cached = self.input if self.cached_input is None else self.cached_input
        fresh = input_tokens - cached_input_tokens
        return (fresh * self.input + cached_input_tokens * cached + output_tokens * self.output) / _PER

    def __str__(self) -> str:
        prices = (self.input, self.output, self.cached_input)
        return "/".join(f"{usd:.12g}" for usd in prices if usd is not None)
