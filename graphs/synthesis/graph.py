"""The synthesis graph. One run is one attempt to make a task.

START -> sample -> generate -> screen -> verify -> critique --accept--> distill -> write -> END
                      ^          |         |          |                    |
                      |--revise--'         |          |                    |
                      |--revise------------|----------'                    |
                      '          reject: dead_letter <---------------------'   (from any of them) -> END
"""

from __future__ import annotations

from typing import Any

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import TracePolicy

from cluster_r1.graphs.synthesis.nodes import (
    critique,
    dead_letter,
    distill,
    generate,
    sample,
    screen,
    verify,
    write,
)
from cluster_r1.graphs.synthesis.state import (
    SynthesisContext,
    SynthesisInput,
    SynthesisOutput,
    SynthesisState,
)

CompiledSynthesis = CompiledStateGraph[SynthesisState, SynthesisContext, SynthesisInput, SynthesisOutput]


def build_graph() -> CompiledSynthesis:
    """The compiled graph, without a checkpointer: the response cache is what resumes a run."""
    builder = StateGraph(
        SynthesisState, SynthesisContext, input_schema=SynthesisInput, output_schema=SynthesisOutput
    )
    slim = TracePolicy(process_inputs=_without_texts)
    builder.add_node("sample", sample)
    builder.add_node("generate", generate, trace_policy=slim)
    builder.add_node("screen", screen, trace_policy=slim)
    builder.add_node("verify", verify, trace_policy=slim)
    builder.add_node("critique", critique, trace_policy=slim)
    builder.add_node("distill", distill, trace_policy=slim)
    builder.add_node("write", write, trace_policy=slim)
    builder.add_node("dead_letter", dead_letter, trace_policy=slim)
    builder.add_edge(START, "sample")  # each node says where it goes from there
    builder.add_edge("write", END)
    builder.add_edge("dead_letter", END)
    return builder.compile(name="synthesis")


def recursion_limit(revisions: int) -> int:
    """Steps that an attempt with so many revisions may take: four a round, and the ends."""
    return 4 * (revisions + 1) + 5


def _without_texts(state: Any) -> Any:
    """A node's input as traces show it: the texts stand in the prompts."""
    if not isinstance(state, dict):
        return state
    hidden = {"texts", "slice", "members", "shown", "written", "earlier"}
    return {key: value for key, value in state.items() if key not in hidden} | {
        "shown": f"{len(state.get('shown', ()))} texts"
    }


graph = build_graph()
