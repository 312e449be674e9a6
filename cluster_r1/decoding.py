"""Decodes bytes into lines of text, and lines into CSV records or JSON values, or says why they are none."""

from __future__ import annotations

import codecs
import csv
import json
import re
from collections.abc import Collection, Iterable, Iterator
from itertools import chain

from cluster_r1.errors import InputError

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
_CONTROL_BYTES = bytes(set(range(32)) - set(b"\t\n\v\f\r\x1b"))
_DELIMITERS = ",;\t|"
_LARGEST_CELL = 2**31 - 1  # what a C long holds everywhere; Python's own limit is 128 KiB
_PLAIN_HINT = " (plain text: the format lines)"


# Bytes and lines


def refuse_known_binary(name: str, data: bytes) -> None:
    """Refuse what its first bytes show to be a kind of file that holds no plain text."""
    if data.startswith(b"PK\x03\x04"):
        # A zip file names its members in plain bytes.
        excel = b"xl/workbook" in data
        what, remedy = ("an Excel", "export the sheet as CSV") if excel else ("a zip", _UNPACK)
        raise InputError(f"{name}: is {what} file: {remedy}")
    for magic, what, remedy in _BINARY_FORMATS:
        if data.startswith(magic):
            raise InputError(f"{name}: is a file of the kind {what}: {remedy}")


def as_utf8(name: str, data: bytes, warnings: list[str]) -> bytes:
    """Text without its byte order mark, UTF-16 and UTF-32 as UTF-8; without a mark as it is.

    Raises:
        InputError: it is binary.
    """
    data = _without_mark(name, data, warnings)
    _refuse_unknown_binary(name, data)
    return data


def _without_mark(name: str, data: bytes, warnings: list[str]) -> bytes:
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


class Lines:
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


# CSV


def csv_table(
    name: str, lines: Iterator[str], delimiter: str | None, may_be_plain: bool
) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """The columns of the header, and each record below it, as wide as the header, with its row.

    Without a delimiter the header tells it; what may be plain text is refused with a hint at that.
    """
    head = _header_lines(lines)
    delimiter = delimiter or _likely_delimiters("".join(head))[0]
    hint = _PLAIN_HINT if may_be_plain else ""
    records = _csv_records(name, chain(head, lines), delimiter, hint)
    columns = [column.strip() for column in next(records, (0, []))[1]]

    def rows() -> Iterator[tuple[int, list[str]]]:
        for row, cells in records:
            if len(cells) > len(columns):
                raise InputError(
                    f"{name}, row {row}: {len(cells)} fields where the header has {len(columns)}: "
                    f"put quotes around a text that holds the delimiter {delimiter!r}{hint}"
                )
            yield row, cells + [""] * (len(columns) - len(cells))

    return columns, rows()


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


def header_delimiter(line: str, names: Collection[str]) -> str | None:
    """The delimiter for which one of `names`, in any case, is a whole cell of the line, else None."""
    folded = {name.casefold() for name in names}
    for delimiter in _likely_delimiters(line):
        try:
            _, cells = next(_csv_records("", iter([line]), delimiter, ""), (0, []))
        except InputError:
            continue
        if any(cell.strip().casefold() in folded for cell in cells):
            return delimiter
    return None


def _likely_delimiters(header: str) -> list[str]:
    """The most frequent outside quotes first, the comma where none occurs."""
    bare = re.sub(r'"[^"]*"?', "", header)
    return sorted(_DELIMITERS, key=bare.count, reverse=True)


def _csv_records(
    name: str, lines: Iterator[str], delimiter: str, hint: str
) -> Iterator[tuple[int, list[str]]]:
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
            remedy = f'and double ("") quotes inside a text{hint}'
            raise InputError(f"{name}, row {row}: {problem}, {remedy}") from None
        if cells:
            yield row, cells


# JSON


def jsonl_values(name: str, lines: Iterable[str]) -> Iterator[tuple[int, object]]:
    """The value of each line that is not blank, with its row."""
    for row, line in enumerate(lines, start=1):
        if line.strip():
            yield row, _parsed(line, name, row, "give one object or string a line")


def json_values(name: str, lines: Iterable[str]) -> Iterator[tuple[int, object]]:
    """The values of an array, numbered from 1."""
    remedy = "give an array, or one object a line and the format jsonl"
    values = _parsed("".join(lines), name, 1, remedy)
    if not isinstance(values, list):
        raise InputError(f"{name}: holds {json_kind(values)}, not an array: {remedy}")
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
    raise InputError(f"{name}, row {row}: not JSON ({reason}): {remedy}{_PLAIN_HINT}")


def json_kind(value: object) -> str:
    """What a JSON value is, for a message."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    kinds = ((dict, "an object"), (list, "an array"), (str, "a string"))
    return next((kind for type_, kind in kinds if isinstance(value, type_)), "a number")
