"""The designer: for texts that are yet to be written, thinks of the properties that they are to differ in."""

from __future__ import annotations

from cluster_r1.agents.parsing import AnswerError, as_list, read_object
from cluster_r1.agents.role import Role, Schema, list_of, object_of, string
from cluster_r1.agents.synthesis.categories import (
    different,
    instruction_schema,
    read_categories,
    read_instruction,
)
from cluster_r1.agents.synthesis.draft import Category, Form
from cluster_r1.prompts import Message
from cluster_r1.types import Record


class DesignerInput(Record):
    """What the designer is told: the domain in words, and a kind of property for each that is wanted."""

    domain: str
    form: Form
    angles: tuple[str, ...]
    k: int
    asked: tuple[str, ...] = ()


class Property(Record):
    """A property of texts: the instruction that asks for it, and its values."""

    instruction: str
    criterion: str
    categories: tuple[Category, ...]


class Design(Record):
    """Properties that are independent of one another."""

    properties: tuple[Property, ...]


class Designer(Role[DesignerInput, Design]):
    """Plans a collection of texts that can be grouped in several ways."""

    name = "designer"
    template_id = "synthesis/designer"
    tokens_per_text = 200

    def schema(self, given: DesignerInput, *, bounded: bool) -> Schema:
        """The properties with their categories."""
        category = object_of(name=string(30 if bounded else None), definition=string(80 if bounded else None))
        wanted = object_of(
            **instruction_schema(bounded=bounded),
            categories=list_of(category, at_most=given.k if bounded else None),
        )
        return object_of(properties=list_of(wanted, at_most=len(given.angles) if bounded else None))

    def render(self, given: DesignerInput) -> tuple[Message, ...]:
        """The prompt."""
        return self.template.render(**dict(given))

    def parse(self, answer: str, given: DesignerInput) -> Design:
        """Read the properties; one with fewer than two categories is left out."""
        found = read_object(answer, "properties")
        properties = []
        for entry in as_list(found["properties"]):
            if not isinstance(entry, dict):
                continue
            instruction, criterion = read_instruction(entry)
            categories = different(read_categories(entry.get("categories")))
            if len(categories) >= 2:
                properties.append(
                    Property(
                        instruction=instruction, criterion=criterion or instruction, categories=categories
                    )
                )
        if not properties:
            raise AnswerError('"properties" holds no property with two categories or more')
        return Design(properties=tuple(properties[: len(given.angles)]))
