"""The corpus graph.

START -> plan -> cluster_batch -> reconcile -> assign -> audit -> finalize -> END
                  (one for each batch:                    ^  |
                   the clustering graph)                  revise
"""

from __future__ import annotations

from typing import Any

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import TracePolicy

from cluster_r1.graphs.corpus.nodes import (
    assign,
    audit,
    cluster_batch,
    finalize,
    plan,
    reconcile,
    revise,
)
from cluster_r1.graphs.corpus.state import CorpusContext, CorpusState


def _without_places(state: Any) -> Any:
    """A node's input or output as traces show it: a place for each of many texts says nothing there."""
    if not isinstance(state, dict):
        return state
    return {key: value for key, value in state.items() if key not in ("places", "plan")}


CorpusGraph = CompiledStateGraph[CorpusState, CorpusContext, CorpusState, CorpusState]


RECURSION_LIMIT = 40
"""Steps of a run, above what all searches and revisions take."""


def build_graph() -> CorpusGraph:
    """The compiled graph, without a checkpointer: the response cache is what resumes a run."""
    builder = StateGraph(CorpusState, CorpusContext)
    slim = TracePolicy(process_inputs=_without_places, process_outputs=_without_places)
    builder.add_node("plan", plan, trace_policy=slim)
    builder.add_node("cluster_batch", cluster_batch, trace_policy=slim)
    builder.add_node("reconcile", reconcile, trace_policy=slim)
    builder.add_node("assign", assign, trace_policy=slim)
    builder.add_node("audit", audit, trace_policy=slim)
    builder.add_node("revise", revise, trace_policy=slim)
    builder.add_node("finalize", finalize, trace_policy=slim)
    builder.add_edge(START, "plan")  # plan sends each batch to cluster_batch
    builder.add_edge("cluster_batch", "reconcile")
    builder.add_edge("finalize", END)
    return builder.compile(name="corpus")


graph = build_graph()
