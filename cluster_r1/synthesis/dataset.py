"""Writes what a run has accepted as a data set: tasks, SFT and RL rows by split, and what was rejected."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from cluster_r1.errors import InputError
from cluster_r1.graphs.synthesis.config import SPLITS, Split
from cluster_r1.graphs.synthesis.outcome import Outcome
from cluster_r1.json_lines import json_lines_file
from cluster_r1.run_folder import TRACE
from cluster_r1.synthesis.card import CARD, Facts
from cluster_r1.synthesis.journal import JOURNAL
from cluster_r1.training.episode_files import RL, SFT, TASKS
from cluster_r1.training.examples import RlExample, SftExample, rl_example, sft_example
from cluster_r1.training.rewards import reward

REJECTED = "rejected.jsonl"

_Write = Callable[[Any], None]


def refuse_foreign_files(folder: Path) -> None:
    """Raise an InputError where files stand in the way that are of no run."""
    if (folder / JOURNAL).exists():
        return
    ours = [
        REJECTED,
        CARD,
        TRACE,
        *(f"{split}/{name}" for split in SPLITS for name in (TASKS, SFT, RL)),
    ]
    if foreign := [name for name in ours if (folder / name).exists()]:
        raise InputError(
            f"{folder} holds a file {foreign[0]} that is of no run. Choose another folder (--out), or "
            "replace it with --overwrite (overwrite=True)"
        )


def write_dataset(folder: Path, slices: Iterable[list[Outcome]], tasks: int, context_tokens: int) -> Facts:
    """Write `<split>/{tasks,sft,rl}.jsonl` for the first so many accepted tasks, and `rejected.jsonl`.

    Args:
        folder: where the files go; each appears whole, and replaces that of an earlier state of the run.
        slices: the decided attempts, in order; read one by one.
        tasks: how many.
        context_tokens: the context for which prompts shorten long texts.

    Returns:
        What the card says of them.
    """
    facts = Facts()
    with ExitStack() as stack:
        files = {split: _files(folder, split, stack) for split in SPLITS}
        reject = stack.enter_context(json_lines_file(folder / REJECTED))
        for outcome in _until(slices, tasks):
            facts.add(outcome)
            if outcome.task is None:
                reject(outcome.model_dump(mode="json", exclude={"task", "traces"}))
            else:
                _write_task(files[outcome.split], outcome, context_tokens)
    for split in SPLITS:
        _remove_empty(folder, split)
    return facts


def _until(slices: Iterable[list[Outcome]], tasks: int) -> Iterator[Outcome]:
    """The attempts up to the one with which there are enough tasks."""
    accepted = 0
    for outcomes in slices:
        for outcome in outcomes:
            if accepted == tasks:
                return
            accepted += outcome.task is not None
            yield outcome


def _files(folder: Path, split: Split, stack: ExitStack) -> Mapping[str, _Write]:
    (folder / split).mkdir(parents=True, exist_ok=True)
    return {name: stack.enter_context(json_lines_file(folder / split / name)) for name in (TASKS, SFT, RL)}


def _write_task(files: Mapping[str, _Write], outcome: Outcome, context_tokens: int) -> None:
    assert outcome.task is not None
    row = rl_example(outcome.task, context_tokens)
    files[TASKS](outcome.task)
    files[RL](row)
    for example in _taught(row, outcome):
        files[SFT](example)


def _taught(row: RlExample, outcome: Outcome) -> Iterator[SftExample]:
    for number, trace in enumerate(outcome.traces, 1):
        source = row.model_copy(update={"id": f"{row.id}/{number}"})
        yield sft_example(source, trace.completion, score=round(reward(trace.completion, row.reference), 4))


def _remove_empty(folder: Path, split: Split) -> None:
    """A file without rows is read by no loader, so there is none."""
    for name in (TASKS, SFT, RL):
        path = folder / split / name
        if not path.stat().st_size:
            path.unlink()
    if not any((folder / split).iterdir()):
        (folder / split).rmdir()
