"""Reads a file of texts, whatever its form, or says in one line why not."""

from __future__ import annotations

import hashlib
import re
import sys
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Literal, get_args

from cluster_r1.columns import (
    USUAL_TEXT_COLUMNS,
    cell_text,
    choose_columns,
    ids_of_column,
    shown,
    without_surrogates,
)
from cluster_r1.decoding import (
    Lines,
    as_utf8,
    header_delimiter,
    json_values,
    jsonl_values,
    refuse_known_binary,
)
from cluster_r1.errors import InputError
from cluster_r1.tables import (
    Table,
    delimited_table,
    header_warnings,
    json_table,
    parquet_table,
    plain_table,
)
from cluster_r1.types import Text

Format = Literal["csv", "tsv", "jsonl", "json", "parquet", "lines"]

_FORMAT_OF_SUFFIX: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
    ".txt": "lines",
    ".log": "lines",
    ".md": "lines",
}


@dataclass(frozen=True)
class ReadTexts:
    """What was read. `sha256` is that of all bytes of the input, also where `limit` cut the texts.

    The columns are None where there is none: plain lines, JSON strings, ids made of record numbers.
    """

    texts: list[Text]
    text_column: str | None
    id_column: str | None
    warnings: list[str]
    sha256: str


def read_texts(
    source: Path | str,
    *,
    text_column: str | None = None,
    id_column: str | None = None,
    limit: int | None = None,
    stdin: BinaryIO | None = None,
    format: Format | None = None,
) -> ReadTexts:
    """Read the texts of a file, or of standard input where `source` is "-".

    The format follows from the file's extension. Where that says nothing, the content tells: JSON or
    Parquet; CSV or TSV where a cell of the first line is a usual name of a text column, or a column
    named here; else plain lines.
    Rows after the first `limit` are neither parsed nor checked (of a JSON array: not checked).

    Raises:
        InputError: the input cannot be read as texts; the message names the file, the row and the remedy.
        MissingDependencyError: it is Parquet, and pyarrow is not installed.
    """
    if limit is not None and limit < 1:
        raise InputError(f"limit is {limit}: give a number of at least 1")
    if format is not None and format not in get_args(Format):
        raise InputError(f"format is {format!r}: give one of {', '.join(get_args(Format))}")
    name, data = _load(source, stdin)
    warnings: list[str] = []
    sha256 = hashlib.sha256(data).hexdigest()
    names = [*USUAL_TEXT_COLUMNS, *filter(None, (text_column, id_column))]
    table, lines = _open_table(name, data, format or _format_of(source, data), names, limit, warnings)
    text_at, id_at = _choose_columns(name, table.columns, text_column, id_column)
    rows = list(islice(table.rows(text_at, id_at), limit))
    if not rows:
        raise InputError(f"{name}: holds no text: give a file with at least one record")
    if lines is not None:
        warnings += lines.warnings()
    ids = None
    if id_at is not None:
        values, places = [value for _, _, value in rows], [row for row, _, _ in rows]
        ids = ids_of_column(name, values, places, id_column is not None, warnings)
    return ReadTexts(
        texts=[
            Text(id=str(number) if ids is None else ids[number - 1], text=cell_text(value, name, row))
            for number, (row, value, _) in enumerate(rows, start=1)
        ],
        text_column=_column_name(table, text_at),
        id_column=None if ids is None else _column_name(table, id_at),
        warnings=warnings,
        sha256=sha256,
    )


def _load(source: Path | str, stdin: BinaryIO | None) -> tuple[str, bytes]:
    """The name for messages, and all bytes."""
    name = "standard input" if str(source) == "-" else str(Path(source))
    if not name.isprintable():
        name = repr(name)  # a message is one line, and its file name can be printed
    try:
        if str(source) == "-":
            data = (stdin or sys.stdin.buffer).read()
        elif Path(source).is_dir():
            raise InputError(f"{name}: is a directory: give one file")
        else:
            data = Path(source).read_bytes()
    except FileNotFoundError:
        raise InputError(f"{name}: there is no such file: check the path") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{name}: cannot be read ({reason}): check the path and its permissions") from None
    if not data:
        raise InputError(f"{name}: is empty: give a file with at least one text")
    return name, data


def _format_of(source: Path | str, data: bytes) -> Format | None:
    """By the extension; Parquet also by its content. None: the decoded content has to tell."""
    if str(source) != "-":
        known = _FORMAT_OF_SUFFIX.get(Path(source).suffix.lower())
        if known is not None:
            return known
    return "parquet" if _looks_parquet(data) else None


def _looks_parquet(data: bytes) -> bool:
    """A text may begin with PAR1 too, but holds no NUL."""
    return data.startswith(b"PAR1") and b"\x00" in data


def _open_table(
    name: str, data: bytes, format: Format | None, names: list[str], limit: int | None, warnings: list[str]
) -> tuple[Table, Lines | None]:
    """The table, and the lines it is read from, which know their warnings once they are read.

    Where the format is not known, a header that holds one of `names` makes a table of the input.
    """
    refuse_known_binary(name, data)
    if format == "parquet":
        return parquet_table(name, data), None
    if _looks_parquet(data):
        raise InputError(f"{name}: is a Parquet file: give it the extension .parquet or the format parquet")
    data = as_utf8(name, data, warnings)
    lines = Lines(name, data)
    delimiter = "\t" if format == "tsv" else None
    sniffed = format is None
    if format is None:
        format, delimiter = _sniff(name, data, names)
    if format == "csv" or format == "tsv":
        table = delimited_table(name, lines, delimiter, sniffed)
        warnings += header_warnings(name, table.columns or [], names)
        return table, lines
    if format == "lines":
        return plain_table(lines), lines
    values = jsonl_values(name, lines) if format == "jsonl" else json_values(name, lines)
    return json_table(name, list(islice(values, limit)), warnings), lines


def _sniff(name: str, data: bytes, names: list[str]) -> tuple[Format, str | None]:
    """The format, and the delimiter of a CSV: its first line is a header that holds one of `names`."""
    first = re.search(rb"\S", data)
    if first is not None and first[0] in b"{[":
        return ("jsonl" if first[0] == b"{" else "json"), None
    header = next((line for line in Lines(name, data) if line.strip("\r\n")), "")
    delimiter = header_delimiter(header, names)
    if delimiter is None:
        return "lines", None
    return ("tsv" if delimiter == "\t" else "csv"), delimiter


def _choose_columns(
    name: str, columns: list[str] | None, text_column: str | None, id_column: str | None
) -> tuple[int, int | None]:
    if columns is not None:
        if not columns:
            raise InputError(f"{name}: holds no text: give a file with at least one record")
        return choose_columns(columns, text_column, id_column, name)
    if text_column is None and id_column is None:
        return 0, None
    asked = text_column if text_column is not None else id_column
    raise InputError(
        f"{name}: plain texts have no columns, so none is named {shown(asked)}: leave out --text and --id, "
        "or name the format (csv, tsv, jsonl, json, parquet)"
    )


def _column_name(table: Table, at: int | None) -> str | None:
    return None if table.columns is None or at is None else without_surrogates(table.columns[at])
