"""Reads and writes JSONL files: one object a line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cluster_r1.errors import InputError
from cluster_r1.types import Record


def read_json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers, from 1, and objects of a JSONL file; empty lines are passed over.

    Raises:
        InputError: the file cannot be read, or a line is no JSON object (a file that was cut off).
    """
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, json_object(path, number, line)
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no UTF-8 text ({error}): save it as UTF-8") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error}") from error


def json_object(path: Path, number: int, line: str) -> dict[str, Any]:
    """The object that a line holds.

    Raises:
        InputError: it holds none; the message names file and line.
    """
    try:
        value = json.loads(line)
    except ValueError as error:
        raise InputError(
            f"{path}, line {number}: no JSON ({error}). If the file was cut off, write it anew"
        ) from error
    if not isinstance(value, dict):
        raise InputError(f"{path}, line {number}: a JSON object is expected, not {type(value).__name__}")
    return value


def write_json_lines(path: Path, records: Iterable[Record | Mapping[str, Any]]) -> None:
    """Write one record a line; the file appears whole or not at all."""
    with json_lines_file(path) as write:
        for record in records:
            write(record)


@contextmanager
def json_lines_file(path: Path) -> Iterator[Callable[[Record | Mapping[str, Any]], None]]:
    """A file for the length of a block, which writes record by record; it appears when the block is done."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    with unfinished.open("w", encoding="utf-8", newline="\n") as file:

        def write(record: Record | Mapping[str, Any]) -> None:
            value = record.model_dump(mode="json") if isinstance(record, Record) else record
            file.write(json.dumps(value, ensure_ascii=False) + "\n")

        yield write
    unfinished.replace(path)


def append_json_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Add one record a line to a file that grows while something runs."""
    with path.open("a", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
