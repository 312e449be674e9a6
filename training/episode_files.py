"""Writes episodes as training files: tasks, SFT rows, RL rows, held-out tasks, and a card about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cluster_r1.errors import InputError
from cluster_r1.json_lines import write_json_lines
from cluster_r1.task import Task
from cluster_r1.training.episodes import EpisodeSettings, draw_episodes
from cluster_r1.training.examples import RlExample, rl_example, sft_example
from cluster_r1.training.labelled import LabelledSet
from cluster_r1.training.rewards import reward
from cluster_r1.training.traces import write_trace

TASKS, SFT, RL = "tasks.jsonl", "sft.jsonl", "rl.jsonl"
_HELD_OUT_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Split:
    """Which `corpus/attribute` families are trained on, and which are held out."""

    train: tuple[str, ...]
    held_out: tuple[str, ...]


def split_families(sets: Sequence[LabelledSet], hold_out: Sequence[str], seed: int) -> Split:
    """Keep families apart.

    Args:
        sets: the labelled sets.
        hold_out: names of corpora or of `corpus/attribute`; empty: a fifth of the families, as the seed says.
        seed: of that choice.

    Raises:
        InputError: a name is unknown, or nothing is left on one side.
    """
    families = [f"{labelled.corpus}/{name}" for labelled in sets for name in sorted(labelled.attributes)]
    if hold_out:
        for name in hold_out:
            if not any(_is_of(family, name) for family in families):
                raise InputError(f"nothing to hold out is called {name!r}. There are: {', '.join(families)}")
        held_out = [family for family in families if any(_is_of(family, name) for name in hold_out)]
    else:
        count = max(1, round(_HELD_OUT_SHARE * len(families)))
        chosen = np.random.default_rng(seed).choice(
            len(families), size=min(count, len(families)), replace=False
        )
        held_out = [families[position] for position in sorted(chosen)]
    train = [family for family in families if family not in held_out]
    if not train:
        raise InputError("everything is held out: nothing is left to train on")
    return Split(tuple(train), tuple(held_out))


def write_episodes(
    sets: Sequence[LabelledSet],
    folder: Path,
    *,
    train: int,
    validation: int,
    settings: EpisodeSettings,
    hold_out: Sequence[str] = (),
    context_tokens: int | None = None,
) -> Split:
    """Draw and write `train/{tasks,sft,rl}.jsonl`, `validation/{tasks,rl}.jsonl` and `card.md`.

    Args:
        sets: what is drawn from.
        folder: where the files go.
        train: episodes to train on.
        validation: episodes of held-out families.
        settings: sizes, numbers of clusters, seed.
        hold_out: see `split_families`.
        context_tokens: long texts are shortened for this context, as at inference.

    Raises:
        InputError: the settings cannot be met, or the folder cannot be written.
    """
    split = split_families(sets, hold_out, settings.seed)
    tasks = list(draw_episodes(sets, train, settings.model_copy(update={"attributes": split.train})))
    held_out_settings = settings.model_copy(update={"attributes": split.held_out, "seed": settings.seed + 1})
    held_out = [
        task.model_copy(update={"split": "validation"})
        for task in draw_episodes(sets, validation, held_out_settings)
    ]
    _write_train(folder / "train", tasks, context_tokens)
    _write_rows(folder / "validation", held_out, [rl_example(task, context_tokens) for task in held_out])
    (folder / "card.md").write_text(_card(sets, split, tasks, held_out, settings), encoding="utf-8")
    return split


def write_rows_of_tasks(tasks: Sequence[Task], folder: Path, context_tokens: int | None = None) -> int:
    """Write `sft.jsonl` and `rl.jsonl` for tasks of any origin: a row for each wording of each instruction.

    Returns:
        How many rows each file has.

    Raises:
        InputError: a task is uninformative or too long, or the folder cannot be written.
    """
    worded = [_worded(task, number) for task in tasks for number in range(1 + len(task.paraphrases))]
    _write_train(folder, worded, context_tokens)
    return len(worded)


def _worded(task: Task, number: int) -> Task:
    """The task in one of its wordings; 0 is the instruction itself."""
    wording = (task.instruction, *task.paraphrases)[number]
    meta = {"attribute": task.id, **task.meta}  # its wordings are of one family
    return task.model_copy(update={"id": f"{task.id}/{number}", "instruction": wording, "meta": meta})


def _is_of(family: str, name: str) -> bool:
    return name in (family, family.partition("/")[0])


def _write_train(folder: Path, tasks: Sequence[Task], context_tokens: int | None) -> None:
    rows = [rl_example(task, context_tokens) for task in tasks]
    traces = [write_trace(task) for task in tasks]
    taught = [
        sft_example(row, trace, score=reward(trace, row.reference))
        for row, trace in zip(rows, traces, strict=True)
    ]
    _write_rows(folder, tasks, rows)
    write_json_lines(folder / SFT, taught)


def _write_rows(folder: Path, tasks: Sequence[Task], rows: Sequence[RlExample]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be made: {error.strerror}. Choose another --out") from error
    write_json_lines(folder / TASKS, tasks)
    write_json_lines(folder / RL, rows)


def _card(
    sets: Sequence[LabelledSet],
    split: Split,
    train: Sequence[Task],
    held_out: Sequence[Task],
    settings: EpisodeSettings,
) -> str:
    sources = "\n".join(
        f"| {labelled.corpus} | {len(labelled.rows)} | {labelled.licence} | {labelled.source} |"
        for labelled in sets
    )
    return (
        "# Episodes\n\n"
        "Tasks drawn from labelled sets: some texts, one attribute, one wording of the instruction. The "
        "reasoning is written from the labels: it has the form of a teacher's trace, not its reasons.\n\n"
        f"## Sources\n\n| corpus | texts | licence | source |\n| --- | --- | --- | --- |\n{sources}\n\n"
        f"## Trained on\n\n{_distribution(train)}\n\n"
        "## Held out\n\nInstruction families that no training row asks for. Their texts may occur in training"
        f" under another instruction, unless the whole corpus is held out.\n\n{_distribution(held_out)}\n\n"
        f"Families trained on: {', '.join(split.train)}.\n\n"
        f"Families held out: {', '.join(split.held_out)}.\n\n"
        f"## Settings\n\n```json\n{settings.model_dump_json(indent=2)}\n```\n"
    )


def _distribution(tasks: Sequence[Task]) -> str:
    rows = ["| family | episodes | texts | clusters |", "| --- | --- | --- | --- |"]
    counts = Counter(f"{task.corpus}/{task.meta['attribute']}" for task in tasks)
    for family, count in sorted(counts.items()):
        some = [task for task in tasks if f"{task.corpus}/{task.meta['attribute']}" == family]
        texts, ks = _range(len(task.texts) for task in some), _range(task.k for task in some)
        rows.append(f"| {family} | {count} | {texts} | {ks} |")
    return "\n".join(rows)


def _range(values: Iterable[int]) -> str:
    listed = list(values)
    low, high = min(listed), max(listed)
    return str(low) if low == high else f"{low}–{high}"
