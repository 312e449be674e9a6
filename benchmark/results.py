"""From answers to results: scores, intervals, robustness and comparisons; what `results.json` holds."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cluster_r1 import __version__
from cluster_r1.benchmark.intervals import (
    Interval,
    compare,
    halves,
    interval_over_texts,
    on_halves,
)
from cluster_r1.benchmark.measures import Scores, as_partition, score, stability
from cluster_r1.benchmark.runner import StoredAnswer, task_digest
from cluster_r1.benchmark.systems.system import PANELS, Panel
from cluster_r1.benchmark.task_sets import siblings
from cluster_r1.errors import InputError
from cluster_r1.metrics import adjusted_mutual_info
from cluster_r1.task import Task
from cluster_r1.types import Record


class TaskInfo(Record):
    """A task as results speak of it."""

    id: str
    corpus: str
    attribute: str
    topical: bool
    instruction: str
    texts: int
    k: int


class TaskScore(Scores):
    """The scores of a system's answer to one task, and what else is known of it.

    Attributes:
        low, high: 95 % interval of `ami` over texts.
        paraphrases: mean ARI of the answers to its wordings, None if only one was asked.
        orders: likewise of the orders of its texts.
        calls, tokens, seconds: of the answer to the instruction in the texts' own order; seconds are None
            where calls were answered from a cache.
    """

    task: str
    low: float
    high: float
    paraphrases: float | None
    orders: float | None
    calls: int
    tokens: int
    seconds: float | None


class SystemResult(Record):
    """A system on all its tasks of a panel.

    Attributes:
        ami, low, high: mean over tasks, and its 95 % interval over texts (the tasks of a corpus share them).
        not_topical: mean AMI over tasks that are not about a topic; None if there are none.
        topical: likewise over those that are.
        means: of the other measures, over the tasks that have them.
        tasks: one by one.
    """

    system: str
    ami: float
    low: float
    high: float
    not_topical: float | None
    topical: float | None
    means: Mapping[str, float | None]
    tasks: tuple[TaskScore, ...]


class PairResult(Record):
    """The leader of a panel minus another system, over the tasks that both answered; see `Comparison`."""

    leader: str
    other: str
    difference: float
    low: float
    high: float
    better: int
    worse: int
    p: float


class Results(Record):
    """Everything that a results page shows, but for the texts and the answers themselves."""

    version: str
    tasks: tuple[TaskInfo, ...]
    panels: Mapping[Panel, tuple[SystemResult, ...]]
    comparisons: Mapping[Panel, tuple[PairResult, ...]]


_MEANS = (
    "v", "ari", "pairwise_f1", "bcubed_f1", "accuracy", "k_error", "coverage", "singleton_rate", "gap",
    "paraphrases", "orders", "calls", "tokens", "seconds",
)  # fmt: skip
_DIGITS = 4


def results_of(tasks: Sequence[Task], answers: Iterable[StoredAnswer]) -> Results:
    """Score answers; systems are ordered by their mean AMI, the best first.

    Raises:
        InputError: there is no answer to any of the tasks.
    """
    by_panel: dict[Panel, dict[str, dict[str, list[StoredAnswer]]]] = defaultdict(dict)
    known = {task.id: task for task in tasks}
    for answer in answers:
        if answer.task in known and answer.asked == task_digest(known[answer.task], answer.panel):
            found = by_panel[answer.panel].setdefault(answer.system, defaultdict(list))
            found[answer.task].append(answer)
    by_panel = {panel: with_main for panel, systems in by_panel.items() if (with_main := _answered(systems))}
    if not by_panel:
        raise InputError("there are no answers to these tasks: run `cluster-r1 bench run` first")
    others = {task.id: siblings(task, tasks) for task in tasks}
    panels = {
        panel: _ordered(_system(name, found, known, others) for name, found in by_panel[panel].items())
        for panel in PANELS
        if panel in by_panel
    }
    return Results(
        version=__version__,
        tasks=tuple(map(_info, tasks)),
        panels=panels,
        comparisons={panel: _comparisons(systems) for panel, systems in panels.items()},
    )


def _answered(
    systems: Mapping[str, dict[str, list[StoredAnswer]]],
) -> dict[str, dict[str, list[StoredAnswer]]]:
    """Those that answered at least one instruction itself."""
    return {name: found for name, found in systems.items() if any(map(main_answer, found.values()))}


def main_answer(answers: Sequence[StoredAnswer]) -> StoredAnswer | None:
    """The latest of them that answers the instruction itself, in the texts' own order."""
    return next((a for a in reversed(answers) if a.wording == a.shuffle == 0), None)


def _info(task: Task) -> TaskInfo:
    return TaskInfo(
        id=task.id,
        corpus=task.corpus,
        attribute=str(task.meta.get("attribute", task.id)),
        topical=bool(task.meta.get("topical", False)),
        instruction=task.instruction,
        texts=len(task.texts),
        k=task.k,
    )


def _ordered(systems: Iterable[SystemResult]) -> tuple[SystemResult, ...]:
    """The best first; after them those that have not answered as many tasks, whose means say less."""
    found = list(systems)
    most = max((len(system.tasks) for system in found), default=0)
    return tuple(sorted(found, key=lambda s: (len(s.tasks) < most, -s.ami, s.system)))


def _system(
    name: str,
    found: Mapping[str, Sequence[StoredAnswer]],
    tasks: Mapping[str, Task],
    others: Mapping[str, Mapping[str, list[str]]],
) -> SystemResult:
    rows: list[TaskScore] = []
    drawn: list[list[float]] = []
    for task in (task for id, task in tasks.items() if id in found):
        if (main := main_answer(found[task.id])) is None:
            continue
        scores, on = _score(task, main, others[task.id])
        rows.append(_task_score(task, scores, on, found[task.id], main))
        drawn.append(on)
    mean = statistics.fmean(row.ami for row in rows)
    whole = interval_over_texts(mean, [statistics.fmean(column) for column in zip(*drawn, strict=True)])
    return SystemResult(
        system=name,
        **_rounded(whole, "ami"),
        topical=_mean([row.ami for row in rows if tasks[row.task].meta.get("topical")]),
        not_topical=_mean([row.ami for row in rows if not tasks[row.task].meta.get("topical")]),
        means={measure: _mean([getattr(row, measure) for row in rows]) for measure in _MEANS},
        tasks=tuple(rows),
    )


def _score(task: Task, answer: StoredAnswer, others: Mapping[str, list[str]]) -> tuple[Scores, list[float]]:
    """Its scores, and its AMI on halves of the texts, the same for all tasks over a corpus's texts."""
    predicted = as_partition(answer.labels)
    chosen = halves(len(task.texts), task.corpus)
    return (
        score(task.labels, answer.labels, others),
        on_halves(adjusted_mutual_info, task.labels, predicted, chosen),
    )


def _task_score(
    task: Task,
    scores: Scores,
    on: Sequence[float],
    answers: Sequence[StoredAnswer],
    main: StoredAnswer,
) -> TaskScore:
    measured: dict[str, Any] = {
        name: round(value, _DIGITS) if isinstance(value, float) else value
        for name, value in scores.model_dump().items()
    }
    interval = _rounded(interval_over_texts(scores.ami, on), "ami")
    return TaskScore(
        task=task.id,
        **{**measured, **interval},
        paraphrases=_or_none(stability([a.labels for a in _latest(answers, "wording")])),
        orders=_or_none(stability([a.labels for a in _latest(answers, "shuffle")])),
        calls=main.calls,
        tokens=main.tokens,
        seconds=main.seconds,
    )


def _latest(answers: Sequence[StoredAnswer], by: str) -> list[StoredAnswer]:
    """Of answers to the same variation, the latest."""
    other = "shuffle" if by == "wording" else "wording"
    return list({getattr(a, by): a for a in answers if getattr(a, other) == 0}.values())


def _comparisons(systems: Sequence[SystemResult]) -> tuple[PairResult, ...]:
    leader, *rest = systems
    by_task = {system.system: {row.task: row.ami for row in system.tasks} for system in systems}
    pairs = []
    for other in rest:
        if not by_task[leader.system].keys() & by_task[other.system].keys():
            continue
        found = compare(by_task[leader.system], by_task[other.system])
        pairs.append(
            PairResult(
                leader=leader.system,
                other=other.system,
                **_rounded(found.difference, "difference"),
                better=found.better,
                worse=found.worse,
                p=round(found.p, _DIGITS),
            )
        )
    return tuple(pairs)


def _rounded(interval: Interval, name: str) -> dict[str, float]:
    return {
        name: round(interval.value, _DIGITS),
        "low": round(interval.low, _DIGITS),
        "high": round(interval.high, _DIGITS),
    }


def _mean(values: Iterable[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return round(statistics.fmean(present), _DIGITS) if present else None


def _or_none(value: float | None) -> float | None:
    return None if value is None else round(value, _DIGITS)
