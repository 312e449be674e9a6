"""What the terminal shows of a synthesis: how far it is, each step if wanted, and what came of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as ProgressBar
from rich.table import Table

from cluster_r1.graphs.synthesis.outcome import SynthesisEvent
from cluster_r1.synthesis.card import CARD
from cluster_r1.synthesis.estimate import SynthesisEstimate
from cluster_r1.synthesis.runner import Tally
from cluster_r1.synthesis.synthesis_graph import SynthesisResult

_SECONDS_BETWEEN_LINES = 10.0  # where standard error is a file
_MOST_REASONS = 4

_MARKS = {"stage": "·", "revised": "↺", "rejected": "✗", "accepted": "✓"}


class ProgressShown(Protocol):
    """Is told how far a run is, and that a call waits to be repeated."""

    def on_tally(self, tally: Tally) -> None: ...

    def on_wait(self, message: str) -> None: ...


@contextmanager
def synthesis_progress(tasks: int) -> Iterator[ProgressShown]:
    """Accepted, revised and rejected, and why: a bar in a terminal, now and then a line in a file."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(tasks)
        return
    columns = (BarColumn(24), TextColumn("{task.description}"), TimeElapsedColumn())
    with ProgressBar(*columns, console=console, transient=True) as bar:
        yield _Bar(bar, tasks)


class _Bar:
    """A bar that fills with accepted tasks."""

    def __init__(self, bar: ProgressBar, tasks: int) -> None:
        self._bar, self._tasks = bar, tasks
        self._shown = bar.add_task("first answers are awaited", total=tasks)

    def on_tally(self, tally: Tally) -> None:
        said = escape(in_words(tally, self._tasks))
        self._bar.update(self._shown, completed=min(tally.accepted, self._tasks), description=said)

    def on_wait(self, message: str) -> None:
        self._bar.update(self._shown, description=f"[yellow]{escape(message)}[/yellow]")


class _Lines:
    """A line now and then."""

    def __init__(self, tasks: int) -> None:
        self._tasks = tasks
        self._last = time.monotonic()

    def on_tally(self, tally: Tally) -> None:
        self._say(in_words(tally, self._tasks))

    def on_wait(self, message: str) -> None:
        self._say(message)

    def _say(self, line: str) -> None:
        if time.monotonic() - self._last >= _SECONDS_BETWEEN_LINES:
            self._last = time.monotonic()
            typer.echo(line, err=True)


def in_words(tally: Tally, tasks: int) -> str:
    """A tally in a line."""
    said = f"{min(tally.accepted, tasks)} of {tasks} accepted, {tally.attempts} attempts"
    if tally.revised:
        said += f", {tally.revised} sent back"
    reasons = tally.rejected.most_common(_MOST_REASONS)
    if reasons:
        said += "; rejected: " + ", ".join(f"{count} {_plain(reason)}" for reason, count in reasons)
    return said


def show_event(event: SynthesisEvent) -> None:
    """One step of an attempt, as a line."""
    print(f"{event.task_id} {_MARKS[event.kind]} {event.stage}: {event.message}", file=sys.stderr)  # noqa: T201


def show_synthesis(result: SynthesisResult) -> None:
    """What became of the attempts, what it cost, and where the files are."""
    console = Console()
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("attempts")
    table.add_column("", justify="right")
    table.add_row("[bold]accepted[/bold]", f"[bold]{result.accepted}[/bold]")
    for reason, count in result.rejected.items():
        table.add_row(f"rejected: {_plain(reason)}", str(count))
    console.print(table)
    used = result.usage
    spent = (
        f"{used.calls:,} calls, {used.input_tokens:,} tokens in and {used.output_tokens:,} out"
        if used.calls
        else "no calls"
    )
    saved = f"; {used.saved_calls:,} answers from the cache" if used.saved_calls else ""
    console.print(f"{spent}{saved}", soft_wrap=True, highlight=False)
    console.print(
        f"tasks: {escape(str(result.folder))}; what is in it: {escape(str(result.folder / CARD))}",
        soft_wrap=True,
        highlight=False,
    )


def show_estimate(estimate: SynthesisEstimate, models: str) -> None:
    """What a run would take at least."""
    typer.echo(
        f"{estimate.tasks} tasks of about {estimate.texts:.0f} texts for {models}: an attempt takes about "
        f"{estimate.calls:.0f} calls and {estimate.tokens:,} tokens, reasoning aside. If every attempt is "
        f"accepted, that is {estimate.least_calls:,} calls and {estimate.least_tokens:,} tokens; if every "
        f"third is, about {3 * estimate.least_tokens:,}. Nothing was sent."
    )


def _plain(reason: str) -> str:
    return reason.replace("_", " ")
