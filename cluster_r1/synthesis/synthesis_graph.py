"""The synthesis graph from Python: makes tasks of corpora until enough are accepted, and writes the set."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cluster_r1 import __version__
from cluster_r1.agents.ledger import MOST_ANSWER_TOKENS, Ledger
from cluster_r1.agents.models import event_loop
from cluster_r1.agents.models.cache import ResponseCache, default_cache_path
from cluster_r1.agents.models.opening import ModelOptions
from cluster_r1.agents.models.retries import RetryPolicy, tell_wait
from cluster_r1.agents.synthesis.panel import Panel, choose_specs, open_panel, templates
from cluster_r1.errors import InputError
from cluster_r1.graphs.synthesis import OpenContext
from cluster_r1.graphs.synthesis.accepted import AcceptedTasks
from cluster_r1.graphs.synthesis.config import SynthesisConfig, read_config
from cluster_r1.graphs.synthesis.outcome import SynthesisEvent
from cluster_r1.graphs.synthesis.slicing import SliceStore, Source
from cluster_r1.graphs.tracing import TraceRecorder
from cluster_r1.run_folder import TRACE, write_whole
from cluster_r1.synthesis.card import CARD, Facts, write_card
from cluster_r1.synthesis.dataset import refuse_foreign_files, write_dataset
from cluster_r1.synthesis.estimate import SynthesisEstimate, estimate_synthesis
from cluster_r1.synthesis.journal import Journal
from cluster_r1.synthesis.runner import SynthesisRun, Tally
from cluster_r1.synthesis.sources import all_sources
from cluster_r1.types import Usage

_ATTEMPTS_A_TASK = 20  # after which a run gives up, if it is not told otherwise
_LEAST_ATTEMPTS = 60
# Five minutes of an endpoint that refuses everything; short waits, so that none outlasts it by much.
_PATIENCE = RetryPolicy(attempts=1000, longest_wait=8.0, patience=300.0)


@dataclass(frozen=True, slots=True)
class SynthesisResult:
    """What a run came to.

    Attributes:
        folder: where the files are.
        asked: tasks that were wanted.
        accepted: tasks that there are.
        attempts: up to the last of them, or all that were made, over all sessions of the run.
        rejected: attempts by reason.
        usage: what this call of `run` spent and saved.
        notes: what the user should know of the corpora.
    """

    folder: Path
    asked: int
    accepted: int
    attempts: int
    rejected: Mapping[str, int]
    usage: Usage
    notes: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether there are as many tasks as were wanted."""
        return self.accepted >= self.asked


class SynthesisGraph:
    """Makes clustering tasks with trusted labels, and reasoning traces for them, from corpora of texts.

    Args:
        model: a spec string for all roles (empty: this machine's default).
        models: spec strings by role, where they differ: `generator`, `verifier`, `critic`, `teacher`.
        config: sizes, bars and shares, or the YAML file that holds them.
        budget_tokens: the most tokens that a call of `run` may spend; it stops before it would spend more.
            One that goes on with a stopped run may spend as much again.
        concurrency: calls under way at once, at each endpoint.
        temperature: sent to the models when given.
        timeout: seconds that one call may take.
        cache: where answers are kept; None for `$CLUSTER_R1_CACHE` or the user's cache folder, False for
            nowhere (then a killed run asks again what was not yet decided).
        retries: how stubbornly failed calls are repeated.

    Raises:
        InputError: a role, model or setting cannot be used.
        ModelError: a server cannot be reached.
    """

    def __init__(
        self,
        model: str = "",
        *,
        models: Mapping[str, str] | None = None,
        config: SynthesisConfig | Path | str | None = None,
        budget_tokens: int | None = None,
        concurrency: int = 64,
        temperature: float | None = None,
        timeout: float = 600.0,
        cache: Path | str | Literal[False] | None = None,
        retries: RetryPolicy = _PATIENCE,
    ) -> None:
        if budget_tokens is not None and budget_tokens < 1:
            raise InputError(f"the budget is {budget_tokens} tokens: give 1 or more")
        if concurrency < 1:
            raise InputError(f"concurrency is {concurrency}: give 1 or more")
        self.config = config if isinstance(config, SynthesisConfig) else read_config(_path(config))
        self.budget_tokens = budget_tokens
        self._temperature = temperature
        options = ModelOptions(
            temperature=temperature, timeout=timeout, concurrency=concurrency, retries=retries
        )
        store = None if cache is False else ResponseCache(Path(cache) if cache else default_cache_path())
        specs = choose_specs(model, models or {})
        self._panel: Panel = open_panel(specs, options, store, self.config.seed)

    @property
    def models(self) -> dict[str, str]:
        """The spec string of each role."""
        return self._panel.specs

    def run(
        self,
        corpora: Any = (),
        *,
        tasks: int,
        out: Path | str,
        domains: Sequence[str] = (),
        text_column: str | None = None,
        id_column: str | None = None,
        licence: str = "",
        most_attempts: int | None = None,
        sequential: bool = False,
        overwrite: bool = False,
        trace: bool = False,
        on_event: Callable[[SynthesisEvent], None] | None = None,
        on_tally: Callable[[Tally], None] | None = None,
        on_wait: Callable[[str], None] | None = None,
    ) -> SynthesisResult:
        """Work until so many tasks are accepted; a run that stands in the folder is continued.

        Args:
            corpora: paths of files, or a dict of names and texts (lists, pandas Series, ...).
            tasks: how many accepted tasks are wanted.
            out: the folder of the run.
            domains: kinds of texts, in words, for which texts are written.
            text_column: of the corpora; found by its name if not given.
            id_column: likewise.
            licence: of the corpora, where no file beside them says.
            most_attempts: after which it gives up, once the slice is decided; 20 a task, if not given.
            sequential: one call after the other, in a fixed order of events.
            overwrite: replace another run that stands in the folder.
            trace: write every prompt and answer to `trace.jsonl`.
            on_event: is told, from another thread, what happens to each attempt.
            on_tally: likewise, after each slice that is decided, how far the run is.
            on_wait: likewise, that a call failed, and when it is repeated.

        Raises:
            InputError: something cannot be used; nothing was spent.
            ModelError: a server is gone. What was accepted is written; run again to go on.
            BudgetError: the budget is spent; likewise.
        """
        request = self._request(
            corpora,
            tasks=tasks,
            out=out,
            domains=domains,
            text_column=text_column,
            id_column=id_column,
            licence=licence,
            most_attempts=most_attempts,
            sequential=sequential,
            overwrite=overwrite,
            trace=trace,
        )
        listeners = _Listeners(on_event, on_tally, on_wait)
        return event_loop.run(self._run(request, listeners))

    def stream(self, corpora: Any = (), **options: Any) -> Iterator[SynthesisEvent | SynthesisResult]:
        """`run` as a stream of events, with the result at its end; it takes the same options.

        Whoever stops listening stops the run.
        """
        events: queue.SimpleQueue[SynthesisEvent | None] = queue.SimpleQueue()
        request = self._request(corpora, **options)
        running = event_loop.start(self._run(request, _Listeners(events.put)))
        running.future.add_done_callback(lambda _: events.put(None))
        try:
            while (event := events.get()) is not None:
                yield event
            yield running.future.result()
        finally:
            running.stop()

    async def astream(
        self, corpora: Any = (), **options: Any
    ) -> AsyncIterator[SynthesisEvent | SynthesisResult]:
        """`stream` for coroutines."""
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[SynthesisEvent | None] = asyncio.Queue()

        def forward(event: SynthesisEvent) -> None:
            loop.call_soon_threadsafe(events.put_nowait, event)

        request = self._request(corpora, **options)
        running = event_loop.start(self._run(request, _Listeners(forward)))
        running.future.add_done_callback(lambda _: loop.call_soon_threadsafe(events.put_nowait, None))
        try:
            while (event := await events.get()) is not None:
                yield event
            yield running.future.result()
        finally:
            await asyncio.to_thread(running.stop)

    def estimate(self, corpora: Any = (), *, tasks: int, **options: Any) -> SynthesisEstimate:
        """What a run would send, without asking a model; of `run`'s options it takes those of the corpora.

        Raises:
            InputError: the run would be refused.
        """
        return estimate_synthesis(
            SliceStore(all_sources(corpora, **options), self.config), self.config, tasks
        )

    def _request(
        self,
        corpora: Any,
        *,
        tasks: int,
        out: Path | str,
        domains: Sequence[str] = (),
        text_column: str | None = None,
        id_column: str | None = None,
        licence: str = "",
        most_attempts: int | None = None,
        sequential: bool = False,
        overwrite: bool = False,
        trace: bool = False,
    ) -> _Request:
        if tasks < 1:
            raise InputError(f"{tasks} tasks are wanted: give 1 or more")
        return _Request(
            sources=all_sources(
                corpora, domains, text_column=text_column, id_column=id_column, licence=licence
            ),
            tasks=tasks,
            folder=Path(out),
            most_attempts=most_attempts or max(_LEAST_ATTEMPTS, _ATTEMPTS_A_TASK * tasks),
            sequential=sequential,
            overwrite=overwrite,
            trace=trace,
        )

    async def _run(
        self,
        request: _Request,
        listeners: _Listeners,
    ) -> SynthesisResult:
        tell_wait.set(listeners.on_wait)
        store = SliceStore(request.sources, self.config)
        ledger = Ledger(self.budget_tokens, most_answer_tokens=MOST_ANSWER_TOKENS)
        context = OpenContext(
            settings=self.config,
            panel=self._panel,
            store=store,
            accepted=AcceptedTasks(self.config.novelty),
            ledger=ledger,
            on_event=listeners.on_event,
        )
        if not request.overwrite:
            refuse_foreign_files(request.folder)
        with Journal(request.folder, self._identity(request.sources), overwrite=request.overwrite) as journal:
            if journal.begun_anew:
                (request.folder / TRACE).unlink(missing_ok=True)
            recorder = TraceRecorder(request.folder / TRACE, keep=False) if request.trace else None
            run = SynthesisRun(
                context,
                journal,
                at_once=1 if request.sequential else None,
                recorder=recorder,
                on_tally=listeners.on_tally,
            )
            try:
                await run.until(request.tasks, request.most_attempts)
            finally:
                if recorder is not None:
                    recorder.close()
                facts = self._write(request, journal, store)
        notes = list(store.notes)
        if run.tally.accepted > facts.accepted:
            notes.append(
                f"the run has accepted {run.tally.accepted} tasks, of which the files hold the first "
                f"{facts.accepted}; with a larger --tasks they hold more, and nothing is asked again"
            )
        return SynthesisResult(
            folder=request.folder,
            asked=request.tasks,
            accepted=facts.accepted,
            attempts=facts.attempts,
            rejected=facts.rejected_by_reason(),
            usage=ledger.usage,
            notes=tuple(notes),
        )

    def _write(self, request: _Request, journal: Journal, store: SliceStore) -> Facts:
        """Write the files for what is decided."""
        context_tokens = self._context_tokens
        facts = write_dataset(request.folder, journal.slices(), request.tasks, context_tokens)
        card = write_card(
            facts,
            asked=request.tasks,
            settings=self.config,
            sources=request.sources,
            notes=store.notes,
            models=self.models,
            templates=templates(),
            context_tokens=context_tokens,
        )
        write_whole(request.folder / CARD, card)
        return facts

    @property
    def _context_tokens(self) -> int:
        return min(self.config.context_tokens, self._panel.context_tokens)

    def _identity(self, sources: Sequence[Source]) -> dict[str, Any]:
        """All that decides what comes out."""
        return {
            "version": __version__,
            "models": self.models,
            "temperature": self._temperature,
            "settings": self.config.model_dump(mode="json"),
            "context_tokens": self._context_tokens,
            "templates": templates(),
            "sources": [[source.name, source.sha256, source.licence] for source in sources],
        }


@dataclass(frozen=True, slots=True)
class _Listeners:
    """Who is told what; see `SynthesisGraph.run`."""

    on_event: Callable[[SynthesisEvent], None] | None = None
    on_tally: Callable[[Tally], None] | None = None
    on_wait: Callable[[str], None] | None = None


@dataclass(frozen=True, slots=True)
class _Request:
    """What a run is asked for."""

    sources: Sequence[Source]
    tasks: int
    folder: Path
    most_attempts: int
    sequential: bool
    overwrite: bool
    trace: bool


def _path(config: Path | str | None) -> Path | None:
    return None if config is None else Path(config)
