"""Tasks: texts, an instruction and reference labels; what benchmark and training sets are made of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationError, model_validator

from cluster_r1.errors import InputError
from cluster_r1.json_lines import json_object, read_json_lines
from cluster_r1.types import Record, Text


class Task(Record):
    """One thing to be clustered, and how it should come out.

    Attributes:
        id: unique in its file.
        corpus: where the texts come from; splits keep corpora apart.
        instruction: what decides the grouping.
        paraphrases: other wordings of the instruction, with the same reference.
        texts: what is grouped.
        reference: the true label of each text, by its id.
        split: `train`, `validation`, `development` or `test`.
        meta: what else is known, e.g. attribute, licence.
    """

    id: str
    corpus: str
    instruction: str = Field(min_length=1)
    paraphrases: tuple[str, ...] = ()
    texts: tuple[Text, ...] = Field(min_length=1)
    reference: Mapping[str, str]
    split: str = "test"
    meta: Mapping[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _every_text_labelled(self) -> Self:
        ids = [text.id for text in self.texts]
        if len(set(ids)) < len(ids):
            raise ValueError("two texts have the same id")
        if missing := [id for id in ids if id not in self.reference]:
            raise ValueError(f"text {missing[0]!r} has no reference label")
        return self

    @property
    def labels(self) -> list[str]:
        """The reference label of each text, in the texts' order."""
        return [self.reference[text.id] for text in self.texts]

    @property
    def k(self) -> int:
        """How many clusters the reference has."""
        return len(set(self.labels))

    def first(self, count: int) -> Task:
        """The task with its first texts only."""
        return self.model_copy(update={"texts": self.texts[:count]})


def read_tasks(path: Path | str) -> list[Task]:
    """The tasks of a JSONL file, or of a JSON file with one task.

    `texts` may be the name of a corpus file beside it (JSONL with `id` and `text`), of which those are taken
    that the reference labels.

    Raises:
        InputError: a file or line cannot be read; the message names both.
    """
    path = Path(path)
    lines = read_json_lines(path) if path.suffix == ".jsonl" else [(1, _read_json(path))]
    return [_task(path, number, value) for number, value in lines]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    return json_object(path, 1, text)


def _task(path: Path, number: int, value: dict[str, Any]) -> Task:
    if isinstance(value.get("texts"), str):
        value = {**value, "texts": _from_corpus(path.parent / value["texts"], value.get("reference"))}
    try:
        return Task.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(f"{path}, line {number}: {where + ': ' if where else ''}{first['msg']}") from error


def _from_corpus(path: Path, reference: object) -> list[dict[str, Any]]:
    wanted = reference if isinstance(reference, dict) else {}
    rows = (value for _, value in read_json_lines(path))
    return [{"id": row["id"], "text": row["text"]} for row in rows if row.get("id") in wanted]
