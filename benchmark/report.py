"""A run's folder: its tasks, answers, and what is written of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from cluster_r1.benchmark.markdown import by_task, leaderboards
from cluster_r1.benchmark.pages.page import page
from cluster_r1.benchmark.results import Results, results_of
from cluster_r1.benchmark.runner import read_answers
from cluster_r1.benchmark.task_sets import SPLITS, shipped_tasks
from cluster_r1.errors import InputError
from cluster_r1.json_lines import write_json_lines
from cluster_r1.task import Task, read_tasks

TASKS = "tasks.jsonl"
RESULTS, TABLE, PAGE = "results.json", "table.md", "index.html"


def keep_tasks(folder: Path, tasks: Sequence[Task]) -> None:
    """Write the tasks of a run beside those that the folder's earlier runs had.

    A task that has changed since replaces its former self, whose answers no longer count.
    """
    folder.mkdir(parents=True, exist_ok=True)
    known = {task.id: task for task in _kept(folder)} | {task.id: task for task in tasks}
    write_json_lines(folder / TASKS, known.values())


def write_report(folder: Path) -> Results:
    """Write `results.json`, `table.md` and `index.html` of the answers in a folder.

    Answers without `tasks.jsonl` beside them are taken for answers to shipped tasks.

    Raises:
        InputError: there are none, or a file cannot be read.
    """
    answers = list(read_answers(folder).values())
    if not answers:
        raise InputError(f"{folder} holds no benchmark run: name the folder that `bench run --out` wrote")
    tasks = _kept(folder) or _shipped({answer.task for answer in answers})
    results = results_of(tasks, answers)
    parts = [leaderboards(results)]
    parts += [f"AMI by task, k {panel}:\n\n{by_task(results, panel)}" for panel in results.panels]
    _write(folder / RESULTS, results.model_dump_json(indent=1))
    _write(folder / TABLE, "\n\n".join(parts))
    _write(folder / PAGE, page(results, tasks, answers))
    return results


def _kept(folder: Path) -> list[Task]:
    path = folder / TASKS
    return read_tasks(path) if path.is_file() else []


def _shipped(ids: Collection[str]) -> list[Task]:
    return [task for split in SPLITS for task in shipped_tasks(split) if task.id in ids]


def _write(path: Path, content: str) -> None:
    """The file appears whole or not at all."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.write_text(content + "\n", encoding="utf-8", newline="\n")
    unfinished.replace(path)
