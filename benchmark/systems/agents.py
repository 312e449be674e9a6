"""The clustering agent as a system, and what is left of it when a part is taken away."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Literal, cast

from cluster_r1.agent import ClusteringAgent
from cluster_r1.agents.clustering.critic import Critic, CriticInput, Critique
from cluster_r1.agents.ledger import Ledger
from cluster_r1.agents.models.cache import ResponseCache, default_cache_path
from cluster_r1.agents.models.opening import ModelOptions
from cluster_r1.agents.opening import open_node
from cluster_r1.agents.reasoning_node import ReasoningNode
from cluster_r1.agents.role import Answered, Given, Role
from cluster_r1.benchmark.systems.system import Answer, Panel, Question
from cluster_r1.errors import InputError

METHODS: Mapping[str, str] = {
    "agent": "propose, critique, refine, at most two rounds of the latter",
    "one-pass": "the first proposal, checked for an exact cover (the agent with no round)",
    "rounds-1": "the agent with at most one round",
    "rounds-3": "the agent with at most three rounds",
    "no-critic": "two rounds of refinement that no critic guides",
    "no-reasoning": "the agent on a model that is told not to think before it answers",
}
"""What the agent's methods are, by name."""

_ROUNDS = {"one-pass": 0, "rounds-1": 1, "rounds-3": 3}
_DEFAULT_ROUNDS = 2
_CUT_SHORT: Mapping[str, Literal["budget", "failure"]] = {
    "budget": "budget",
    "proposer_failed": "failure",
    "critic_failed": "failure",
    "refiner_failed": "failure",
}


class AgentSystem:
    """A method of the clustering agent on a model.

    Args:
        method: one of `METHODS`.
        model: a spec string.

    Raises:
        InputError: the model is not understood, cannot do what the method needs, or something is missing.
        ModelError: its server cannot be reached.
    """

    panels: frozenset[Panel] = frozenset({"given", "discover"})
    reads_instruction = orders_matter = spends_tokens = True

    def __init__(self, method: str, model: str) -> None:
        self._method = method
        self._model = model
        self._nodes: dict[int, ReasoningNode] = {}
        self._opening = threading.Lock()
        node = self._node(0)
        self.name = f"{method}@{node.spec}"
        self.identity = f"{self.name} {sorted(node.templates.items())}"
        if method not in ("agent", "one-pass") and "critic" not in node.roles:
            raise InputError(f"{node.spec} plays no critic: {method} would be one-pass. Name another model")
        self.reads_instruction = node.spec != "embedding"

    def answer(self, question: Question) -> Answer:
        """See `System.answer`."""
        agent = ClusteringAgent(
            self._node(question.seed),
            rounds=_ROUNDS.get(self._method, _DEFAULT_ROUNDS),
            budget_tokens=question.budget_tokens,
            seed=question.seed,
        )
        result = agent.cluster(list(question.texts), question.instruction, question.k)
        usage = result.usage
        reasons = {placed.text_id: placed.reason for placed in result.assignments}
        reasons |= {left.text_id: left.reason for left in result.unassigned}
        return Answer(
            labels=[None if label < 0 else int(label) for label in result.labels],
            names={number: cluster.name for number, cluster in enumerate(result.clusters)},
            reasons=[reasons[text.id] for text in question.texts],
            calls=usage.calls + usage.saved_calls,
            tokens=usage.total_tokens + usage.saved_tokens,
            spent_tokens=usage.total_tokens,
            fresh=usage.saved_calls == 0,
            stop_reason=" ".join([result.stop_reason, *result.notes]),
            cut_short=_CUT_SHORT.get(result.stop_reason, ""),
        )

    def _node(self, seed: int) -> ReasoningNode:
        """The model as it answers with a seed."""
        with self._opening:
            if seed not in self._nodes:
                options = ModelOptions(reasoning=False if self._method == "no-reasoning" else None)
                cache = ResponseCache(default_cache_path())
                node = open_node(self._model, options, cache, sample=seed)
                self._nodes[seed] = WithoutCritic(node) if self._method == "no-critic" else node
            return self._nodes[seed]


class WithoutCritic:
    """A reasoning node whose critic has nothing to say but that it could be better; nobody is asked."""

    def __init__(self, node: ReasoningNode) -> None:
        self._node = node
        self.spec = node.spec
        self.context_tokens = node.context_tokens
        self.roles = node.roles
        self.templates = node.templates

    async def ask(
        self, role: Role[Given, Answered], given: Given, *, texts: int, round: int, ledger: Ledger
    ) -> Answered:
        """See `ReasoningNode.ask`."""
        if isinstance(role, Critic) and isinstance(given, CriticInput):
            return cast(Answered, _NOTHING_FOUND)
        answered: Any = await self._node.ask(role, given, texts=texts, round=round, ledger=ledger)
        return cast(Answered, answered)


_NOTHING_FOUND = Critique(score=0.5, verdict="revise", findings=())
