"""Cluster texts by an instruction.

from cluster_r1 import ClusteringAgent

result = ClusteringAgent(model="openai:gpt-5-mini").cluster(texts, "by root cause")
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cluster_r1.agent import ClusteringAgent
    from cluster_r1.edits import Edit
    from cluster_r1.errors import BudgetError, ClusterR1Error, InputError, ModelError
    from cluster_r1.estimate import Estimate
    from cluster_r1.estimator import InstructionClusterer
    from cluster_r1.graphs.synthesis.config import SynthesisConfig
    from cluster_r1.result import ClusteringResult
    from cluster_r1.synthesis.synthesis_graph import SynthesisGraph, SynthesisResult
    from cluster_r1.types import Assignment, Cluster, Clustering, KRange, Text, Unassigned, Usage

__all__ = [
    "Assignment",
    "BudgetError",
    "Cluster",
    "ClusterR1Error",
    "Clustering",
    "ClusteringAgent",
    "ClusteringResult",
    "Edit",
    "Estimate",
    "InputError",
    "InstructionClusterer",
    "KRange",
    "ModelError",
    "Price",
    "Progress",
    "SynthesisConfig",
    "SynthesisGraph",
    "SynthesisResult",
    "Text",
    "Unassigned",
    "Usage",
    "__version__",
]

try:
    __version__ = version("cluster-r1")
except PackageNotFoundError:  # run from a folder that was never installed
    __version__ = "0+unknown"

# Loaded on first use: LangGraph and scikit-learn take about a second.
_HOME = {
    "ClusteringAgent": "agent",
    "Estimate": "estimate",
    "Edit": "edits",
    "Price": "price",
    "Progress": "grouping",
    "InstructionClusterer": "estimator",
    "ClusteringResult": "result",
    "SynthesisConfig": "graphs.synthesis.config",
    "SynthesisGraph": "synthesis.synthesis_graph",
    "SynthesisResult": "synthesis.synthesis_graph",
    **dict.fromkeys(("BudgetError", "ClusterR1Error", "InputError", "ModelError"), "errors"),
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'cluster_r1' has no attribute {name!r}")
    return getattr(import_module(f"cluster_r1.{_HOME.get(name, 'types')}"), name)


def __dir__() -> list[str]:
    return __all__
