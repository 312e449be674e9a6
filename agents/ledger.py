"""The ledger of one run: what its model calls spent and saved, and the budgets they must stay within."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from cluster_r1.agents.models.messages import ChatAnswer
from cluster_r1.errors import BudgetError, InputError
from cluster_r1.price import Price
from cluster_r1.types import Usage

MOST_ANSWER_TOKENS = 16_384
"""Of one answer, where a budget has to cover many calls that are under way together."""


_AGAIN = "Finished calls are kept: run again with a larger budget"
_TOKENS_OPTION = "(--budget-tokens, budget_tokens=)"
_USD_OPTION = "(--budget-usd, budget_usd=)"
_ROUNDING_USD = 1e-12  # by which sums of costs may be off
_USD_DIGITS = 6  # after the point; a small call of a cheap model costs some millionths


class Ledger:
    """Counts calls, tokens and dollars; refuses a call that a budget may not cover.

    Args:
        budget_tokens: the most tokens, in and out, that the run may spend; None for no limit.
        usage: what the run has spent already.
        most_answer_tokens: what a single answer may have, where several calls are under way at once and
            must not each count on all that is left; None leaves each call the rest of the budget.
        price: of the model's tokens; None where it is not known, which leaves `Usage.cost_usd` None.
        budget_usd: the most that the run may spend, in USD at this price; None for no limit.

    Raises:
        InputError: a budget in USD that is not above 0, or has no price.
    """

    def __init__(
        self,
        budget_tokens: int | None = None,
        usage: Usage | None = None,
        most_answer_tokens: int | None = None,
        *,
        price: Price | None = None,
        budget_usd: float | None = None,
    ) -> None:
        if budget_usd is not None and not 0 < budget_usd < math.inf:
            raise InputError(f"the budget is ${budget_usd:g}: give more than 0 {_USD_OPTION}")
        if budget_usd is not None and price is None:
            raise InputError("a budget in USD needs the price of the model's tokens (--price, price=)")
        self.budget_tokens = budget_tokens
        self.budget_usd = budget_usd
        self.price = price
        self._usage = self._priced(usage or Usage())
        self._most_answer_tokens = most_answer_tokens
        self._held_input = 0
        self._held_output = 0
        self._released = asyncio.Event()

    @property
    def limited(self) -> bool:
        """Whether there is a budget, so that calls have to be held."""
        return self.budget_tokens is not None or self.budget_usd is not None

    @property
    def usage(self) -> Usage:
        """What was spent and saved up to now."""
        return self._usage

    def allow(self, prompt_tokens: int, answer_tokens: int, purpose: str) -> int | None:
        """How many tokens the answer to a prompt may have by all budgets; None for no limit.

        Args:
            prompt_tokens: of the call.
            answer_tokens: that the answer needs at least.
            purpose: the role that is asked.

        Raises:
            BudgetError: a budget does not cover the call; the message names it.
        """
        if self._room_by_tokens(prompt_tokens) < answer_tokens:
            left, needed = max(self._left_tokens(), 0), prompt_tokens + answer_tokens
            raise BudgetError(
                f"the budget of {self.budget_tokens} tokens has {left:.0f} left, and the {purpose} needs "
                f"about {needed}. {_AGAIN} {_TOKENS_OPTION}"
            )
        if self._room_by_usd(prompt_tokens) < answer_tokens:
            left, cost = max(self._left_usd(), 0), self._cost(prompt_tokens, answer_tokens)
            raise BudgetError(
                f"the budget of {_usd(self.budget_usd or 0)} has {_usd(left)} left, and the {purpose} needs "
                f"about {_usd(cost)}. {_AGAIN} {_USD_OPTION}"
            )
        room = self._room(prompt_tokens)
        return None if room == math.inf else int(room)

    def hold(
        self, prompt_tokens: int, answer_tokens: int, purpose: str
    ) -> AbstractAsyncContextManager[int | None]:
        """Set aside what a call may cost while it is under way; gives the tokens its answer may have.

        Waits while calls under way hold what it needs: they may cost less than they hold.

        Raises:
            BudgetError: a budget does not cover the call; see `allow`.
        """
        return self._hold(prompt_tokens, answer_tokens, purpose)

    @asynccontextmanager
    async def _hold(self, prompt_tokens: int, answer_tokens: int, purpose: str) -> AsyncIterator[int | None]:
        cap = self._most_answer_tokens
        wanted = answer_tokens if cap is None else max(answer_tokens, cap)
        while (self._held_input or self._held_output) and self._room(prompt_tokens) < wanted:
            self._released.clear()
            await self._released.wait()
        allowed = self.allow(prompt_tokens, answer_tokens, purpose)
        most = allowed if allowed is None or cap is None else min(allowed, wanted)
        self._held_input += prompt_tokens
        self._held_output += most or 0
        try:
            yield most
        finally:
            self._held_input -= prompt_tokens
            self._held_output -= most or 0
            self._released.set()

    def cut_short(self, most_tokens: int | None, purpose: str) -> BudgetError | None:
        """Why an answer was cut off that might have `most_tokens`, if it was for lack of budget.

        To be asked while the call is held. The error names the budget that left it too few.
        """
        cap = self._most_answer_tokens
        if cap is None or most_tokens is None or most_tokens >= cap:
            return None
        option = _USD_OPTION if self._room_by_usd(0) < self._room_by_tokens(0) else _TOKENS_OPTION
        return BudgetError(
            f"the budget left the {purpose} {most_tokens} tokens, too few for its answer. {_AGAIN} {option}"
        )

    def _room(self, prompt_tokens: int) -> float:
        """Tokens that the answer to a prompt may have: below 0 if the prompt is too much, or infinite."""
        return min(self._room_by_tokens(prompt_tokens), self._room_by_usd(prompt_tokens))

    def _room_by_tokens(self, prompt_tokens: int) -> float:
        return self._left_tokens() - prompt_tokens

    def _room_by_usd(self, prompt_tokens: int) -> float:
        left = self._left_usd() - self._cost(prompt_tokens, 0)
        token = self._cost(0, 1)
        if left == math.inf or token == 0:
            return math.inf if left >= -_ROUNDING_USD else -math.inf
        return math.floor((left + _ROUNDING_USD) / token)

    def _left_tokens(self) -> float:
        """Neither spent nor held."""
        if self.budget_tokens is None:
            return math.inf
        return self.budget_tokens - self._usage.total_tokens - self._held_input - self._held_output

    def _left_usd(self) -> float:
        if self.budget_usd is None:
            return math.inf
        return self.budget_usd - self._spent() - self._cost(self._held_input, self._held_output)

    def _cost(self, input_tokens: int, output_tokens: int) -> float:
        return 0.0 if self.price is None else self.price.cost(input_tokens, output_tokens)

    def _spent(self) -> float:
        """USD, told from the tokens: sums of rounded costs would drift."""
        return 0.0 if self.price is None else _cost_of(self._usage, self.price)

    def _priced(self, usage: Usage) -> Usage:
        if self.price is None:
            return usage
        return usage.model_copy(update={"cost_usd": round(_cost_of(usage, self.price), _USD_DIGITS)})

    def record(self, answer: ChatAnswer) -> None:
        """Enter a finished call."""
        used = self._usage
        tokens = answer.input_tokens + answer.output_tokens
        if answer.cached:
            changes = {"saved_calls": used.saved_calls + 1, "saved_tokens": used.saved_tokens + tokens}
        else:
            changes = {
                "calls": used.calls + 1,
                "input_tokens": used.input_tokens + answer.input_tokens,
                "cached_input_tokens": used.cached_input_tokens + answer.cached_input_tokens,
                "output_tokens": used.output_tokens + answer.output_tokens,
                "reasoning_tokens": used.reasoning_tokens + answer.reasoning_tokens,
            }
        self._usage = self._priced(used.model_copy(update=changes))

    def record_failure(self) -> None:
        """Enter a call that failed after all retries."""
        self._usage = self._usage.model_copy(update={"failed_calls": self._usage.failed_calls + 1})


def _cost_of(usage: Usage, price: Price) -> float:
    return price.cost(usage.input_tokens, usage.output_tokens, usage.cached_input_tokens)


def _usd(amount: float) -> str:
    """An amount in words of a message, `$0.25`, with the millionths that small calls cost."""
    return f"${amount:.{_USD_DIGITS}f}".rstrip("0").rstrip(".")
