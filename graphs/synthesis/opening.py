"""What a node works with: the context it was given, or one that is opened from spec strings."""

from __future__ import annotations

import asyncio
import json
from functools import lru_cache
from typing import Any

from langgraph.runtime import Runtime
from pydantic import ValidationError

from cluster_r1.agents.models.cache import ResponseCache, default_cache_path
from cluster_r1.agents.models.opening import ModelOptions
from cluster_r1.agents.synthesis.panel import Panel, choose_specs, open_panel
from cluster_r1.errors import InputError
from cluster_r1.graphs.clustering.entry import read_text
from cluster_r1.graphs.synthesis.accepted import AcceptedTasks
from cluster_r1.graphs.synthesis.config import SynthesisConfig
from cluster_r1.graphs.synthesis.slicing import SliceStore, Source
from cluster_r1.graphs.synthesis.state import OpenContext, SynthesisContext, SynthesisState

DEFAULT_CORPUS = "texts"


async def opened(runtime: Runtime[SynthesisContext]) -> OpenContext:
    """The context that the nodes of this run work with.

    Raises:
        InputError: a model or a value of the configuration cannot be used.
        ModelError: a server cannot be reached.
    """
    given = runtime.context or SynthesisContext()
    if isinstance(given, OpenContext):
        return given
    settings = _read(given.config)
    panel = await asyncio.to_thread(_open, json.dumps([given.model, given.models], sort_keys=True))
    return OpenContext(settings=settings, panel=panel, accepted=AcceptedTasks(settings.novelty))


def store_of(context: OpenContext, state: SynthesisState) -> SliceStore:
    """Where the slice comes from: the context's store, else the texts or the domain of the input.

    Raises:
        InputError: there is none of them.
    """
    if context.store is not None:
        return context.store
    name = state.get("corpus", DEFAULT_CORPUS)
    if domain := state.get("domain", ""):
        return SliceStore([Source(name=name, domain=domain)], context.settings)
    texts = tuple(read_text(item, number) for number, item in enumerate(state.get("texts", []), 1))
    if not texts:
        raise InputError("there are neither texts nor a domain to make a task of")
    return SliceStore([Source(name=name, texts=texts)], context.settings)


def _read(config: dict[str, Any]) -> SynthesisConfig:
    try:
        return SynthesisConfig.model_validate(config)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"config: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


@lru_cache(maxsize=8)
def _open(named: str) -> Panel:
    model, models = json.loads(named)
    return open_panel(choose_specs(model, models), ModelOptions(), ResponseCache(default_cache_path()))
