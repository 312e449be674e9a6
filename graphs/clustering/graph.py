"""The clustering graph.

START -> propose -> check -> critique --accept--> finalize -> END
                      ^         `--revise--> refine --.
                      `-------------------------------'
"""

from __future__ import annotations

from typing import Any

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import TracePolicy

from cluster_r1.graphs.clustering.nodes import check, critique, finalize, propose, refine
from cluster_r1.graphs.clustering.state import (
    ClusteringContext,
    ClusteringInput,
    ClusteringOutput,
    ClusteringState,
)

ClusteringGraph = CompiledStateGraph[ClusteringState, ClusteringContext, ClusteringInput, ClusteringOutput]


def build_graph() -> ClusteringGraph:
    """The compiled graph, without a checkpointer: the response cache is what resumes a run."""
    builder = StateGraph(
        ClusteringState, ClusteringContext, input_schema=ClusteringInput, output_schema=ClusteringOutput
    )
    slim = TracePolicy(process_inputs=_without_texts)
    builder.add_node("propose", propose)
    builder.add_node("check", check, trace_policy=slim)
    builder.add_node("critique", critique, trace_policy=slim)
    builder.add_node("refine", refine, trace_policy=slim)
    builder.add_node("finalize", finalize, trace_policy=slim)
    builder.add_edge(START, "propose")
    builder.add_edge("propose", "check")
    builder.add_edge("check", "critique")  # critique goes to refine or finalize, refine to check or finalize
    builder.add_edge("finalize", END)
    return builder.compile(name="clustering")


def recursion_limit(rounds: int) -> int:
    """Steps that a run with so many rounds may take: three a round, and the ends."""
    return 3 * (rounds + 1) + 5


def _without_texts(state: Any) -> Any:
    """A node's input as traces show it: the texts stand once, at the root and in the prompts."""
    if not isinstance(state, dict):
        return state
    hidden = {"texts", "distinct", "shown"}
    return {key: value for key, value in state.items() if key not in hidden} | {
        "texts": f"{len(state.get('texts', ()))} texts"
    }


graph = build_graph()
