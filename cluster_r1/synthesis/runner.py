"""Runs attempts until enough tasks are accepted: many slices at once, decided one after the other, in order.

Which tasks come out depends on inputs and answers alone, not on which answer came first: a slice is shown
the tasks that were accepted `lookahead` slices before it and no others, and is decided after all before it.
So a run that was killed and continued, or had other limits of concurrency, comes to the same.
"""

from __future__ import annotations

import asyncio
import gc
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, cast

from langchain_core.runnables import RunnableConfig

from cluster_r1 import __version__
from cluster_r1.errors import RefusedError
from cluster_r1.graphs.synthesis import OpenContext, graph, recursion_limit
from cluster_r1.graphs.synthesis.accepted import Signature
from cluster_r1.graphs.synthesis.outcome import Outcome, Reason, Rejection, SynthesisEvent
from cluster_r1.graphs.synthesis.slicing import SliceStore
from cluster_r1.graphs.synthesis.state import Earlier, SynthesisOutput, WrittenSlice
from cluster_r1.graphs.synthesis.telling import task_id
from cluster_r1.graphs.tracing import TraceRecorder
from cluster_r1.synthesis.journal import Journal
from cluster_r1.synthesis.split_texts import SplitTexts

_REFUSALS = 8  # attempts that the endpoint may refuse, when all are, before it counts as wrongly set up
_LEAST_RATE = 0.05  # share of accepted attempts that is reckoned with where fewer are


@dataclass
class Tally:
    """How far a run is.

    Attributes:
        slices: decided.
        attempts: decided, over all slices.
        accepted: tasks.
        revised: drafts that were sent back.
        rejected: attempts by reason.
    """

    slices: int = 0
    attempts: int = 0
    accepted: int = 0
    revised: int = 0
    rejected: Counter[Reason] = field(default_factory=Counter)

    def add(self, outcome: Outcome) -> None:
        """Count a decided attempt."""
        self.attempts += 1
        self.revised += len(outcome.revisions)
        if outcome.rejection is None:
            self.accepted += 1
        else:
            self.rejected[outcome.rejection.reason] += 1


class SynthesisRun:
    """One run, from its journal's end to as many accepted tasks as are wanted.

    Args:
        context: models, corpora, settings, and what was accepted.
        journal: what is decided already is taken from it, what is decided now entered.
        at_once: slices under way at once, within the lookahead; None for as many as the lookahead allows.
        recorder: of the trace, if there is to be one.
        on_tally: is told after each slice that is decided.
    """

    def __init__(
        self,
        context: OpenContext,
        journal: Journal,
        *,
        at_once: int | None = None,
        recorder: TraceRecorder | None = None,
        on_tally: Callable[[Tally], None] | None = None,
    ) -> None:
        assert context.store is not None
        self.tally = Tally()
        self._context = context
        self._store: SliceStore = context.store
        self._accepted = context.accepted
        self._journal = journal
        self._at_once = at_once or context.settings.lookahead
        self._recorder = recorder
        self._on_tally = on_tally
        self._names = list(self._store.sources)
        self._texts = SplitTexts(context.store)
        self._undecided: list[list[Outcome]] = []
        self._known_after: list[int] = []  # how many tasks were accepted once each slice was decided
        for outcomes in journal.slices():
            self._count(outcomes, fresh=False)

    async def until(self, tasks: int, most_attempts: int) -> None:
        """Work until so many tasks are accepted, or so many attempts are made.

        Raises:
            ModelError: a server is gone, or refuses everything; what is decided is in the journal.
            BudgetError: the budget is spent; likewise.
        """
        under_way: dict[int, asyncio.Task[list[Outcome]]] = {}
        freezes = gc.get_freeze_count() == 0
        if (
            freezes
        ):  # what was there before is not looked through again and again: a tenth of the run's own time
            gc.freeze()
        try:
            while self.tally.accepted < tasks and self.tally.attempts < most_attempts:
                head = self.tally.slices
                for position in range(head, head + self._wanted(tasks, most_attempts)):
                    if position not in under_way:
                        under_way[position] = asyncio.create_task(self._attempt_slice(position))
                self._decide(await under_way.pop(head))
        finally:
            if freezes:
                gc.unfreeze()
            await _stop(under_way.values())

    def _wanted(self, tasks: int, most_attempts: int) -> int:
        """Slices that should be under way: no more than will probably be needed."""
        a_slice = self._context.settings.instructions_a_slice
        rate = max(_LEAST_RATE, (self.tally.accepted + 1) / (self.tally.attempts + 1))
        needed = min((tasks - self.tally.accepted) / rate, most_attempts - self.tally.attempts)
        return max(1, min(self._at_once, self._context.settings.lookahead, math.ceil(needed / a_slice)))

    async def _attempt_slice(self, position: int) -> list[Outcome]:
        """The attempts on one slice, one after the other, so that each knows of those before it."""
        name = self._names[position % len(self._names)]
        number = position // len(self._names)
        before = position - self._context.settings.lookahead
        visible = self._known_after[before] if before >= 0 else 0
        outcomes: list[Outcome] = []
        written: WrittenSlice | None = None
        for attempt in range(self._context.settings.instructions_a_slice):
            given = {
                "corpus": name,
                "number": number,
                "attempt": attempt,
                "visible": visible,
                "tried": tuple(outcome.instruction for outcome in outcomes if outcome.instruction),
                "earlier": {o.id: _earlier(o) for o in outcomes if o.task is not None},
                "written": written,
            }
            config = self._config(task_id(name, number, attempt), name)
            output = cast(
                SynthesisOutput, await graph.ainvoke(cast(Any, given), config, context=self._context)
            )
            written = output.get("written")
            outcomes.append(output["outcome"])
            if outcomes[-1].written and written is None:
                break  # no text was written: the other attempts would ask for the same again
        return outcomes

    def _config(self, id: str, corpus: str) -> RunnableConfig:
        return {
            "run_name": f"synthesis/{id}",
            "callbacks": [self._recorder] if self._recorder else [],
            "tags": ["cluster-r1", "synthesis"],
            "metadata": {"task_id": id, "corpus": corpus, "version": __version__},
            "recursion_limit": recursion_limit(self._context.settings.critique.revisions),
        }

    def _decide(self, outcomes: Sequence[Outcome]) -> None:
        """Enter a slice: its tasks are compared with those that were accepted while it was under way.

        As long as the endpoint refuses everything, nothing is entered: it is not set up rightly, and a run
        that is continued when it is should come to what it would have come to at once.
        """
        decided = [self._admit(outcome) for outcome in outcomes]
        self._undecided.append(decided)
        self._count(decided, fresh=True)
        refused = self.tally.rejected["refused"]
        if refused < self.tally.attempts:
            for slice in self._undecided:
                self._journal.append(slice)
            self._undecided.clear()
        elif refused >= _REFUSALS:
            assert decided[-1].rejection is not None
            raise RefusedError(f"all {refused} attempts were refused: {decided[-1].rejection.detail}")

    def _admit(self, outcome: Outcome) -> Outcome:
        if outcome.task is None:
            return outcome
        refusal = self._texts.refusal(outcome) or self._accepted.refusal(
            outcome.corpus, _signature(outcome), outcome.split, like=outcome.same_as
        )
        if refusal is not None:
            self._tell_refusal(outcome.id, refusal)
            return outcome.reject(Rejection(stage="write", reason="duplicate", detail=refusal))
        meta = {**outcome.task.meta, "attribute": self._enter(outcome)}
        return outcome.model_copy(update={"task": outcome.task.model_copy(update={"meta": meta})})

    def _enter(self, outcome: Outcome) -> str:
        """Remember an accepted task; gives its family."""
        self._texts.add(outcome)
        return self._accepted.add(
            outcome.corpus, outcome.id, _signature(outcome), outcome.split, outcome.same_as
        )

    def _tell_refusal(self, id: str, refusal: str) -> None:
        if self._context.on_event is not None:
            said = f"after all a duplicate: {refusal}"
            self._context.on_event(SynthesisEvent(kind="rejected", task_id=id, stage="write", message=said))

    def _count(self, outcomes: Sequence[Outcome], *, fresh: bool) -> None:
        for outcome in outcomes:
            self.tally.add(outcome)
            if not fresh and outcome.task is not None:
                self._enter(outcome)
        self.tally.slices += 1
        self._known_after.append(len(self._accepted))
        if self._on_tally is not None:
            self._on_tally(self.tally)


def _signature(outcome: Outcome) -> Signature:
    return Signature.of(outcome.instruction, outcome.categories)


def _earlier(outcome: Outcome) -> Earlier:
    assert outcome.task is not None
    return Earlier(instruction=outcome.instruction, labels=dict(outcome.task.reference))


async def _stop(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel what is under way; finished calls are in the cache."""
    cancelled = list(tasks)
    for task in cancelled:
        task.cancel()
    for task in cancelled:
        with suppress(asyncio.CancelledError, Exception):
            await task
