"""The corpus graph: texts that fit no single context, in batches, under one taxonomy."""

from cluster_r1.graphs.corpus.graph import RECURSION_LIMIT, build_graph, graph
from cluster_r1.graphs.corpus.state import CorpusContext

__all__ = ["RECURSION_LIMIT", "CorpusContext", "build_graph", "graph"]
