"""Reads what a model wrote: the reasoning, and the JSON answer in whatever state it arrived."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import chain
from typing import Any

import json_repair

from cluster_r1.errors import ModelError


class AnswerError(ModelError):
    """An answer that cannot be used. The message is told to the model when it is asked again."""


_THINK = re.compile(r"<think(?:ing)?>(.*?)</think(?:ing)?>", re.DOTALL)
_FENCE = re.compile(r"```[\w-]*[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL)
_MOST_STARTS = 64  # how many opening braces are tried before an answer counts as malformed
_DEEPEST = 100  # nesting beyond this is garbage, and would exhaust the parser's stack


def split_reasoning(content: str) -> tuple[str, str]:
    """`(reasoning, answer)` of a message that may hold `<think>` blocks.

    A block that never closes is all reasoning (the answer was cut off); text before a lone `</think>`
    is reasoning too (chat templates that open the block in the prompt).
    """
    reasoning = [block.strip() for block in _THINK.findall(content)]
    answer = _THINK.sub("", content)
    before, closing, after = answer.rpartition("</think>")
    if closing:
        reasoning.append(before.replace("<think>", "").strip())
        answer = after
    answer, opening, rest = answer.partition("<think>")
    if opening:
        reasoning.append(rest.strip())
    return "\n".join(filter(None, reasoning)), answer.strip()


def read_object(answer: str, wanted_key: str) -> dict[str, Any]:
    """The JSON object in an answer: bare, fenced, amid prose, or cut off (complete parts are kept).

    Of several objects the last one with `wanted_key` is taken: models correct themselves.

    Raises:
        AnswerError: there is no such object.
    """
    if not answer.strip():
        raise AnswerError("the answer is empty")
    for found in chain(_whole_objects(answer), _mended_objects(answer)):
        if wanted_key in found:
            return found
    raise AnswerError(f'no JSON object with the key "{wanted_key}" was found in the answer')


def _whole_objects(answer: str) -> list[dict[str, Any]]:
    """The JSON objects that stand in the answer as they should, the last one first."""
    decoder = json.JSONDecoder()
    found: list[dict[str, Any]] = []
    position = answer.find("{")
    failures = 0
    while position >= 0 and failures < _MOST_STARTS:
        try:
            value, end = decoder.raw_decode(answer, position)
            found.append(value)
        except (ValueError, RecursionError):
            failures += 1
            end = position + 1
        position = answer.find("{", end)
    return found[::-1]


def _mended_objects(answer: str) -> Iterator[dict[str, Any]]:
    """What can be made of JSON that is cut off or written carelessly: in fences, then in the whole."""
    for candidate in [*reversed(_FENCE.findall(answer)), answer[max(answer.find("{"), 0) :]]:
        if _nesting(candidate) > _DEEPEST:
            continue
        try:
            value = json_repair.loads(candidate, skip_json_loads=True)
        except (ValueError, RecursionError):
            continue
        objects = value if isinstance(value, list) else [value]
        yield from (found for found in reversed(objects) if isinstance(found, dict))


def _nesting(text: str) -> int:
    depth = deepest = 0
    for character in text:
        if character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth = max(depth - 1, 0)
    return deepest


def as_list(value: Any) -> list[Any]:
    """A list, a lone value as a list of one, nothing as an empty list."""
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def as_string(value: Any) -> str:
    """A string on one line; numbers are written out, structures are no string."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    return " ".join(str(value).split()).encode("utf-8", "replace").decode()


def as_number(value: Any) -> int | None:
    """A text number however it was written: `7`, `7.0`, `"7"`, `"[7]"`, `"text 7"`."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    if isinstance(value, int):
        return value
    match = re.fullmatch(r"\D*(\d{1,9})\D*", value) if isinstance(value, str) else None
    return int(match[1]) if match else None


_WORDS = {"very high": 0.95, "high": 0.9, "medium": 0.6, "moderate": 0.6, "low": 0.3, "very low": 0.1}


def as_confidence(value: Any) -> float | None:
    """A confidence in [0, 1] from `0.9`, `90`, `"90%"` or `"high"`; None from anything else."""
    if isinstance(value, str):
        word = value.strip().casefold()
        if word in _WORDS:
            return _WORDS[word]
        try:
            value = float(word.rstrip("% ")) / (100 if "%" in word else 1)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    number = float(value) / 100 if 1 < value <= 100 else float(value)
    return number if 0 <= number <= 1 else None
