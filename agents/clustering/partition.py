"""The part of an answer that proposer and assigner share: which text goes into which cluster, and why."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Any

from pydantic import Field

from cluster_r1.agents.parsing import as_confidence, as_list, as_number, as_string
from cluster_r1.agents.role import INTEGER, NUMBER, Schema, list_of, object_of, one_of, string
from cluster_r1.types import Record

_CONFIDENCES = (0.2, 0.4, 0.6, 0.8, 1.0)


def assignments_schema(texts: int, clusters: Sequence[str], *, bounded: bool) -> Schema:
    """The schema of `assignments`; bounded, it has one entry for each text, in order.

    Args:
        texts: how many texts there are.
        clusters: the ids to choose from.
        bounded: see `Role.schema`.
    """
    if not bounded:
        return list_of(object_of(text=INTEGER, reason=string(), cluster=string(), confidence=NUMBER))
    entries = [
        object_of(
            text={"const": number},
            reason=string(40),
            cluster=one_of(clusters),
            confidence=one_of(_CONFIDENCES),
        )
        for number in range(1, texts + 1)
    ]
    return {"type": "array", "prefixItems": entries, "minItems": texts, "maxItems": texts}


class Placement(Record):
    """One text's place as the model wrote it: `text` counts from 1, `cluster` is an id or `none`."""

    text: int
    cluster: str
    reason: str = ""
    confidence: Annotated[float, Field(ge=0, le=1)] | None = None


def read_placements(value: Any) -> tuple[Placement, ...]:
    """The placements in an answer's `assignments`.

    Entries that name no text or no cluster are left out; whether the texts exist is checked later.
    """
    found = map(read_placement, _entries(value))
    return tuple(placement for placement in found if placement is not None)


def places_in(value: Any) -> list[tuple[int, str]]:
    """Text number and cluster of each placement in an answer's `assignments`; see `read_placements`."""
    with suppress(AttributeError, KeyError, TypeError):  # as asked for: no call an entry, rewards read many
        places = [
            (number, name)
            for entry in value
            if type(number := entry["text"]) is int and (name := entry["cluster"]).isalnum()
        ]
        if len(places) == len(value):
            return places
    return [place for place in map(_place, _entries(value)) if place is not None]


def _entries(value: Any) -> list[dict[str, Any]]:
    """The entries of an answer's `assignments`, whether a list of objects or an object by text number."""
    if isinstance(value, dict):
        value = [_entry_of(number, entry) for number, entry in value.items()]
    return [entry for entry in as_list(value) if isinstance(entry, dict)]


def read_placement(entry: dict[str, Any], cluster: str | None = None) -> Placement | None:
    """One placement; `cluster` where the entry stands inside its cluster and need not name it."""
    place = _place(entry, cluster)
    if place is None:
        return None
    return Placement(
        text=place[0],
        cluster=place[1],
        reason=as_string(entry.get("reason")),
        confidence=as_confidence(entry.get("confidence")),
    )


def _place(entry: dict[str, Any], cluster: str | None = None) -> tuple[int, str] | None:
    """Text number and cluster of an entry, if it has both."""
    number = as_number(first_of(entry, "text", "number", "id", "index", "text_id"))
    name = as_string(first_of(entry, "cluster", "cluster_id", "label", "group")) or cluster
    return (number, name) if number is not None and name else None


def first_of(entry: dict[str, Any], *keys: str) -> Any:
    """The value of the first of these keys that the entry has."""
    return next((entry[key] for key in keys if entry.get(key) is not None), None)


def _entry_of(number: str, entry: Any) -> dict[str, Any]:
    return {**entry, "text": number} if isinstance(entry, dict) else {"text": number, "cluster": entry}
