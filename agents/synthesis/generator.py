"""The generator: reads texts, thinks of a grouping that somebody may ask for, and labels the texts by it."""

from __future__ import annotations

from typing import Any

from cluster_r1.agents.clustering.partition import first_of
from cluster_r1.agents.parsing import AnswerError, as_list, as_number, as_string, read_object
from cluster_r1.agents.role import INTEGER, Role, Schema, list_of, object_of, one_of, string
from cluster_r1.agents.synthesis.categories import (
    different,
    instruction_schema,
    read_categories,
    read_instruction,
)
from cluster_r1.agents.synthesis.draft import Category, Draft, Form, Label
from cluster_r1.prompts import Message
from cluster_r1.types import Record


class GeneratorInput(Record):
    """What the generator sees.

    Attributes:
        texts: addressed by position, from 1.
        form: how the instruction is to be worded.
        angle: what kind of property is wanted, e.g. "what the writer wants".
        k: about how many categories.
        asked: instructions that are taken.
        previous: the draft to be written again,
        findings: and what was wrong with it.
    """

    texts: tuple[str, ...]
    form: Form
    angle: str
    k: int
    asked: tuple[str, ...] = ()
    previous: Draft | None = None
    findings: tuple[str, ...] = ()


class Generator(Role[GeneratorInput, Draft]):
    """Invents an instruction for given texts and labels them."""

    name = "generator"
    template_id = "synthesis/generator"
    tokens_per_text = 32

    def schema(self, given: GeneratorInput, *, bounded: bool) -> Schema:
        """Instruction, criterion, categories, labels."""
        ids = [f"C{number}" for number in range(1, given.k + 1)]
        category = object_of(
            id=one_of(ids) if bounded else string(),
            name=string(30 if bounded else None),
            definition=string(80 if bounded else None),
        )
        return object_of(
            **instruction_schema(bounded=bounded),
            categories=list_of(category, at_most=given.k if bounded else None),
            labels=_labels_schema(len(given.texts), ids, bounded=bounded),
        )

    def render(self, given: GeneratorInput) -> tuple[Message, ...]:
        """The prompt."""
        return self.template.render(**dict(given))

    def parse(self, answer: str, given: GeneratorInput) -> Draft:
        """Read the draft; of a text that is labelled twice the first label counts."""
        found = read_object(answer, "categories")
        instruction, criterion = read_instruction(found)
        categories = read_categories(found["categories"])
        labels = _read_labels(found.get("labels"), categories, len(given.texts))
        if not any(labels):
            raise AnswerError('"labels" gives no text a category of "categories"')
        return Draft(
            instruction=instruction,
            criterion=criterion or instruction,
            categories=different(categories),
            labels=tuple(labels),
        )


def _labels_schema(texts: int, ids: list[str], *, bounded: bool) -> Schema:
    if not bounded:
        return list_of(object_of(text=INTEGER, evidence=string(), category=string()))
    entries = [
        object_of(text={"const": number}, evidence=string(40), category=one_of(ids))
        for number in range(1, texts + 1)
    ]
    return {"type": "array", "prefixItems": entries, "minItems": texts, "maxItems": texts}


def _read_labels(value: Any, categories: dict[str, Category], texts: int) -> list[Label | None]:
    labels: list[Label | None] = [None] * texts
    for entry in as_list(value):
        if not isinstance(entry, dict):
            continue
        number = as_number(first_of(entry, "text", "number", "id"))
        named = as_string(first_of(entry, "category", "label", "cluster"))
        category = categories.get(named) or categories.get(named.casefold())
        if number is None or not 1 <= number <= texts or category is None or labels[number - 1]:
            continue
        labels[number - 1] = Label(category=category.name, evidence=as_string(entry.get("evidence")))
    return labels
