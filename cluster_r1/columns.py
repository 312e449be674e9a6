"""Chooses the text and id columns of a table, and turns its cells into texts and ids."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from cluster_r1.errors import InputError

# fmt: off
USUAL_TEXT_COLUMNS = (
    "text", "message", "body", "content", "comment", "review", "utterance", "description", "question",
    "sentence", "tweet", "post", "feedback", "document", "abstract",
)
# fmt: on
"""The text column where none was named: the first of these that the input has."""

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def choose_columns(
    columns: Sequence[str], text_column: str | None, id_column: str | None, where: str
) -> tuple[int, int | None]:
    """The places of the text column and of the id column, None where there is no id column.

    The text column is the one named, the only one, or the first with a usual name; the id column the one
    named, or else the one named id.

    Raises:
        InputError: there is no such column, or more than one.
    """
    text_at = _text_column(columns, text_column, where)
    return text_at, _id_column(columns, id_column, text_at, where)


def _text_column(columns: Sequence[str], wanted: str | None, where: str) -> int:
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


def _id_column(columns: Sequence[str], wanted: str | None, text_at: int, where: str) -> int | None:
    if wanted is not None:
        return _named(columns, wanted, where, "--id COLUMN (id_column)")
    found = [at for at, column in enumerate(columns) if column.casefold() == "id" and at != text_at]
    return _only(columns, found, where, "--id COLUMN (id_column)") if found else None


def looks_like_text(header: str) -> bool:
    """Whether the only name of a header is rather a text: long, or several words and no usual name."""
    words = re.findall(r"\w+", header.casefold())
    usual = any(word.removesuffix("s") in USUAL_TEXT_COLUMNS for word in words)
    return len(words) > 3 or (len(words) > 1 and not usual) or len(header) > 40


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


def cell_text(value: object, name: str, row: int) -> str:
    """The text in a cell, empty where there is none; whatever else stands there is refused."""
    if is_missing(value):
        return ""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise InputError(f"{name}, row {row}: the text is not UTF-8: write it as strings") from None
    if isinstance(value, (dict, list)):
        kind = "an object" if isinstance(value, dict) else "an array"
        raise InputError(f"{name}, row {row}: the text is {kind}: choose a column of strings")
    return without_surrogates(str(value))


def ids_of_column(
    name: str, values: Sequence[object], rows: Sequence[int], demanded: bool, warnings: list[str]
) -> list[str] | None:
    """The ids in the column; None, with a warning, where they cannot be ids and nobody demanded them."""
    ids = [as_id(value) for value in values]
    problem = id_problem(ids, rows, "row")
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
