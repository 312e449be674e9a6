"""The files of a run's folder: assignments.csv, clusters.json, run.json, each written whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from cluster_r1.errors import InputError
from cluster_r1.types import Record

ASSIGNMENTS = "assignments.csv"
CLUSTERS = "clusters.json"
RUN = "run.json"
TRACE = "trace.jsonl"
CHANGES = "changes.json"

EDITS = "edits.jsonl"
"""The edits of a folder, one a line, in order; what they say holds, whatever the other files do."""

UNEDITED = "unedited"
"""A folder inside that of a run with its files as they were before the first edit."""

_COLUMNS = ("id", "text", "cluster_id", "cluster", "confidence", "reason")


class Row(Record):
    """One input text and its place; an unassigned text has an empty cluster and its reason."""

    id: str
    text: str
    cluster_id: str
    cluster: str
    confidence: float | None
    reason: str


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write `assignments.csv` (RFC 4180, UTF-8): no cell of which a spreadsheet would run as a formula."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(_COLUMNS)
    for row in rows:
        confidence = "" if row.confidence is None else str(abs(row.confidence))
        cells = (row.id, row.text, row.cluster_id, row.cluster, confidence, row.reason)
        writer.writerow([_guarded(cell) for cell in cells])
    write_whole(path, buffer.getvalue())


def read_rows(path: Path) -> list[Row]:
    """Read what `write_rows` wrote.

    Raises:
        InputError: the file is not there or is no such table.
    """
    csv.field_size_limit(2**31 - 1)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            records = list(csv.DictReader(file))
        return [
            Row.model_validate(
                {key: _unguarded(value) for key, value in record.items()}
                | {"confidence": float(record["confidence"]) if record["confidence"] else None}
            )
            for record in records
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is no table of assignments: {error}") from error


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file, readable by people."""
    write_whole(path, json.dumps(content, ensure_ascii=False, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        InputError: it is not there or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error


def recorded_lines(folder: Path) -> list[str]:
    """The lines of `edits.jsonl`; none where there is no such file.

    Raises:
        InputError: it cannot be read.
    """
    path = folder / EDITS
    if not path.exists():
        return []
    try:  # lines end with \n alone: names may hold what else ends lines in Unicode
        return [line for line in path.read_text(encoding="utf-8").split("\n") if line]
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error


def write_whole(path: Path, content: str) -> None:
    """Write a text file under another name first, so that a killed process leaves the old one or the new.

    Raises:
        InputError: it cannot be written; what was there is still there.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_bytes(content.encode("utf-8", "replace"))
        draft.replace(path)
    except OSError as error:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise InputError(
            f"{path} cannot be written: {error.strerror}. Answers are kept: make room or choose another "
            "folder (--out), and run again"
        ) from error


# Spreadsheets run a cell that starts with one of these; an apostrophe in front makes it text (OWASP, "CSV
# Injection"). Cells that start with apostrophes before such a character get one more, so that reading back
# is exact.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")
_GUARDED = re.compile(r"'+[=+\-@\t\r\n＝＋－＠]")


def _guarded(cell: str) -> str:
    return f"'{cell}" if _FORMULA.match(cell) else cell


def _unguarded(cell: str) -> str:
    return cell[1:] if _GUARDED.match(cell) else cell
