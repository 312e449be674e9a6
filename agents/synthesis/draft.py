"""A draft: a task as its generator wrote it, before anybody else has looked at it."""

from __future__ import annotations

from typing import Literal, get_args

from cluster_r1.types import Record

Form = Literal["question", "command", "terse", "verbose"]
"""How an instruction is worded."""

FORMS: tuple[Form, ...] = get_args(Form)


class Category(Record):
    """One value of the property that an instruction asks about."""

    name: str
    definition: str = ""


class Label(Record):
    """The category of one text, by its name, and the words of the text that show it."""

    category: str
    evidence: str = ""


class Draft(Record):
    """An instruction, what it asks about, and what each text should get.

    `labels` are in the texts' order; None where the instruction cannot be applied, or nothing was said.
    """

    instruction: str
    criterion: str
    categories: tuple[Category, ...]
    labels: tuple[Label | None, ...]

    @property
    def used(self) -> tuple[Category, ...]:
        """The categories that at least one text has."""
        names = {label.category for label in self.labels if label is not None}
        return tuple(category for category in self.categories if category.name in names)
