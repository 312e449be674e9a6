"""Who needed which calls: enters them in the run's ledger, and counts them for the attempt."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from cluster_r1.agents.ledger import Ledger
from cluster_r1.agents.models.messages import ChatAnswer
from cluster_r1.errors import BudgetError
from cluster_r1.graphs.synthesis.outcome import Need


class RoleLedger(Ledger):
    """A role's view of the run's ledger. `need` counts answers from the cache like others.

    Thus what an attempt needed is the same in a run that was disturbed, while what the run spent is not.
    """

    def __init__(self, run: Ledger) -> None:
        super().__init__(run.budget_tokens, price=run.price, budget_usd=run.budget_usd)
        self._run = run
        self.need = Need()

    def hold(
        self, prompt_tokens: int, answer_tokens: int, purpose: str
    ) -> AbstractAsyncContextManager[int | None]:
        """See `Ledger.hold`."""
        return self._run.hold(prompt_tokens, answer_tokens, purpose)

    def cut_short(self, most_tokens: int | None, purpose: str) -> BudgetError | None:
        """See `Ledger.cut_short`."""
        return self._run.cut_short(most_tokens, purpose)

    def record(self, answer: ChatAnswer) -> None:
        """Enter a finished call."""
        self._run.record(answer)
        self.need += Need(calls=1, input_tokens=answer.input_tokens, output_tokens=answer.output_tokens)

    def record_failure(self) -> None:
        """Enter a call that failed after all retries."""
        self._run.record_failure()


def add_needs(one: dict[str, Need], other: dict[str, Need]) -> dict[str, Need]:
    """The sum of two accounts, by role."""
    return one | {role: one.get(role, Need()) + need for role, need in other.items()}
