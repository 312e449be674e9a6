"""Results as Markdown tables: a leaderboard for each panel, and AMI by task."""

from __future__ import annotations

from collections.abc import Sequence

from cluster_r1.benchmark.results import Results, SystemResult
from cluster_r1.benchmark.systems.system import Panel
from cluster_r1.markdown import table

_TITLES: dict[Panel, str] = {"discover": "k to be found", "given": "k given"}
_MEASURES = {
    "ARI": "ari",
    "V": "v",
    "k error": "k_error",
    "gap": "gap",
    "paraphrases": "paraphrases",
    "orders": "orders",
    "tokens": "tokens",
    "seconds": "seconds",
}
_NONE = "–"


def leaderboards(results: Results) -> str:
    """A table for each panel, the best system first."""
    return "\n\n".join(
        f"**{_TITLES[panel]}**, {len(results.tasks)} tasks\n\n{_leaderboard(results.panels[panel])}"
        for panel in _TITLES
        if panel in results.panels
    )


def by_task(results: Results, panel: Panel) -> str:
    """AMI of each task with each system of a panel."""
    systems = results.panels[panel]
    found = {system.system: {row.task: row.ami for row in system.tasks} for system in systems}
    rows = [
        [task.id, str(task.k), "yes" if task.topical else "no"]
        + [number(found[system.system].get(task.id)) for system in systems]
        for task in results.tasks
    ]
    return table(["task", "k", "topic", *(system.system for system in systems)], rows)


def _leaderboard(systems: Sequence[SystemResult]) -> str:
    rows = [
        [
            system.system,
            str(len(system.tasks)),
            f"{number(system.ami)} [{number(system.low)}, {number(system.high)}]",
            number(system.not_topical),
            number(system.topical),
            *(_measure(name, system.means[name]) for name in _MEASURES.values()),
        ]
        for system in systems
    ]
    return table(["system", "tasks", "AMI", "no topics", "topics", *_MEASURES], rows)


def _measure(name: str, value: float | None) -> str:
    if value is None:
        return _NONE
    return f"{value:,.0f}" if name == "tokens" else number(value)


def number(value: float | None) -> str:
    """With two digits; a dash where there is none."""
    if value is None:
        return _NONE
    return f"{value:.2f}".replace("-0.00", "0.00")
