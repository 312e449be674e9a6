"""Stands in for a model that cannot be opened here, so that a run can be estimated all the same."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from cluster_r1.agents.ledger import Ledger
from cluster_r1.agents.models.opening import presumed_context
from cluster_r1.agents.models.specs import ModelSpec
from cluster_r1.agents.reasoning_node import ALL_ROLES
from cluster_r1.agents.role import Answered, Given, Role
from cluster_r1.agents.scorer_node import ScorerNode
from cluster_r1.errors import ModelError


class UnopenedNode:
    """A reasoning node that is never asked.

    Args:
        spec: of the model it stands for.
        context_tokens: what is known of the model's context; else what is presumed.
    """

    templates: Mapping[str, str] = MappingProxyType({})

    def __init__(self, spec: ModelSpec, context_tokens: int | None = None) -> None:
        self.spec = str(spec)
        scores = spec.kind == "local" and not spec.name
        self.roles = ScorerNode.roles if scores else ALL_ROLES
        self.context_tokens = None if scores else context_tokens or presumed_context(spec)

    async def ask(
        self, role: Role[Given, Answered], given: Given, *, texts: int, round: int, ledger: Ledger
    ) -> Answered:
        """Refuse: there is no model.

        Raises:
            ModelError: always.
        """
        raise ModelError(f"{self.spec} was not opened: its runs can only be estimated")
