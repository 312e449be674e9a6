"""Scenes: small corpora written for this project, whose texts are labelled for several attributes at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, ValidationError

from cluster_r1.errors import InputError
from cluster_r1.json_lines import read_json_lines
from cluster_r1.types import Record

AnyRecord = TypeVar("AnyRecord", bound=Record)


class SceneAttribute(Record):
    """What the texts are labelled for.

    Attributes:
        wordings: how a person may ask for it.
        labels: the labels, and phrasings of each, the label itself among them.
    """

    name: str
    wordings: tuple[str, ...] = Field(min_length=1)
    labels: Mapping[str, tuple[str, ...]] = Field(min_length=2)


class SceneText(Record):
    """A text and its label for each attribute, in the attributes' order."""

    text: str = Field(min_length=1)
    labels: tuple[str, ...]


class Scene(Record):
    """Texts of one kind."""

    name: str
    scene: str
    attributes: tuple[SceneAttribute, ...] = Field(min_length=1)
    texts: tuple[SceneText, ...] = Field(min_length=2)


def read_scenes(folder: Path | None = None, *, usual: bool = False) -> list[Scene]:
    """The scenes of a folder (`*.jsonl`), by name; those that come with this package without one.

    Args:
        folder: where they are.
        usual: whether those in its folder `usual` are meant as well.

    Raises:
        InputError: there are none, or one cannot be used; the message names file and line.
    """
    if folder is not None:
        paths = sorted(folder.glob("*.jsonl"))
        if not paths:
            raise InputError(f"{folder} holds no scenes (*.jsonl)")
        if usual:
            paths += sorted(folder.glob("usual/*.jsonl"))
        return [read_scene(path) for path in paths]
    with resources.as_file(resources.files("cluster_r1.training").joinpath("scenes")) as shipped:
        return read_scenes(shipped, usual=usual)


def read_scene(path: Path) -> Scene:
    """A scene: a line with its attributes, then one line a text.

    Raises:
        InputError: it cannot be used; the message names file and line.
    """
    lines = list(read_json_lines(path))
    if len(lines) < 3:
        raise InputError(f"{path}: a scene has a line with its attributes and at least two texts")
    (first, head), *body = lines
    attributes = [_read(SceneAttribute, path, first, each) for each in head.get("attributes", ())]
    texts = [_read(SceneText, path, number, row) for number, row in body]
    for (number, _), text in zip(body, texts, strict=True):
        _check_labels(path, number, text, attributes)
    values = {"name": path.stem, "scene": head.get("scene", ""), "attributes": attributes, "texts": texts}
    return _read(Scene, path, first, values)


def _check_labels(path: Path, number: int, text: SceneText, attributes: Sequence[SceneAttribute]) -> None:
    if len(text.labels) != len(attributes):
        raise InputError(f"{path}, line {number}: {len(text.labels)} labels for {len(attributes)} attributes")
    for label, attribute in zip(text.labels, attributes, strict=True):
        if label not in attribute.labels:
            raise InputError(f"{path}, line {number}: {label!r} is no label of {attribute.name!r}")


def _read(kind: type[AnyRecord], path: Path, number: int, values: Mapping[str, Any]) -> AnyRecord:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        found = error.errors()[0]
        where = ".".join(map(str, found["loc"]))
        raise InputError(f"{path}, line {number}: {where}: {found['msg']}") from error
