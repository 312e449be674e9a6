"""The verifier: groups the texts from the instruction alone, blind to labels, categories and their number."""

from __future__ import annotations

from cluster_r1.agents.clustering.partition import first_of
from cluster_r1.agents.parsing import AnswerError, as_list, as_number, as_string, read_object
from cluster_r1.agents.role import INTEGER, Role, Schema, list_of, object_of, one_of, string
from cluster_r1.prompts import Message
from cluster_r1.types import NO_CLUSTER, Record

_MOST_BOUNDED = 12  # groups that a small model may list


class VerifierInput(Record):
    """All that the verifier sees: texts are addressed by their position, from 1."""

    instruction: str
    texts: tuple[str, ...]


class Reading(Record):
    """How a blind reader grouped the texts.

    Attributes:
        groups: of each text, in order; None where the reader found that it fits nowhere, or said nothing.
        doubtful: positions, from 1, of texts that the reader found could stand elsewhere.
    """

    groups: tuple[str | None, ...]
    doubtful: frozenset[int] = frozenset()


class Verifier(Role[VerifierInput, Reading]):
    """Groups texts blind, so that agreement with the labels can be measured."""

    name = "verifier"
    template_id = "synthesis/verifier"
    tokens_per_text = 16

    def schema(self, given: VerifierInput, *, bounded: bool) -> Schema:
        """Groups and labels."""
        texts = len(given.texts)
        if not bounded:
            return object_of(
                groups=list_of(object_of(id=string(), name=string())),
                labels=list_of(object_of(text=INTEGER, group=string(), doubtful={"type": "boolean"})),
            )
        ids = [f"G{number}" for number in range(1, min(texts, _MOST_BOUNDED) + 1)]
        entries = [
            object_of(text={"const": number}, group=one_of(ids), doubtful={"type": "boolean"})
            for number in range(1, texts + 1)
        ]
        return object_of(
            groups=list_of(object_of(id=one_of(ids), name=string(30)), at_most=len(ids)),
            labels={"type": "array", "prefixItems": entries, "minItems": texts, "maxItems": texts},
        )

    def render(self, given: VerifierInput) -> tuple[Message, ...]:
        """The prompt."""
        return self.template.render(instruction=given.instruction, texts=given.texts)

    def parse(self, answer: str, given: VerifierInput) -> Reading:
        """Read the groups of the texts; names of groups do not matter."""
        groups: list[str | None] = [None] * len(given.texts)
        doubtful = set()
        for entry in as_list(read_object(answer, "labels")["labels"]):
            if not isinstance(entry, dict):
                continue
            number = as_number(first_of(entry, "text", "number", "id"))
            group = as_string(first_of(entry, "group", "label", "cluster"))
            if number is None or not 1 <= number <= len(groups) or not group:
                continue
            groups[number - 1] = None if group.casefold() == NO_CLUSTER else group
            if entry.get("doubtful") is True:
                doubtful.add(number)
        if not any(groups):
            raise AnswerError('"labels" puts no text into a group')
        return Reading(groups=tuple(groups), doubtful=frozenset(doubtful))
