"""The part of an answer that generator and designer share: an instruction and its categories."""

from __future__ import annotations

from typing import Any

from cluster_r1.agents.clustering.partition import first_of
from cluster_r1.agents.parsing import AnswerError, as_list, as_string
from cluster_r1.agents.role import Schema, string
from cluster_r1.agents.synthesis.draft import Category
from cluster_r1.types import NO_CLUSTER


def instruction_schema(*, bounded: bool) -> dict[str, Schema]:
    """The properties `instruction` and `criterion`."""
    return {"instruction": string(160 if bounded else None), "criterion": string(60 if bounded else None)}


def read_instruction(entry: dict[str, Any]) -> tuple[str, str]:
    """Instruction and criterion; the latter may be missing.

    Raises:
        AnswerError: there is no instruction.
    """
    instruction = as_string(entry.get("instruction"))
    if not instruction:
        raise AnswerError('"instruction" is empty')
    return instruction, as_string(entry.get("criterion"))


def read_categories(value: Any) -> dict[str, Category]:
    """Categories by what labels may call them: their ids, and their names in small letters.

    A name that is repeated in any writing is the same category; "none" is none.
    """
    found: dict[str, Category] = {}
    for entry in as_list(value):
        about = {"name": entry} if isinstance(entry, str) else entry
        if not isinstance(about, dict):
            continue
        name = as_string(first_of(about, "name", "label", "category"))
        if not name or name.casefold() == NO_CLUSTER:
            continue
        definition = as_string(first_of(about, "definition", "description"))
        category = found.setdefault(name.casefold(), Category(name=name, definition=definition))
        if id := as_string(about.get("id")):
            found.setdefault(id, category)
    return found


def different(categories: dict[str, Category]) -> tuple[Category, ...]:
    """Each of the categories once, in order."""
    return tuple(dict.fromkeys(categories.values()))
