"""What every role is: a template that renders its input, a schema, and a parser of the answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel

from cluster_r1.prompts import Message, Template, load_template

Schema = dict[str, Any]
Given = TypeVar("Given", bound=BaseModel)
Answered = TypeVar("Answered", bound=BaseModel)


class Role(ABC, Generic[Given, Answered]):
    """One job given to a reasoning model.

    A role knows nothing of models: it renders what goes out and reads what comes back. The prompt it renders
    at inference is the prompt it is trained on.
    """

    name: ClassVar[str]
    template_id: ClassVar[str]
    tokens_per_text: ClassVar[int]
    """About how many tokens the answer spends on one text; sizes prompts and budgets."""

    @property
    def template(self) -> Template:
        """The role's prompt template."""
        return load_template(self.template_id)

    @abstractmethod
    def schema(self, given: Given, *, bounded: bool) -> Schema:
        """The JSON schema of the answer.

        Args:
            given: the role's input.
            bounded: whether lengths are limited and known values enumerated, without which a small model
                that is decoded under the schema may never come to an end. Strict modes of hosted models
                refuse such limits.
        """

    @abstractmethod
    def render(self, given: Given) -> tuple[Message, ...]:
        """The messages that ask for the job."""

    @abstractmethod
    def parse(self, answer: str, given: Given) -> Answered:
        """Read the answer, without its reasoning.

        Raises:
            AnswerError: nothing in it can be used; the message is told to the model.
        """


def object_of(**properties: Schema) -> Schema:
    """A schema of an object with these properties, all required, no others (what strict modes want)."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def list_of(item: Schema, at_most: int | None = None) -> Schema:
    """A schema of an array."""
    return {"type": "array", "items": item} | ({} if at_most is None else {"maxItems": at_most})


def string(longest: int | None = None) -> Schema:
    """A schema of a string of at most so many characters."""
    return {"type": "string"} | ({} if longest is None else {"maxLength": longest})


def one_of(values: Iterable[str | int | float]) -> Schema:
    """A schema of one of these values, which are all of one type."""
    listed = list(values)
    types = {str: "string", int: "integer", float: "number"}
    return {"type": types[type(listed[0])] if listed else "string", "enum": listed}


INTEGER: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
