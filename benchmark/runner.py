"""Runs an agent over tasks and says how well its groupings agree with the reference."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cluster_r1.agent import ClusteringAgent
from cluster_r1.metrics import agreement
from cluster_r1.task import Task


@dataclass(frozen=True, slots=True)
class TaskResult:
    """One task as it came out. Measures as in `cluster_r1.metrics`; an unassigned text counts as alone.

    Attributes:
        texts, k, k_found: sizes, and clusters in the reference and in the result.
        unassigned: texts in no cluster.
        calls, tokens: of the model, those from the cache included.
        seconds: the run took.
        stop_reason: why the graph stopped.
    """

    task: str
    corpus: str
    instruction: str
    model: str
    texts: int
    k: int
    k_found: int
    ami: float
    v: float
    ari: float
    k_error: float
    unassigned: int
    calls: int
    tokens: int
    seconds: float
    stop_reason: str

    def record(self) -> dict[str, Any]:
        """As a line of a results file."""
        return asdict(self)


def run_tasks(agent: ClusteringAgent, tasks: Sequence[Task], *, true_k: bool = False) -> Iterator[TaskResult]:
    """Each task's result, as it is done.

    Args:
        agent: what is measured.
        tasks: what it is asked.
        true_k: whether the agent is told the number of clusters.

    Raises:
        ModelError: the model cannot be reached.
    """
    for task in tasks:
        began = time.perf_counter()
        result = agent.cluster(
            [text.model_dump() for text in task.texts], task.instruction, task.k if true_k else None
        )
        seconds = time.perf_counter() - began
        predicted = [
            f"alone {position}" if label < 0 else str(label) for position, label in enumerate(result.labels)
        ]
        measured = agreement(task.labels, predicted)
        usage = result.usage
        yield TaskResult(
            task=task.id,
            corpus=task.corpus,
            instruction=task.instruction,
            model=agent.model,
            texts=len(task.texts),
            k=task.k,
            k_found=result.n_clusters,
            ami=measured.ami,
            v=measured.v,
            ari=measured.ari,
            k_error=abs(result.n_clusters - task.k) / task.k,
            unassigned=len(result.unassigned),
            calls=usage.calls + usage.saved_calls,
            tokens=usage.total_tokens + usage.saved_tokens,
            seconds=seconds,
            stop_reason=result.stop_reason,
        )


def table(results: Sequence[TaskResult]) -> str:
    """The results as a Markdown table, means last."""
    lines = [
        "| task | texts | k | found | AMI | V | ARI | k error | calls | tokens | seconds |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {r.task} | {r.texts} | {r.k} | {r.k_found} | {r.ami:.2f} | {r.v:.2f} | {r.ari:.2f} "
        f"| {r.k_error:.2f} | {r.calls} | {r.tokens} | {r.seconds:.1f} |"
        for r in results
    ]

    def mean(name: str) -> float:
        return statistics.fmean(getattr(result, name) for result in results)

    lines.append(
        f"| mean of {len(results)} | {mean('texts'):.0f} | {mean('k'):.1f} | {mean('k_found'):.1f} "
        f"| {mean('ami'):.2f} | {mean('v'):.2f} | {mean('ari'):.2f} | {mean('k_error'):.2f} "
        f"| {mean('calls'):.1f} | {mean('tokens'):.0f} | {mean('seconds'):.1f} |"
    )
    return "\n".join(lines)
