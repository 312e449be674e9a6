"""The clustering graph: texts that fit one context, propose, check, critique, refine."""

from cluster_r1.graphs.clustering.graph import build_graph, graph, recursion_limit
from cluster_r1.graphs.clustering.state import ClusteringContext, OpenContext

__all__ = ["ClusteringContext", "OpenContext", "build_graph", "graph", "recursion_limit"]
