"""The panel: which model plays which role of the synthesis graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from cluster_r1.agents.models.cache import ResponseCache
from cluster_r1.agents.models.checkpoint_folder import read_info
from cluster_r1.agents.models.opening import ModelOptions, open_model
from cluster_r1.agents.models.specs import ModelSpec
from cluster_r1.agents.opening import default_spec
from cluster_r1.agents.reasoning_node import ALL_ROLES, LanguageModelNode
from cluster_r1.agents.synthesis.critic import TaskCritic
from cluster_r1.agents.synthesis.designer import Designer
from cluster_r1.agents.synthesis.generator import Generator
from cluster_r1.agents.synthesis.teacher import Teacher
from cluster_r1.agents.synthesis.verifier import Verifier
from cluster_r1.agents.synthesis.writer import Writer
from cluster_r1.errors import InputError

Part = Literal["generator", "verifier", "critic", "teacher"]
"""What a model can be named for; the generator also designs and writes."""

PARTS: tuple[Part, ...] = get_args(Part)

_SAMPLED: tuple[Part, ...] = (
    "verifier",
    "teacher",
)  # are asked several times, and should not repeat themselves
_SAMPLING_TEMPERATURE = 0.7  # of models that run here, whose own temperature is 0
_SAMPLES_A_SEED = 1000  # so that no sample of one seed is one of another


@dataclass(frozen=True, slots=True)
class Panel:
    """An open node for each part."""

    generator: LanguageModelNode
    verifier: LanguageModelNode
    critic: LanguageModelNode
    teacher: LanguageModelNode

    @property
    def specs(self) -> dict[str, str]:
        """The spec string of each part."""
        return {part: node.spec for part, node in self._nodes()}

    @property
    def context_tokens(self) -> int:
        """The smallest context among them."""
        return min(node.context_tokens for _, node in self._nodes())

    def _nodes(self) -> tuple[tuple[str, LanguageModelNode], ...]:
        return (
            ("generator", self.generator),
            ("verifier", self.verifier),
            ("critic", self.critic),
            ("teacher", self.teacher),
        )


def templates() -> dict[str, str]:
    """The prompts that the roles are asked in, sha256 by id."""
    roles = (Generator(), Designer(), Writer(), Verifier(), TaskCritic(), Teacher())
    return {role.template_id: role.template.sha256 for role in roles}


def choose_specs(model: str, named: Mapping[str, str]) -> dict[Part, ModelSpec]:
    """The spec of each part: as named, else that of `model`, else this machine's default.

    Raises:
        InputError: a part is unknown, a spec is not understood, or a model cannot write.
    """
    if unknown := [part for part in named if part not in PARTS]:
        raise InputError(f"{unknown[0]!r} is no role that a model can be named for: {', '.join(PARTS)}")
    chosen = {part: ModelSpec.parse(named.get(part) or model or default_spec()) for part in PARTS}
    for part, spec in chosen.items():
        if spec.kind == "embedding":
            raise InputError(
                f"the {part} has to write, which {spec} cannot. Name a language model: --model {part}=..."
            )
    return chosen


def open_panel(
    specs: Mapping[Part, ModelSpec], options: ModelOptions, cache: ResponseCache | None, seed: int = 0
) -> Panel:
    """Open the models; parts with the same model share it, and its limit of calls under way.

    Raises:
        InputError: something that a model needs is missing.
        ModelError: a server cannot be reached.
    """
    opened: dict[tuple[str, float | None], LanguageModelNode] = {}
    nodes: dict[Part, LanguageModelNode] = {}
    for part in PARTS:
        wanted = _options_of(part, specs[part], options)
        key = (str(specs[part]), wanted.temperature)
        if key not in opened:
            _refuse_untrained(part, specs[part])
            model = open_model(specs[part], wanted, cache)
            opened[key] = LanguageModelNode(model, sample=_SAMPLES_A_SEED * seed)
        nodes[part] = opened[key]
    return Panel(**nodes)


def _refuse_untrained(part: Part, spec: ModelSpec) -> None:
    """A checkpoint that was trained to propose can teach, and nothing else."""
    if spec.kind != "checkpoint":
        return
    roles = frozenset(read_info(Path(spec.name).expanduser()).roles)
    if not (roles >= ALL_ROLES or (part == "teacher" and "proposer" in roles)):
        raise InputError(
            f"{spec} was trained as {', '.join(sorted(roles))} only, and cannot be the {part}. Name another "
            f"model: --model {part}=..."
        )


def _options_of(part: Part, spec: ModelSpec, options: ModelOptions) -> ModelOptions:
    runs_here = spec.kind in ("local", "checkpoint")
    if part in _SAMPLED and runs_here and options.temperature is None:
        return replace(options, temperature=_SAMPLING_TEMPERATURE)
    return options
