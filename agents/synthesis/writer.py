"""The writer: writes texts that have given values of given properties."""

from __future__ import annotations

from cluster_r1.agents.clustering.partition import first_of
from cluster_r1.agents.parsing import AnswerError, as_list, as_number, as_string, read_object
from cluster_r1.agents.role import INTEGER, Role, Schema, list_of, object_of, string
from cluster_r1.prompts import Message
from cluster_r1.types import Record


class OrderedValue(Record):
    """A value that a text must have: of which property, its name, what it means."""

    criterion: str
    name: str
    definition: str = ""


class WriterInput(Record):
    """What the writer is told: the domain in words, and the values of each text."""

    domain: str
    orders: tuple[tuple[OrderedValue, ...], ...]


class Written(Record):
    """The texts, in the orders' order; None where one was not delivered."""

    texts: tuple[str | None, ...]


class Writer(Role[WriterInput, Written]):
    """Writes texts to order."""

    name = "writer"
    template_id = "synthesis/writer"
    tokens_per_text = 120

    def schema(self, given: WriterInput, *, bounded: bool) -> Schema:
        """The texts."""
        if not bounded:
            return object_of(texts=list_of(object_of(number=INTEGER, text=string())))
        count = len(given.orders)
        entries = [object_of(number={"const": n}, text=string(160)) for n in range(1, count + 1)]
        ordered: Schema = {"type": "array", "prefixItems": entries, "minItems": count, "maxItems": count}
        return object_of(texts=ordered)

    def render(self, given: WriterInput) -> tuple[Message, ...]:
        """The prompt."""
        return self.template.render(domain=given.domain, orders=given.orders)

    def parse(self, answer: str, given: WriterInput) -> Written:
        """Read the texts; one that was delivered twice counts as first delivered."""
        texts: list[str | None] = [None] * len(given.orders)
        for entry in as_list(read_object(answer, "texts")["texts"]):
            if not isinstance(entry, dict):
                continue
            number = as_number(first_of(entry, "number", "text_number", "id"))
            text = as_string(entry.get("text"))
            if number is not None and 1 <= number <= len(texts) and text and texts[number - 1] is None:
                texts[number - 1] = text
        if not any(texts):
            raise AnswerError('"texts" holds none of the texts that were ordered')
        return Written(texts=tuple(texts))
