"""The reverse way: values are drawn first, then texts are written that have them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cluster_r1.agents.parsing import AnswerError
from cluster_r1.agents.synthesis.designer import Design, Designer, DesignerInput, Property
from cluster_r1.agents.synthesis.writer import OrderedValue, Writer, WriterInput, Written
from cluster_r1.errors import RefusedError
from cluster_r1.graphs.synthesis.accounts import RoleLedger
from cluster_r1.graphs.synthesis.calls import UNUSABLE, all_of
from cluster_r1.graphs.synthesis.deciding import told
from cluster_r1.graphs.synthesis.outcome import Need
from cluster_r1.graphs.synthesis.slicing import Slice, random_of
from cluster_r1.graphs.synthesis.state import OpenContext, SynthesisState, WrittenSlice
from cluster_r1.types import Text

_BATCH = 10  # texts that are ordered in one call: more, and they begin to resemble each other
_LEAST_SIZE = 2  # texts of a written cluster


async def write_slice(
    state: SynthesisState, context: OpenContext
) -> tuple[WrittenSlice | None, dict[str, Need], AnswerError | RefusedError | None]:
    """Properties by the designer, values by chance, texts by the writer.

    Returns:
        The slice, which lacks texts that were not delivered; None if there is nothing. What the calls took.
        The last failure.
    """
    wanted = state["slice"]
    designing, writing = RoleLedger(context.ledger), RoleLedger(context.ledger)
    node = context.panel.generator
    given = DesignerInput(
        domain=wanted.domain,
        form=wanted.forms[0],
        angles=wanted.angles,
        k=wanted.k,
        asked=told(state, context),
    )
    try:
        design = await node.ask(Designer(), given, texts=len(wanted.angles), round=0, ledger=designing)
    except UNUSABLE as error:
        return None, {"designer": designing.need}, error
    labels = _draw_labels(design, wanted, context.settings.skew, context.settings.seed)
    batches = _orders(wanted.domain, design.properties, labels, wanted.size)
    written, failure = await all_of(
        # Batches with equal orders are different samples, or they would be the same texts.
        node.ask(Writer(), batch, texts=len(batch.orders), round=0, ledger=writing, sample=number)
        for number, batch in enumerate(batches)
    )
    need = {"designer": designing.need, "writer": writing.need}
    if not any(written):
        return None, need, failure
    return _collect(wanted, design, labels, batches, written), need, failure


def _draw_labels(design: Design, wanted: Slice, skew: float, seed: int) -> list[list[str]]:
    """A category of each property for each text, independent of one another.

    Sizes are drawn from a Dirichlet distribution; every category has at least two texts.
    """
    random = random_of(wanted.source, wanted.number, seed, "labels")
    return [_labels_of(property, wanted.size, skew, random) for property in design.properties]


def _orders(
    domain: str, properties: Sequence[Property], labels: Sequence[Sequence[str]], size: int
) -> list[WriterInput]:
    """What the writer is asked for, in batches."""
    values = [
        [_value(property, labels[p][text]) for p, property in enumerate(properties)] for text in range(size)
    ]
    return [
        WriterInput(domain=domain, orders=tuple(map(tuple, values[start : start + _BATCH])))
        for start in range(0, size, _BATCH)
    ]


def _collect(
    wanted: Slice,
    design: Design,
    labels: Sequence[Sequence[str]],
    batches: Sequence[WriterInput],
    answers: Sequence[Written | None],
) -> WrittenSlice:
    """The texts that were delivered, each once, with their labels."""
    delivered = [
        text
        for batch, answer in zip(batches, answers, strict=True)
        for text in (answer.texts if answer else (None,) * len(batch.orders))
    ]
    kept: list[int] = []
    seen: set[str] = set()
    for place, text in enumerate(delivered):
        if text and text.casefold() not in seen:
            seen.add(text.casefold())
            kept.append(place)
    return WrittenSlice(
        properties=design.properties,
        texts=tuple(
            Text(id=f"{wanted.source}-{wanted.number:05d}-{place + 1:03d}", text=str(delivered[place]))
            for place in kept
        ),
        labels=tuple(tuple(of_property[place] for place in kept) for of_property in labels),
    )


def _labels_of(property: Property, size: int, skew: float, random: np.random.Generator) -> list[str]:
    names = [category.name for category in property.categories][: max(2, size // _LEAST_SIZE)]
    shares = random.dirichlet([skew] * len(names))
    sizes = _LEAST_SIZE + random.multinomial(size - _LEAST_SIZE * len(names), shares)
    labels = [name for name, count in zip(names, sizes, strict=True) for _ in range(count)]
    return [labels[place] for place in random.permutation(size)]


def _value(property: Property, name: str) -> OrderedValue:
    definition = next(c.definition for c in property.categories if c.name == name)
    return OrderedValue(criterion=property.criterion, name=name, definition=definition)
