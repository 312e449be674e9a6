"""The corpus graph: texts that fit no single context, in batches, under one taxonomy."""

from cluster_r1.graphs.corpus.graph import build_graph, graph
from cluster_r1.graphs.corpus.state import CorpusContext

__all__ = ["CorpusContext", "build_graph", "graph"]
