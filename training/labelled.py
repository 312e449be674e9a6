"""Labelled sets: texts with a label for each of several attributes, and how each attribute is asked for."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from cluster_r1.errors import InputError
from cluster_r1.json_lines import read_json_lines
from cluster_r1.reading import read_texts
from cluster_r1.types import Record


class Attribute(Record):
    """How one attribute is asked for.

    Attributes:
        criterion: what the instruction asks about, a noun phrase.
        topical: whether it is what the texts are about.
        instructions: wordings that mean the same.
        names: readable names of labels; the others are read as they stand.
    """

    criterion: str
    topical: bool = False
    instructions: tuple[str, ...] = Field(min_length=1)
    names: Mapping[str, str] = Field(default_factory=dict)

    def name(self, label: str) -> str:
        """A label as a person would write it."""
        return self.names.get(label) or label.replace("_", " ").strip().casefold()


class AttributeFile(Record):
    """What is known of a labelled set besides its rows."""

    corpus: str
    licence: str = "unknown"
    source: str = ""
    attributes: Mapping[str, Attribute] = Field(default_factory=dict)


class LabelledText(Record):
    """A row: a text and its label for each attribute that it has one for."""

    id: str
    text: str = Field(min_length=1)
    labels: Mapping[str, str]


class LabelledSet(Record):
    """A corpus with its attributes; only attributes that the rows carry are kept."""

    corpus: str
    licence: str
    source: str
    attributes: Mapping[str, Attribute]
    rows: tuple[LabelledText, ...]


def read_labelled(path: Path) -> LabelledSet:
    """A JSONL file of `{"id", "text", "labels": {attribute: label}}`, or a CSV file of ids and texts.

    The labels of `mail.csv` stand in `mail_labels.csv` beside it: a column `id`, and one for each attribute.

    How attributes are asked for is read from `<name>.attributes.yaml` beside it, else from those for public
    sets in this package, else made of the attributes' names.

    Raises:
        InputError: a file, line or value cannot be used; the message says which.
    """
    lines = _csv_lines(path) if path.suffix == ".csv" else read_json_lines(path)
    rows = tuple(_row(path, number, value) for number, value in lines)
    if not rows:
        raise InputError(f"{path} is empty: rows of id, text and labels are expected")
    known = attribute_file(path)
    carried = sorted({attribute for row in rows for attribute in row.labels})
    attributes = {name: known.attributes.get(name) or _plain_attribute(name) for name in carried}
    return LabelledSet(
        corpus=known.corpus, licence=known.licence, source=known.source, attributes=attributes, rows=rows
    )


def _csv_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Texts as any command reads them, with their labels, as rows numbered from 1."""
    labels = {row.pop("id", ""): row for row in _csv_rows(path.with_name(f"{path.stem}_labels.csv"))}
    for number, text in enumerate(read_texts(str(path)).texts, 1):
        if text.id not in labels:
            raise InputError(f"{path}: text {text.id} has no labels in {path.stem}_labels.csv beside it")
        yield number, {"id": text.id, "text": text.text, "labels": labels[text.id]}


def _csv_rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read: {error}") from error


def _row(path: Path, number: int, value: dict[str, Any]) -> LabelledText:
    try:
        return LabelledText.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(
            f"{path}, line {number}: {where}: {first['msg']}. Rows are id, text and labels by attribute"
        ) from error


def attribute_file(path: Path) -> AttributeFile:
    """What is known of a file of texts: from the YAML file beside it, else a shipped one, else its name.

    Raises:
        InputError: the YAML file is none.
    """
    beside = path.with_name(f"{path.stem}.attributes.yaml")
    shipped = resources.files("cluster_r1.training").joinpath("attributes", f"{path.stem}.yaml")
    if beside.is_file():
        source, where = beside.read_text(encoding="utf-8"), str(beside)
    elif shipped.is_file():
        source, where = shipped.read_text(encoding="utf-8"), shipped.name
    else:
        return AttributeFile(corpus=path.stem)
    try:
        return AttributeFile.model_validate(yaml.safe_load(source))
    except (yaml.YAMLError, ValidationError) as error:
        raise InputError(f"{where} is no attribute file: {' '.join(str(error).split())[:200]}") from error


def _plain_attribute(name: str) -> Attribute:
    words = name.replace("_", " ").strip()
    return Attribute(criterion=words, instructions=(f"Group these texts by {words}.",))
