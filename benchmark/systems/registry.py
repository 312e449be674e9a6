"""From the names of systems, as on the command line, to systems."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches

from cluster_r1.benchmark.systems.agents import METHODS, AgentSystem
from cluster_r1.benchmark.systems.bertopic_system import BerTopicSystem
from cluster_r1.benchmark.systems.embedders import open_embedder
from cluster_r1.benchmark.systems.external import ExternalCommand
from cluster_r1.benchmark.systems.floors import OneCluster, RandomLabels, Singletons
from cluster_r1.benchmark.systems.grouped_embeddings import ALGORITHMS, GroupedEmbeddings
from cluster_r1.benchmark.systems.system import System
from cluster_r1.errors import InputError

KEYLESS = "keyless"
"""Stands for the systems that need no key, no network and no extra."""

FLOORS: Mapping[str, Callable[[], System]] = {
    "singletons": Singletons,
    "one-cluster": OneCluster,
    "random": RandomLabels,
}
KEYLESS_NAMES = (
    *FLOORS,
    "kmeans@tfidf",
    "kmeans@static",
    "kmeans@static+instruction",
    "ward@static",
    "average@static",
    "hdbscan@static",
)

_GRAMMAR = (
    f"{', '.join(FLOORS)}; <algorithm>@<embedder> with {', '.join(ALGORITHMS)} or bertopic; "
    f"<method>@<model> with {', '.join(METHODS)}; <name>=<command>; or {KEYLESS} for a standard set"
)


def open_systems(names: Sequence[str], models: Sequence[str] = ()) -> list[System]:
    """The systems of names; an agent's method without `@<model>` stands for itself on each of the models.

    Raises:
        InputError: a name is not understood, or something that its system needs is missing.
        ModelError: a model's server cannot be reached.
    """
    specs = list(dict.fromkeys(spec for name in names for spec in _expanded(name, models)))
    systems = [_open(spec) for spec in specs]
    if len({system.name for system in systems}) < len(systems):
        raise InputError("two systems have the same name: give them different ones")
    if not systems:
        raise InputError(f"no system is named. There are: {_GRAMMAR}")
    return systems


def _expanded(name: str, models: Sequence[str]) -> list[str]:
    if name == KEYLESS:
        return list(KEYLESS_NAMES)
    if name in METHODS:
        if not models:
            raise InputError(f"the system {name} needs a model: name one with --model, or as {name}@<model>")
        return [f"{name}@{model}" for model in models]
    return [name]


def _open(spec: str) -> System:
    name, named, command = spec.partition("=")
    if named:
        return ExternalCommand(name, command)
    if spec in FLOORS:
        return FLOORS[spec]()
    method, at, stands_on = spec.partition("@")
    if at and method in METHODS:
        return AgentSystem(method, stands_on)
    if at and method in ALGORITHMS:
        return GroupedEmbeddings(method, open_embedder(stands_on))
    if at and method == "bertopic":
        return BerTopicSystem(open_embedder(stands_on))
    near = get_close_matches(spec, [*FLOORS, *METHODS, *KEYLESS_NAMES, KEYLESS], 1)
    raise InputError(
        f"unknown system {spec!r}{f'; did you mean {near[0]}?' if near else '.'} There are: {_GRAMMAR}"
    )
