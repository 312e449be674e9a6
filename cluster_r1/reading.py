"""Reads a file of texts, whatever its form, or says in one line why not."""

from __future__ import annotations

import codecs
import csv
import difflib
import hashlib
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count, islice
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias, get_args

from cluster_r1.errors import InputError, MissingDependencyError
from cluster_r1.types import Text

Format = Literal["csv", "tsv", "jsonl", "json", "parquet", "lines"]

# fmt: off
USUAL_TEXT_COLUMNS = (
    "text", "message", "body", "content", "comment", "review", "utterance", "description", "question",
    "sentence", "tweet", "post", "feedback", "document", "abstract",
)
# fmt: on
"""The text column where none was named: the first of these that the input has."""

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
_UNPACK = "unpack it first"
_AS_TEXT = "save its text as .txt or .csv"
_BINARY_FORMATS = (
    (b"\x1f\x8b", "gzip", _UNPACK),
    (b"BZh91AY&SY", "bzip2", _UNPACK),
    (b"\xfd7zXZ\x00", "xz", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "Zstandard", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "7z", _UNPACK),
    (b"%PDF-", "PDF", _AS_TEXT),
    (b"\x89PNG\r\n", "PNG image", "give a file of texts"),
    (b"\xff\xd8\xff", "JPEG image", "give a file of texts"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "old Office (.xls, .doc)", "export it as CSV"),
    (b"SQLite format 3\x00", "SQLite", "export the table as CSV"),
)
# UTF-32 stands before UTF-16: its little-endian mark begins with that of UTF-16.
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_LINE_BYTES = re.compile(rb"[^\r\n]++(?:\r\n?|\n)?|\r\n?|\n")
_LINE_END = re.compile(r"\r\n?|\n")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_CONTROL_BYTES = bytes(set(range(32)) - set(b"\t\n\v\f\r\x1b"))
_LARGEST_CELL = 2**31 - 1  # what a C long holds everywhere; Python's own limit is 128 KiB


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


_Row: TypeAlias = tuple[int, object, object]
"""Row number as a person counts it, value of the text column, value of the id column."""


@dataclass(frozen=True)
class _Table:
    """Columns (None: plain texts), and what gives the rows once the places of the columns are chosen."""

    columns: list[str] | None
    rows: Callable[[int, int | None], Iterator[_Row]]


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

    The format follows from the file's extension, and from its content where that says nothing.
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
    table, lines = _open_table(name, data, format or _format_of(source, data), limit, warnings)
    text_at, id_at = _choose_columns(name, table.columns, text_column, id_column)
    rows = list(islice(table.rows(text_at, id_at), limit))
    if not rows:
        raise InputError(f"{name}: holds no text: give a file with at least one record")
    if lines is not None:
        warnings += lines.warnings()
    ids = _ids_of_column(name, rows, id_column is not None, warnings) if id_at is not None else None
    return ReadTexts(
        texts=[
            Text(id=str(number) if ids is None else ids[number - 1], text=_cell_text(value, name, row))
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
    name: str, data: bytes, format: Format | None, limit: int | None, warnings: list[str]
) -> tuple[_Table, _Lines | None]:
    """The table, and the lines it is read from, which know their warnings once they are read."""
    _refuse_known_binary(name, data)
    if format == "parquet":
        return _parquet_table(name, data), None
    if _looks_parquet(data):
        raise InputError(f"{name}: is a Parquet file: give it the extension .parquet or the format parquet")
    data = _as_utf8(name, data, warnings)
    _refuse_unknown_binary(name, data)
    lines = _Lines(name, data)
    format = format or _sniff(data)
    if format == "csv" or format == "tsv":
        return _csv_table(name, iter(lines), "\t" if format == "tsv" else None), lines
    if format == "lines":
        return _Table(None, lambda *_: _plain_rows(lines)), lines
    values = _jsonl_values(name, lines) if format == "jsonl" else _json_values(name, lines)
    return _json_table(name, list(islice(values, limit))), lines


def _sniff(data: bytes) -> Format:
    first = re.search(rb"\S", data)
    if first is None or first[0] not in b"{[":
        return "lines"
    return "jsonl" if first[0] == b"{" else "json"


# Bytes and lines


def _refuse_known_binary(name: str, data: bytes) -> None:
    if data.startswith(b"PK\x03\x04"):
        # A zip file names its members in plain bytes.
        excel = b"xl/workbook" in data
        what, remedy = ("an Excel", "export the sheet as CSV") if excel else ("a zip", _UNPACK)
        raise InputError(f"{name}: is {what} file: {remedy}")
    for magic, what, remedy in _BINARY_FORMATS:
        if data.startswith(magic):
            raise InputError(f"{name}: is a file of the kind {what}: {remedy}")


def _refuse_unknown_binary(name: str, data: bytes) -> None:
    """Refuse many NULs, and many control bytes in what is not UTF-8."""
    head = data[:65536]
    controls = len(head) - len(head.translate(None, _CONTROL_BYTES))
    if data.count(0) > 0.3 * len(data) or (controls > 0.1 * len(head) and not _is_utf8(head)):
        raise InputError(f"{name}: is binary, or text in an unknown encoding: save it as UTF-8 text")


def _is_utf8(head: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return True


def _as_utf8(name: str, data: bytes, warnings: list[str]) -> bytes:
    """Without its byte order mark, UTF-16 and UTF-32 as UTF-8; without a mark as it is."""
    for mark, encoding in _BYTE_ORDER_MARKS:
        if not data.startswith(mark):
            continue
        body = data[len(mark) :]
        if encoding == "utf-8":
            return body
        try:
            return body.decode(encoding).encode()
        except UnicodeDecodeError as error:
            # Programs that cut strings leave half characters behind: the rest is still good.
            at = error.start + len(mark) + 1
            shown = encoding[:6].upper()
            warnings.append(f"{name}: damaged {shown} from byte {at} on: unreadable characters became U+FFFD")
            return body.decode(encoding, "replace").encode()
    return data


class _Lines:
    """Decodes line by line, so that nothing is refused that stands after the last line wanted.

    A line that is not UTF-8 is read as Windows-1252, also in a file whose other lines are UTF-8.
    """

    def __init__(self, name: str, data: bytes) -> None:
        self._name = name
        self._data = data
        self._legacy_rows: list[int] = []
        self._nuls = 0
        self._first_nul_row = 0

    def __iter__(self) -> Iterator[str]:
        for row, match in enumerate(_LINE_BYTES.finditer(self._data), start=1):
            yield self._decoded(row, match[0])

    def _decoded(self, row: int, line: bytes) -> str:
        if b"\x00" in line:
            self._first_nul_row = self._first_nul_row or row
            self._nuls += line.count(0)
            line = line.replace(b"\x00", b" ")
        try:
            return line.decode()
        except UnicodeDecodeError:
            self._legacy_rows.append(row)
        try:
            return line.decode("cp1252")
        except UnicodeDecodeError as error:
            byte = line[error.start]
            raise InputError(
                f"{self._name}, row {row}: the byte 0x{byte:02x} is neither UTF-8 nor Windows-1252: "
                "save the file as UTF-8"
            ) from None

    def warnings(self) -> list[str]:
        """What was not as it should be in the lines read so far."""
        found = []
        if self._legacy_rows:
            found.append(
                f"{self._name}, row {self._legacy_rows[0]}: not UTF-8, read as Windows-1252 "
                f"(rows affected: {len(self._legacy_rows)}): save the file as UTF-8 if characters look wrong"
            )
        if self._nuls:
            found.append(
                f"{self._name}, row {self._first_nul_row}: NUL bytes replaced by spaces "
                f"({self._nuls} in all): check how the file was written"
            )
        return found


# Formats


def _plain_rows(lines: Iterable[str]) -> Iterator[_Row]:
    for row, line in enumerate(lines, start=1):
        if line.strip():
            yield row, line.rstrip("\r\n"), None


def _csv_table(name: str, lines: Iterator[str], delimiter: str | None) -> _Table:
    head = _header_lines(lines)
    delimiter = delimiter or _delimiter("".join(head))
    records = _csv_records(name, chain(head, lines), delimiter)
    columns = [column.strip() for column in next(records, (0, []))[1]]

    def rows(text_at: int, id_at: int | None) -> Iterator[_Row]:
        for row, cells in records:
            if len(cells) > len(columns):
                raise InputError(
                    f"{name}, row {row}: {len(cells)} fields where the header has {len(columns)}: "
                    f"put quotes around a text that holds the delimiter {delimiter!r}"
                )
            cells += [""] * (len(columns) - len(cells))
            yield row, cells[text_at], None if id_at is None else cells[id_at]

    return _Table(columns, rows)


def _header_lines(lines: Iterator[str]) -> list[str]:
    """The lines up to the end of the first record; a quoted column name may span several."""
    head: list[str] = []
    quotes = 0
    for line in lines:
        head.append(line)
        quotes += line.count('"')
        if quotes % 2 == 0 and line.strip("\r\n"):
            break
    return head


def _delimiter(header: str) -> str:
    """The most frequent one outside quotes, the comma if there is none."""
    bare = re.sub(r'"[^"]*"?', "", header)
    return max(",;\t|", key=bare.count)


def _csv_records(name: str, lines: Iterator[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Each record that is not a blank line, with the row it starts in."""
    # The limit holds for the whole process; raised and left there, it cannot fail a reader beside this one.
    csv.field_size_limit(max(csv.field_size_limit(), _LARGEST_CELL))
    # Not strict, an unclosed quote would swallow the rows after it without a word.
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        row = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if "end of data" in str(error):
                problem = "a quote opens here and never closes: close it"
            else:
                problem = f"a quoted cell goes on after its closing quote in row {reader.line_num}: close it"
            raise InputError(f'{name}, row {row}: {problem}, and double ("") quotes inside a text') from None
        if cells:
            yield row, cells


def _jsonl_values(name: str, lines: Iterable[str]) -> Iterator[tuple[int, object]]:
    for row, line in enumerate(lines, start=1):
        if line.strip():
            yield row, _parsed(line, name, row, "give one object or string a line")


def _json_values(name: str, lines: Iterable[str]) -> Iterator[tuple[int, object]]:
    remedy = "give an array, or one object a line and the format jsonl"
    values = _parsed("".join(lines), name, 1, remedy)
    if not isinstance(values, list):
        raise InputError(f"{name}: holds {_json_kind(values)}, not an array: {remedy}")
    return enumerate(values, start=1)


def _parsed(document: str, name: str, row: int, remedy: str) -> object:
    """The JSON value of a document that begins in `row`."""
    try:
        return json.loads(document)
    except RecursionError:
        reason = "nested too deeply"
    except json.JSONDecodeError as error:
        reason = f"{error.msg}, column {error.colno}"
        row += len(_LINE_END.findall(document[: error.pos]))
    except ValueError:
        reason = "a number with too many digits"
    raise InputError(f"{name}, row {row}: not JSON ({reason}): {remedy} (plain text: the format lines)")


def _json_kind(value: object) -> str:
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    kinds = ((dict, "an object"), (list, "an array"), (str, "a string"))
    return next((kind for type_, kind in kinds if isinstance(value, type_)), "a number")


def _json_table(name: str, values: list[tuple[int, object]]) -> _Table:
    """Objects make a table with columns, strings are plain texts; a mixture is refused."""
    plain = bool(values) and isinstance(values[0][1], str)
    records: list[tuple[int, dict[str, object]]] = []
    for row, value in values:
        if not isinstance(value, str if plain else dict):
            wanted = "a string" if plain else "an object"
            raise InputError(
                f"{name}, row {row}: {_json_kind(value)} where {wanted} is needed: "
                "give objects only or strings only"
            )
        if isinstance(value, dict):
            records.append((row, value))
    if plain:
        return _Table(None, lambda *_: ((row, value, None) for row, value in values))
    columns = list(dict.fromkeys(key for _, record in records for key in record))

    def rows(text_at: int, id_at: int | None) -> Iterator[_Row]:
        for row, record in records:
            yield row, record.get(columns[text_at]), None if id_at is None else record.get(columns[id_at])

    return _Table(columns, rows)


def _parquet_table(name: str, data: bytes) -> _Table:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingDependencyError(
            f'{name}: Parquet needs pyarrow, which is not installed: pip install "cluster-r1[data]"'
        ) from None
    # Damage shows as any of these, depending on the bytes hit.
    damage = (pyarrow.ArrowException, OSError, ValueError, OverflowError, MemoryError)

    def damaged(error: BaseException) -> InputError:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        return InputError(f"{name}: is not a readable Parquet file ({reason}): write or export it again")

    try:
        file = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(data))
        columns = [str(column) for column in file.schema_arrow.names]
    except damage as error:
        raise damaged(error) from None

    def rows(text_at: int, id_at: int | None) -> Iterator[_Row]:
        wanted = [columns[at] for at in (text_at, id_at) if at is not None]
        numbers = count(1)
        try:
            for batch in file.iter_batches(columns=wanted):
                # By name: of a column a.b, pyarrow also reads what is called b inside a column a.
                found = [batch.column(batch.schema.get_field_index(column)).to_pylist() for column in wanted]
                for values in zip(*found, strict=True):
                    yield next(numbers), values[0], values[-1]
        except damage as error:
            raise damaged(error) from None

    return _Table(columns, rows)


# Columns and cells


def _choose_columns(
    name: str, columns: list[str] | None, text_column: str | None, id_column: str | None
) -> tuple[int, int | None]:
    if columns is not None:
        if not columns:
            raise InputError(f"{name}: holds no text: give a file with at least one record")
        text_at = choose_text_column(columns, text_column, name)
        return text_at, choose_id_column(columns, id_column, text_at, name)
    if text_column is None and id_column is None:
        return 0, None
    asked = text_column if text_column is not None else id_column
    raise InputError(
        f"{name}: plain texts have no columns, so none is named {shown(asked)}: leave out --text and --id, "
        "or name the format (csv, tsv, jsonl, json, parquet)"
    )


def _column_name(table: _Table, at: int | None) -> str | None:
    return None if table.columns is None or at is None else without_surrogates(table.columns[at])


def choose_text_column(columns: Sequence[str], wanted: str | None, where: str) -> int:
    """The place of the text column: the one named, the only one, or the first with a usual name.

    Raises:
        InputError: there is no such column, or more than one.
    """
    if wanted is not None:
        return _named(columns, wanted, where, "--text COLUMN (text_column)")
    if len(columns) == 1:
        return 0
    folded = [column.casefold() for column in columns]
    for usual in USUAL_TEXT_COLUMNS:
        found = [at for at, column in enumerate(folded) if column == usual]
        if found:
            return _only(columns, found, where, "--text COLUMN (text_column)")
    raise InputError(
        f"{where}: which column holds the texts? Name it with --text COLUMN (text_column); "
        f"there are {_listed(columns)}"
    )


def choose_id_column(columns: Sequence[str], wanted: str | None, text_at: int, where: str) -> int | None:
    """The place of the id column: the one named, else one named id, else None.

    Raises:
        InputError: there is no such column, or more than one.
    """
    if wanted is not None:
        return _named(columns, wanted, where, "--id COLUMN (id_column)")
    found = [at for at, column in enumerate(columns) if column.casefold() == "id" and at != text_at]
    return _only(columns, found, where, "--id COLUMN (id_column)") if found else None


def _named(columns: Sequence[str], wanted: str, where: str, option: str) -> int:
    found = [at for at, column in enumerate(columns) if column == wanted]
    if found:
        return _only(columns, found, where, option)
    folded = {column.casefold(): column for column in columns}
    close = difflib.get_close_matches(wanted.casefold(), folded, n=1)
    hint = f"did you mean {shown(folded[close[0]])}? " if close else ""
    raise InputError(f"{where}: no column {shown(wanted)}: {hint}{option} takes one of {_listed(columns)}")


def _only(columns: Sequence[str], found: list[int], where: str, option: str) -> int:
    if len(found) == 1:
        return found[0]
    names = " and ".join(shown(columns[at]) for at in found[:2])
    raise InputError(f"{where}: columns {names} are both meant: rename one, or name another with {option}")


def _listed(columns: Sequence[str]) -> str:
    more = f" and {len(columns) - 20} more" if len(columns) > 20 else ""
    return ", ".join(shown(column) for column in columns[:20]) + more


def shown(value: object) -> str:
    """A name or id in quotes, short and on one line, for a message."""
    text = str(value)
    return repr(text if len(text) <= 60 else text[:59] + "…")


def is_missing(value: object) -> bool:
    """None, NaN, and the missing values of pandas, known by their names since pandas may not be there."""
    if isinstance(value, float):
        return value != value
    return value is None or type(value).__name__ in ("NAType", "NaTType")


def without_surrogates(text: str) -> str:
    """Half characters become U+FFFD: JSON and Python can hold them, UTF-8 cannot."""
    return text if text.isascii() else _LONE_SURROGATE.sub("\ufffd", text)


def _cell_text(value: object, name: str, row: int) -> str:
    if is_missing(value):
        return ""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise InputError(f"{name}, row {row}: the text is not UTF-8: write it as strings") from None
    if isinstance(value, (dict, list)):
        raise InputError(f"{name}, row {row}: the text is {_json_kind(value)}: choose a column of strings")
    return without_surrogates(str(value))


def _ids_of_column(name: str, rows: list[_Row], demanded: bool, warnings: list[str]) -> list[str] | None:
    """The ids in the column; None, with a warning, where they cannot be ids and nobody demanded them."""
    ids = [as_id(value) for _, _, value in rows]
    problem = id_problem(ids, [row for row, _, _ in rows], "row")
    if problem is None:
        return ids
    if demanded:
        raise InputError(f"{name}: {problem}: make the ids unique, or leave out --id (id_column)")
    warnings.append(f"{name}: the column id is not used, {problem}: the ids are record numbers")
    return None


def as_id(value: object) -> str:
    """The id as a string: 7 for 7.0, empty where there is none or only blanks."""
    if is_missing(value) or isinstance(value, (dict, list)):
        return ""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    text = without_surrogates(str(value))
    return text if text.strip() else ""


def id_problem(ids: Sequence[str], places: Sequence[object], noun: str) -> str | None:
    """Why these cannot be ids (the first one that is empty or repeats), None where they can.

    `places` says where each stands, for the message: rows, or positions (`noun`).
    """
    first: dict[str, object] = {}
    for text_id, place in zip(ids, places, strict=True):
        if not text_id:
            return f"{noun} {place} has no id"
        if text_id in first:
            return f"the id {shown(text_id)} stands in {noun}s {first[text_id]} and {place}"
        first[text_id] = place
    return None
