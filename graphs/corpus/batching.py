"""Has the clustering graph group texts of a corpus, as many as one context holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cluster_r1.errors import BudgetError, RefusedError
from cluster_r1.graphs.clustering import OpenContext, graph, recursion_limit
from cluster_r1.graphs.clustering.checking import NOT_PLACED
from cluster_r1.graphs.corpus.reconciling import BatchCluster
from cluster_r1.graphs.corpus.state import CorpusContext
from cluster_r1.types import NO_CLUSTER, Clustering, Text

_ROUNDS = 0  # refinements of a batch: the reconciler looks at all of them together


@dataclass(frozen=True, slots=True)
class Grouped:
    """The clusters of a batch, what fits none of them under the name "none".

    `note` says why there are none, `unpaid` that it was for want of budget.
    """

    found: tuple[BatchCluster, ...] = ()
    note: str = ""
    unpaid: str = ""


async def group_batch(number: int, positions: Sequence[int], called: str, context: CorpusContext) -> Grouped:
    """Group these texts.

    Args:
        number: of the batch; clusters of different batches may be found to be one.
        positions: of the texts in the corpus.
        called: how notes and progress speak of them.
        context: of the corpus.

    Raises:
        ModelError: the model is gone.
    """
    context.tell("cluster_batch", f"{called}: {len(positions)} texts")
    texts = [Text(id=str(position), text=context.texts[position]) for position in positions]
    given: Any = {"texts": texts, "instruction": context.instruction, "k": None}
    inner = OpenContext(
        model=context.node.spec,
        rounds=_ROUNDS,
        budget_tokens=context.ledger.budget_tokens,
        node=context.node,
        ledger=context.ledger,
    )
    config: Any = {"run_name": "clustering", "recursion_limit": recursion_limit(_ROUNDS)}
    try:
        output = await graph.ainvoke(given, config, context=inner)
    except RefusedError as error:
        return Grouped(note=f"{called}: not grouped ({error})")
    except BudgetError as error:
        return Grouped(note=f"{called}: not grouped (the budget was spent)", unpaid=str(error))
    clustering: Clustering = output["clustering"]
    if not clustering.clusters:
        return Grouped(note=f"{called}: not grouped (no usable answer)")
    return Grouped(found=(*_clusters(number, clustering), *_outside(number, clustering)))


def _clusters(number: int, clustering: Clustering) -> list[BatchCluster]:
    reasons = {int(a.text_id): a.reason for a in clustering.assignments}
    return [
        BatchCluster(
            batch=number,
            name=cluster.name,
            description=cluster.description,
            members=tuple(map(int, cluster.members)),
            reasons={int(member): reasons[int(member)] for member in cluster.members},
        )
        for cluster in clustering.clusters
    ]


def _outside(number: int, clustering: Clustering) -> list[BatchCluster]:
    """What the model judged to fit no cluster; what no answer placed is left to be assigned."""
    judged = {int(text.text_id): text.reason for text in clustering.unassigned if text.reason != NOT_PLACED}
    if not judged:
        return []
    return [BatchCluster(batch=number, name=NO_CLUSTER, members=tuple(judged), reasons=judged)]
