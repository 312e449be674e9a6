"""Cluster texts by an instruction.

from cluster_r1 import ClusteringAgent

result = ClusteringAgent(model="openai:gpt-5-mini").cluster(texts, "by root cause")
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cluster_r1.agent import ClusteringAgent, Estimate, Progress
    from cluster_r1.estimator import InstructionClusterer
    from cluster_r1.result import ClusteringResult
    from cluster_r1.types import Assignment, Cluster, Clustering, KRange, Text, Unassigned, Usage

__all__ = [
    "Assignment",
    "Cluster",
    "Clustering",
    "ClusteringAgent",
    "ClusteringResult",
    "Estimate",
    "InstructionClusterer",
    "KRange",
    "Progress",
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
    "Estimate": "agent",
    "Progress": "agent",
    "InstructionClusterer": "estimator",
    "ClusteringResult": "result",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'cluster_r1' has no attribute {name!r}")
    return getattr(import_module(f"cluster_r1.{_HOME.get(name, 'types')}"), name)


def __dir__() -> list[str]:
    return __all__
