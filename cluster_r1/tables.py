"""Tables of texts: columns, and what gives the rows, of plain lines, CSV, JSON values and Parquet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import TypeAlias

from cluster_r1.columns import looks_like_text, shown
from cluster_r1.decoding import Lines, csv_table, json_kind
from cluster_r1.errors import InputError, MissingDependencyError

Row: TypeAlias = tuple[int, object, object]
"""Row number as a person counts it, value of the text column, value of the id column."""


@dataclass(frozen=True)
class Table:
    """Columns (None: plain texts), and what gives the rows once the places of the columns are chosen."""

    columns: list[str] | None
    rows: Callable[[int, int | None], Iterator[Row]]


def plain_table(lines: Iterable[str]) -> Table:
    """Each line that is not blank is a text."""

    def rows(text_at: int, id_at: int | None) -> Iterator[Row]:
        for row, line in enumerate(lines, start=1):
            if line.strip():
                yield row, line.rstrip("\r\n"), None

    return Table(None, rows)


def delimited_table(name: str, lines: Lines, delimiter: str | None, sniffed: bool) -> Table:
    """CSV or TSV with a header; the delimiter is found where it is None.

    Raises:
        InputError: also later, from the rows: a record is not as the header says.
    """
    columns, records = csv_table(name, iter(lines), delimiter, may_be_plain=sniffed)

    def rows(text_at: int, id_at: int | None) -> Iterator[Row]:
        for row, cells in records:
            yield row, cells[text_at], None if id_at is None else cells[id_at]

    return Table(columns, rows)


def header_warnings(name: str, columns: list[str], names: list[str]) -> list[str]:
    """A file of one text a line that ends in .csv would lose its first text, unseen."""
    if len(columns) != 1 or columns[0] in names or not looks_like_text(columns[0]):
        return []
    return [
        f"{name}: the first line {shown(columns[0])} was read as the header: "
        "if it is a text, name the format lines (--format lines)"
    ]


def json_table(name: str, values: list[tuple[int, object]], warnings: list[str]) -> Table:
    """Objects make a table with columns, strings are plain texts.

    A warning is added when the rows are read, if there are objects without the key of the texts.

    Raises:
        InputError: there are objects and strings, or neither.
    """
    plain = bool(values) and isinstance(values[0][1], str)
    records: list[tuple[int, dict[str, object]]] = []
    for row, value in values:
        if not isinstance(value, str if plain else dict):
            wanted = "a string" if plain else "an object"
            raise InputError(
                f"{name}, row {row}: {json_kind(value)} where {wanted} is needed: "
                "give objects only or strings only"
            )
        if isinstance(value, dict):
            records.append((row, value))
    if plain:
        return Table(None, lambda *_: ((row, value, None) for row, value in values))
    columns = list(dict.fromkeys(key for _, record in records for key in record))

    def rows(text_at: int, id_at: int | None) -> Iterator[Row]:
        without = [row for row, record in records if columns[text_at] not in record]
        if without:
            key, some = shown(columns[text_at]), f"{len(without)} row{'' if len(without) == 1 else 's'}"
            warnings.append(f"{name}: row {without[0]} has no key {key} ({some}): read as an empty text")
        for row, record in records:
            yield row, record.get(columns[text_at]), None if id_at is None else record.get(columns[id_at])

    return Table(columns, rows)


def parquet_table(name: str, data: bytes) -> Table:
    """The columns of a Parquet file; only those wanted are read.

    Raises:
        InputError: it is damaged, which may also show when the rows are read.
        MissingDependencyError: pyarrow is not installed.
    """
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

    def rows(text_at: int, id_at: int | None) -> Iterator[Row]:
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

    return Table(columns, rows)
