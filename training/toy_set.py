"""A labelled set of made-up phrases, for first runs and tests."""

from __future__ import annotations

from itertools import product

from cluster_r1.training.labelled import Attribute, LabelledSet, LabelledText

_COLOURS = ("red", "blue", "green", "white")
_THINGS = ("lamp", "chair", "table", "door")
_STATES = ("new", "old", "broken")
_PLACES = ("kitchen", "garden", "office")


def toy_set() -> LabelledSet:
    """144 phrases such as `old red lamp, kitchen`, with four independent attributes."""
    rows = [
        LabelledText(
            id=f"toy-{number:03d}",
            text=f"{state} {colour} {thing}, {place}",
            labels={"colour": colour, "thing": thing, "state": state, "place": place},
        )
        for number, (state, colour, thing, place) in enumerate(product(_STATES, _COLOURS, _THINGS, _PLACES))
    ]
    attributes = {
        name: Attribute(
            criterion=name, instructions=(f"by {name}", f"Group them by {name}.", f"Which {name}?")
        )
        for name in ("colour", "thing", "state", "place")
    }
    return LabelledSet(
        corpus="toy", licence="CC0-1.0", source="made up", attributes=attributes, rows=tuple(rows)
    )
