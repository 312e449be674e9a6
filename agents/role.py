"""What every role is: a template that renders its input, a schema, and a parser of the answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel

from cluster_r1.prompts import Message, Template, load_template

Given = TypeVar("Given", bound=BaseModel)
Answered = TypeVar("Answered", bound=BaseModel)


class Role(ABC, Generic[Given, Answered]):
    """One job given to a reasoning model.

    A role knows nothing of models: it renders what goes out and reads what comes back. The prompt it renders
    at inference is the prompt it is trained on.
    """

    name: ClassVar[str]
    template_id: ClassVar[str]
    schema: ClassVar[dict[str, Any]]
    tokens_per_text: ClassVar[int]
    """About how many tokens the answer spends on one text; sizes prompts and budgets."""

    @property
    def template(self) -> Template:
        """The role's prompt template."""
        return load_template(self.template_id)

    @abstractmethod
    def render(self, given: Given) -> tuple[Message, ...]:
        """The messages that ask for the job."""

    @abstractmethod
    def parse(self, answer: str, given: Given) -> Answered:
        """Read the answer, without its reasoning.

        Raises:
            AnswerError: nothing in it can be used; the message is told to the model.
        """


def object_schema(**properties: Any) -> dict[str, Any]:
    """A JSON schema of an object with these properties, all required, no others (what strict modes want)."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def list_of(item: dict[str, Any]) -> dict[str, Any]:
    """A JSON schema of an array."""
    return {"type": "array", "items": item}


STRING: dict[str, Any] = {"type": "string"}
INTEGER: dict[str, Any] = {"type": "integer"}
NUMBER: dict[str, Any] = {"type": "number"}
