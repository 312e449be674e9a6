"""The rows of `sft.jsonl` and `rl.jsonl`, whose prompts are those of inference, byte for byte."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import Field, ValidationError, model_validator

from cluster_r1.agents.clustering.fitting import fit_texts
from cluster_r1.agents.clustering.proposer import Proposer, ProposerInput
from cluster_r1.errors import InputError
from cluster_r1.json_lines import read_json_lines
from cluster_r1.prompts import load_template
from cluster_r1.task import Task
from cluster_r1.types import Record


class ChatTurn(Record):
    """One message, as chat templates take it."""

    role: Literal["system", "user", "assistant"]
    content: str


class Example(Record):
    """What both kinds of row say of where they come from.

    Attributes:
        id: unique in its file.
        prompt: the messages the proposer is asked with.
        task: id of the task; several rows may be made of one.
        corpus: of the task.
        family: which instructions ask for the same thing; splits keep families apart.
        licence: of the texts.
        template: id of the prompt template,
        template_sha256: and its hash: rows made with another template are refused.
        reference: the true label of each text, in the prompt's order.
    """

    id: str
    prompt: tuple[ChatTurn, ...]
    task: str
    corpus: str
    family: str
    licence: str = "unknown"
    template: str
    template_sha256: str
    reference: tuple[str, ...] = Field(min_length=2)

    @model_validator(mode="after")
    def _informative(self) -> Example:
        if self.k < 2 or self.k == self.n:
            raise ValueError(
                f"the reference has {self.k} clusters of {self.n} texts: every answer would score alike"
            )
        return self

    @property
    def n(self) -> int:
        """How many texts."""
        return len(self.reference)

    @property
    def k(self) -> int:
        """How many clusters the reference has."""
        return len(set(self.reference))


class RlExample(Example):
    """A row of `rl.jsonl`: a prompt and the reference that the reward compares with."""


class SftExample(Example):
    """A row of `sft.jsonl`: a prompt and the completion to be learnt, reasoning and answer.

    `score` is the completion's reward.
    """

    completion: tuple[ChatTurn, ...] = Field(min_length=1, max_length=1)
    score: float


AnyExample = TypeVar("AnyExample", bound=Example)


def rl_example(task: Task, context_tokens: int | None = None) -> RlExample:
    """The RL row of a task.

    Args:
        task: the task.
        context_tokens: the context for which long texts are shortened, as at inference.

    Raises:
        InputError: the texts do not fit the context even so, or the reference is one cluster or singletons.
    """
    shown = fit_texts([text.text for text in task.texts], task.instruction, context_tokens).shown
    role = Proposer()
    prompt = role.render(ProposerInput(instruction=task.instruction, texts=shown))
    try:
        return RlExample(
            id=task.id,
            prompt=tuple(ChatTurn(role=message.role, content=message.content) for message in prompt),
            task=task.id,
            corpus=task.corpus,
            family=str(task.meta.get("attribute", task.id)),
            licence=str(task.meta.get("licence", "unknown")),
            template=role.template.id,
            template_sha256=role.template.sha256,
            reference=tuple(task.labels),
        )
    except ValidationError as error:
        raise InputError(f"task {task.id}: {error.errors()[0]['msg']}") from error


def sft_example(source: RlExample, completion: str, score: float) -> SftExample:
    """The SFT row of the same prompt with this completion."""
    said = ChatTurn(role="assistant", content=completion)
    return SftExample(**source.model_dump(), completion=(said,), score=score)


def read_examples(path: Path, kind: type[AnyExample]) -> list[AnyExample]:
    """The rows of `sft.jsonl` (`SftExample`) or `rl.jsonl` (`RlExample`).

    Raises:
        InputError: a line cannot be read, or was made with another prompt template than is installed.
    """
    rows = [_example(path, number, value, kind) for number, value in read_json_lines(path)]
    if not rows:
        raise InputError(f"{path} is empty: there is nothing to train on")
    return rows


def _example(path: Path, number: int, value: dict[str, object], kind: type[AnyExample]) -> AnyExample:
    try:
        row = kind.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(f"{path}, line {number}: {where + ': ' if where else ''}{first['msg']}") from error
    installed = load_template(row.template).sha256
    if row.template_sha256 != installed:
        raise InputError(
            f"{path}, line {number}: made with template {row.template}@{row.template_sha256[:8]}, but "
            f"{installed[:8]} is installed. A model trained on it would not know the prompts it gets: "
            "make the rows anew"
        )
    return row


def families(rows: Iterable[Example]) -> Sequence[str]:
    """The instruction families, as `corpus/family`, sorted."""
    return sorted({f"{row.corpus}/{row.family}" for row in rows})
