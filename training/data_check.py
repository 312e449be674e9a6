"""Checks a training or task file before anybody spends a night on it."""

from __future__ import annotations

from pathlib import Path

from cluster_r1.errors import InputError
from cluster_r1.json_lines import read_json_lines
from cluster_r1.task import read_tasks
from cluster_r1.training.examples import Example, RlExample, SftExample, families, read_examples
from cluster_r1.training.rewards import judge


def check_file(path: Path) -> str:
    """What is in a file, in a line.

    Raises:
        InputError: something in it cannot be used; the message names file and line.
    """
    _, first = next(read_json_lines(path), (0, None))
    if first is None:
        raise InputError(f"{path} is empty")
    if "completion" in first:
        rows = read_examples(path, SftExample)
        broken = [row.id for row in rows if not judge(row.completion[0].content, row.reference).exact]
        if broken:
            raise InputError(
                f"{path}: the completion of {broken[0]} ({len(broken)} rows) is no exact cover of its texts"
            )
        return _described("SFT rows", rows)
    if "prompt" in first:
        return _described("RL rows", read_examples(path, RlExample))
    tasks = read_tasks(path)
    sizes = [len(task.texts) for task in tasks]
    return f"{len(tasks)} tasks of {min(sizes)} to {max(sizes)} texts"


def _described(kind: str, rows: list[SftExample] | list[RlExample]) -> str:
    sizes, ks = [row.n for row in rows], [row.k for row in rows]
    listed: list[Example] = list(rows)
    if repeated := len(rows) - len({row.id for row in rows}):
        raise InputError(f"{repeated} of {len(rows)} ids occur more than once")
    return (
        f"{len(rows)} {kind} of {min(sizes)} to {max(sizes)} texts in {min(ks)} to {max(ks)} clusters, "
        f"{len(families(listed))} instruction families"
    )
