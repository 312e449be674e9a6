"""The ledger of one run: what its model calls spent and saved, and the budget they must stay within."""

from __future__ import annotations

from cluster_r1.agents.models.messages import ChatAnswer
from cluster_r1.errors import BudgetError
from cluster_r1.types import Usage


class Ledger:
    """Counts calls and tokens; refuses a call that the budget may not cover.

    Args:
        budget_tokens: the most tokens, in and out, that the run may spend; None for no limit.
        usage: what the run has spent already.
    """

    def __init__(self, budget_tokens: int | None = None, usage: Usage | None = None) -> None:
        self.budget_tokens = budget_tokens
        self._usage = usage or Usage()

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
        if self.budget_tokens is None:
            return None
        left = self.budget_tokens - self._usage.total_tokens
        if prompt_tokens + answer_tokens > left:
            raise BudgetError(
                f"the budget of {self.budget_tokens} tokens has {max(left, 0)} left, and the {purpose} needs "
                f"about {prompt_tokens + answer_tokens}. Finished calls are kept: run again with a larger "
                "budget (--budget-tokens, budget_tokens=)"
            )
        return left - prompt_tokens

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
