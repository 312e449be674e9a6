"""From a spec string to the reasoning node that plays the roles."""

from __future__ import annotations

import os
from pathlib import Path

from cluster_r1.agents.embedding_node import EmbeddingNode
from cluster_r1.agents.models import local_server
from cluster_r1.agents.models.cache import ResponseCache
from cluster_r1.agents.models.checkpoint_folder import read_info
from cluster_r1.agents.models.opening import ModelOptions, open_model
from cluster_r1.agents.models.scorer_model import open_scorer, scorer_adapter
from cluster_r1.agents.models.specs import ModelSpec
from cluster_r1.agents.reasoning_node import ALL_ROLES, LanguageModelNode, ReasoningNode
from cluster_r1.agents.scorer_node import ScorerNode

DEFAULT_HOSTED = "openai:gpt-5-mini"


def default_spec() -> str:
    """`$CLUSTER_R1_MODEL`; else hosted, if a key is set; else `local`, if installed; else `embedding`."""
    if named := os.environ.get("CLUSTER_R1_MODEL"):
        return named
    if os.environ.get("OPENAI_API_KEY"):
        return DEFAULT_HOSTED
    return "embedding" if local_server.missing_commands() else "local"


def open_node(
    spec: str, options: ModelOptions, cache: ResponseCache | None = None, sample: int = 0
) -> ReasoningNode:
    """The node for a spec string; an empty one means the default.

    Raises:
        InputError: the spec is not understood, or something that the model needs is missing.
        ModelError: its server cannot be reached.
    """
    parsed = ModelSpec.parse(spec or default_spec())
    if parsed.kind == "embedding":
        return EmbeddingNode()
    if parsed.kind == "local" and (adapter := scorer_adapter(parsed.name)):
        return ScorerNode(str(parsed), open_scorer(adapter), cache)
    model = open_model(parsed, options, cache)
    roles = read_info(Path(parsed.name).expanduser()).roles if parsed.kind == "checkpoint" else ALL_ROLES
    return LanguageModelNode(model, sample, frozenset(roles))
