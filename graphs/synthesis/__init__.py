"""The synthesis graph: from texts to a task with trusted labels, and reasoning traces for it."""

from cluster_r1.graphs.synthesis.graph import build_graph, graph, recursion_limit
from cluster_r1.graphs.synthesis.state import OpenContext, SynthesisContext

__all__ = ["OpenContext", "SynthesisContext", "build_graph", "graph", "recursion_limit"]
