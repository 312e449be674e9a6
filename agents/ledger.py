"""The ledger of one run: what its model calls spent and saved, and the budget they must stay within."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from cluster_r1.agents.models.messages import ChatAnswer
from cluster_r1.errors import BudgetError
from cluster_r1.types import Usage

MOST_ANSWER_TOKENS = 16_384
"""Of one answer, where a budget has to cover many calls that are under way together."""


class Ledger:
    """Counts calls and tokens; refuses a call that the budget may not cover.

    Args:
        budget_tokens: the most tokens, in and out, that the run may spend; None for no limit.
        usage: what the run has spent already.
        most_answer_tokens: what a single answer may have, where several calls are under way at once and
            must not each count on all that is left; None leaves each call the rest of the budget.
    """

    def __init__(
        self,
        budget_tokens: int | None = None,
        usage: Usage | None = None,
        most_answer_tokens: int | None = None,
    ) -> None:
        self.budget_tokens = budget_tokens
        self._usage = usage or Usage()
        self._most_answer_tokens = most_answer_tokens
        self._held = 0
        self._released = asyncio.Event()

    @property
    def usage(self) -> Usage:
        """What was spent and saved up to now."""
        return self._usage

    def allow(self, prompt_tokens: int, answer_tokens: int, purpose: str) -> int | None:
        """How many tokens the answer to a prompt may have; None for no limit.

        Args:
            prompt_tokens: of the call.
            answer_tokens: that the answer needs at least.
            purpose: the role that is asked.

        Raises:
            BudgetError: the budget does not cover the call.
        """
        left = self._left()
        if left is None:
            return None
        if prompt_tokens + answer_tokens > left:
            raise BudgetError(
                f"the budget of {self.budget_tokens} tokens has {max(left, 0)} left, and the {purpose} needs "
                f"about {prompt_tokens + answer_tokens}. Finished calls are kept: run again with a larger "
                "budget (--budget-tokens, budget_tokens=)"
            )
        return left - prompt_tokens

    def hold(
        self, prompt_tokens: int, answer_tokens: int, purpose: str
    ) -> AbstractAsyncContextManager[int | None]:
        """Set aside what a call may cost while it is under way; gives the tokens its answer may have.

        Waits while calls under way hold what it needs: they may cost less than they hold.

        Raises:
            BudgetError: the budget does not cover the call; see `allow`.
        """
        return self._hold(prompt_tokens, answer_tokens, purpose)

    @asynccontextmanager
    async def _hold(self, prompt_tokens: int, answer_tokens: int, purpose: str) -> AsyncIterator[int | None]:
        cap = self._most_answer_tokens
        wanted = prompt_tokens + (answer_tokens if cap is None else max(answer_tokens, cap))
        while self._held and self._left() is not None and wanted > (self._left() or 0):
            self._released.clear()
            await self._released.wait()
        allowed = self.allow(prompt_tokens, answer_tokens, purpose)
        most = allowed if allowed is None or cap is None else min(allowed, max(answer_tokens, cap))
        held = 0 if most is None else prompt_tokens + most
        self._held += held
        try:
            yield most
        finally:
            self._held -= held
            self._released.set()

    def cut_short(self, most_tokens: int | None) -> bool:
        """Whether an answer that may have so many tokens may have fewer than usual, for lack of budget."""
        cap = self._most_answer_tokens
        return cap is not None and most_tokens is not None and most_tokens < cap

    def _left(self) -> int | None:
        if self.budget_tokens is None:
            return None
        return self.budget_tokens - self._usage.total_tokens - self._held

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
                "output_tokens": used.output_tokens + answer.output_tokens,
                "reasoning_tokens": used.reasoning_tokens + answer.reasoning_tokens,
            }
        self._usage = used.model_copy(update=changes)

    def record_failure(self) -> None:
        """Enter a call that failed after all retries."""
        self._usage = self._usage.model_copy(update={"failed_calls": self._usage.failed_calls + 1})
