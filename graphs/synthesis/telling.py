"""Tells whoever listens what happens to an attempt."""

from __future__ import annotations

from typing import Literal

from langgraph.config import get_stream_writer

from cluster_r1.graphs.synthesis.outcome import Stage, SynthesisEvent
from cluster_r1.graphs.synthesis.state import OpenContext, SynthesisState

Kind = Literal["stage", "revised", "rejected", "accepted"]


def tell(
    context: OpenContext, state: SynthesisState, stage: Stage, message: str, kind: Kind = "stage"
) -> None:
    """Tell the run, and the graph's stream."""
    event = SynthesisEvent(kind=kind, task_id=id_of(state), stage=stage, message=message)
    get_stream_writer()(event.model_dump())
    if context.on_event is not None:
        context.on_event(event)


def id_of(state: SynthesisState) -> str:
    """The id of the attempt, and of its task: corpus, slice, and which of the slice's attempts, from 1."""
    return task_id(state["corpus"], state["number"], state["attempt"])


def task_id(corpus: str, number: int, attempt: int) -> str:
    """See `id_of`."""
    return f"{corpus}-{number:05d}-{attempt + 1}"
