"""Turns what a Python caller passes into texts, and keeps the caller's own ids beside them."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

from cluster_r1.columns import as_id, choose_columns, id_problem, is_missing, shown, without_surrogates
from cluster_r1.errors import InputError
from cluster_r1.types import Text

_log = logging.getLogger(__name__)

_WHERE = "the texts passed"


def texts_from_python(
    data: object, *, text_column: str | None = None, id_column: str | None = None
) -> tuple[list[Text], list[object]]:
    """The texts in input order, and for each the id as the caller knows it (`Text.id` is its string).

    Takes an iterable of strings, of mappings (rows with columns) or of Text, a mapping of id to text, a
    1-D NumPy array, a pandas Series or DataFrame. The ids are those of the id column, of Text, the keys of
    a mapping or the index of pandas; failing these, or where the index repeats, the positions from 0 on.
    A missing text (None, NaN) is read as an empty one.

    Raises:
        InputError: none of these, no text at all, an item that is no string, an empty or repeated id, or
            a column that is not there.
    """
    if _is_a(data, "pandas", "DataFrame"):
        return _texts(*_of_frame(data, text_column, id_column))
    items = _items(data)
    kind = next((type(item) for item in items if not is_missing(item)), str)
    if not isinstance(data, Mapping) and issubclass(kind, Mapping):
        return _texts(*_of_mappings(_all_of(items, Mapping, "a dict"), text_column, id_column))
    if text_column is not None or id_column is not None:
        asked = shown(text_column if text_column is not None else id_column)
        raise InputError(f"{_WHERE} have no columns, so none is named {asked}: pass dicts or a DataFrame")
    if isinstance(data, Mapping):
        return _texts(items, list(data))
    if _is_a(data, "pandas", "Series"):
        return _texts(items, _index_ids(data))
    if issubclass(kind, Text):
        given = _all_of(items, Text, "a Text")
        return _texts([item.text for item in given], [item.id for item in given])
    return _texts(items, list(range(len(items))))


def _is_a(data: object, module: str, name: str) -> bool:
    """Whether it is of that class, without importing its library: one who has such an object has it."""
    class_ = getattr(sys.modules.get(module), name, None)
    return isinstance(class_, type) and isinstance(data, class_)


def _items(data: Any) -> list[Any]:
    """The items in order, whatever they are; of a mapping its values.

    Raises:
        InputError: it is nothing that has items in an order.
    """
    remedy = "pass a list of strings, dicts or Text, a dict of id to text, a pandas Series or DataFrame"
    if isinstance(data, (str, bytes)):
        raise InputError(f"one {type(data).__name__} was passed where a list of texts is needed: {remedy}")
    if isinstance(data, Set):
        raise InputError(f"a {type(data).__name__} has no order, so its texts have no positions: {remedy}")
    if _is_a(data, "numpy", "ndarray") and data.ndim != 1:
        raise InputError(f"an array of {data.ndim} dimensions was passed where 1 is needed: {remedy}")
    if isinstance(data, Mapping):
        return list(data.values())
    if not isinstance(data, Iterable):
        raise InputError(f"{type(data).__name__} was passed where a list of texts is needed: {remedy}")
    return list(data)


def _all_of(items: list[Any], kind: type, wanted: str) -> list[Any]:
    for position, item in enumerate(items):
        if not isinstance(item, kind):
            raise InputError(
                f"{_WHERE}, position {position}: {type(item).__name__} where {wanted} is needed, as before: "
                "pass items of one kind"
            )
    return items


def _of_mappings(
    items: list[Mapping[object, object]], text_column: str | None, id_column: str | None
) -> tuple[list[Any], list[object]]:
    keys = list(dict.fromkeys(key for item in items for key in item))
    if not keys:
        raise InputError(f"{_WHERE} are dicts without keys: give each a text, such as {{'text': ...}}")
    text_at, id_at = _choose(keys, text_column, id_column)
    without = [position for position, item in enumerate(items) if keys[text_at] not in item]
    if without:
        key, some = shown(keys[text_at]), f"{len(without)} in all"
        _log.warning("%s, position %d: no key %s (%s): read as empty", _WHERE, without[0], key, some)
    values = [item.get(keys[text_at]) for item in items]
    return values, list(range(len(items))) if id_at is None else [item.get(keys[id_at]) for item in items]


def _of_frame(frame: Any, text_column: str | None, id_column: str | None) -> tuple[list[Any], list[object]]:
    if not len(frame.columns):
        raise InputError(f"{_WHERE} are a DataFrame without columns: give it a column of texts")
    text_at, id_at = _choose(list(frame.columns), text_column, id_column)
    ids = _index_ids(frame) if id_at is None else frame.iloc[:, id_at].tolist()
    return frame.iloc[:, text_at].tolist(), ids


def _choose(
    labels: Sequence[object], text_column: str | None, id_column: str | None
) -> tuple[int, int | None]:
    return choose_columns([str(label) for label in labels], text_column, id_column, _WHERE)


def _index_ids(data: Any) -> list[object]:
    """The index of a Series or DataFrame, or positions where it cannot tell the rows apart."""
    index: list[object] = data.index.tolist()
    usable = id_problem([as_id(label) for label in index], index, "label") is None
    return index if usable else list(range(len(index)))


def _texts(values: list[Any], own_ids: list[object]) -> tuple[list[Text], list[object]]:
    if not values:
        raise InputError(f"{_WHERE} are none: give at least one")
    ids = [as_id(own_id) for own_id in own_ids]
    problem = id_problem(ids, range(len(ids)), "position")
    if problem is not None:
        raise InputError(f"{_WHERE}: {problem}: give every text an id of its own")
    texts = [Text(id=ids[at], text=_string(value, at)) for at, value in enumerate(values)]
    return texts, own_ids


def _string(value: object, position: int) -> str:
    if is_missing(value):
        return ""
    if not isinstance(value, str):
        kind = type(value).__name__
        raise InputError(f"{_WHERE}, position {position}: {kind} where a string is needed: convert it first")
    return without_surrogates(str(value))
