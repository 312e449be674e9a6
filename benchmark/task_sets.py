"""The tasks that the package ships, what is checked of any task file, and which tasks share their texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Literal

from cluster_r1.errors import InputError
from cluster_r1.metrics import adjusted_mutual_info
from cluster_r1.task import Task, read_tasks

Split = Literal["test", "development"]

SPLITS: tuple[Split, ...] = ("test", "development")

_DEPENDENT = 0.1  # AMI of two attributes of a corpus from which on one says much about the other
_FEWEST = 20  # texts that a task should have


def tasks_folder() -> Path:
    """Where the shipped tasks, corpora and their card lie."""
    return Path(str(resources.files("cluster_r1.benchmark").joinpath("tasks")))


def shipped_tasks(split: Split) -> list[Task]:
    """The tasks of a split: 28 to test with, or those to develop and train with."""
    return read_tasks(tasks_folder() / f"{split}.jsonl")


def named_tasks(names: Sequence[str]) -> list[Task]:
    """Tasks by split, corpus or id, or of files; the test split if nothing is named.

    Raises:
        InputError: a name is neither a file nor known, or two tasks have the same id.
    """
    return distinct_tasks(task for name in names or ("test",) for task in _of_name(name))


def distinct_tasks(tasks: Iterable[Task]) -> list[Task]:
    """Each task once.

    Raises:
        InputError: two different tasks have the same id.
    """
    chosen: dict[str, Task] = {}
    for task in tasks:
        if chosen.setdefault(task.id, task) != task:
            raise InputError(f"two tasks have the id {task.id!r}: give each its own")
    return list(chosen.values())


def _of_name(name: str) -> list[Task]:
    if (path := Path(name)).is_file():
        return read_tasks(path)
    shipped = [task for split in SPLITS for task in shipped_tasks(split)]
    found = [task for task in shipped if name in (task.split, task.corpus, task.id)]
    if not found:
        known = ", ".join([*SPLITS, *dict.fromkeys(task.corpus for task in shipped)])
        raise InputError(
            f"{name!r} is neither a file nor a task: name a JSONL file, {known}, or a task of "
            "`cluster-r1 bench tasks`"
        )
    return found


def siblings(task: Task, tasks: Iterable[Task]) -> dict[str, list[str]]:
    """The labels of the same texts for other attributes, by task id."""
    return {
        other.id: [other.reference[text.id] for text in task.texts]
        for other in tasks
        if other.id != task.id and other.corpus == task.corpus and set(task.texts) <= set(other.texts)
    }


def findings(tasks: Sequence[Task]) -> list[str]:
    """What whoever wrote the tasks should look at, one line each; nothing of it makes them unusable."""
    return [line for task in tasks for line in _findings_of(task)] + _dependent(tasks)


def _findings_of(task: Task) -> list[str]:
    found = []
    sizes = Counter(task.labels)
    if len(sizes) < 2:
        found.append("all texts have the same label: every partition but one scores 0")
    if len(sizes) == len(task.texts):
        found.append("every text has a label of its own")
    if len(task.texts) < _FEWEST:
        found.append(f"{len(task.texts)} texts are few: intervals will be wide")
    if alone := [label for label, size in sizes.items() if size == 1]:
        found.append(f"labels with one text: {', '.join(map(repr, alone[:3]))}")
    wordings = Counter(text.text.strip() for text in task.texts)
    if repeated := sum(count - 1 for count in wordings.values()):
        found.append(f"{repeated} texts stand there more than once")
    if strange := sorted(task.reference.keys() - {text.id for text in task.texts}):
        found.append(f"the reference labels {len(strange)} texts that are not there, such as {strange[0]!r}")
    if len({task.instruction, *task.paraphrases}) <= len(task.paraphrases):
        found.append("two of its wordings are equal")
    return [f"{task.id}: {line}" for line in found]


def _dependent(tasks: Sequence[Task]) -> list[str]:
    found = []
    for number, task in enumerate(tasks):
        for other, labels in siblings(task, tasks[number + 1 :]).items():
            shared = adjusted_mutual_info(task.labels, labels)
            if shared > _DEPENDENT:
                found.append(
                    f"{task.id} and {other} are dependent (AMI {shared:.2f}): a system that answers one of "
                    "them scores on both"
                )
    return found


def describe(task: Task) -> Mapping[str, object]:
    """A task in one line of a listing."""
    return {
        "name": task.id,
        "corpus": task.corpus,
        "split": task.split,
        "attribute": task.meta.get("attribute", ""),
        "instruction": task.instruction,
        "n": len(task.texts),
        "k": task.k,
    }
