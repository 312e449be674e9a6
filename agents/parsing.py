"""Reads what a model wrote: the reasoning, and the JSON answer in whatever state it arrived."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import json_repair
import orjson

from cluster_r1.errors import ModelError


class AnswerError(ModelError):
    """An answer that cannot be used. The message is told to the model when it is asked again."""


_THINK_TAG = re.compile(r"(</?)think(?:ing)?>")
_FENCE = re.compile(r"```[\w-]*[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL)
_OBJECT_START = re.compile(r"\{\s*[\"'“]")
_ENTRY_ENDS = re.compile(r",(?=\s*(?:[\"'“{\[]|\Z))")
_BRACE = re.compile(r"\{")
_MOST_STARTS = 64  # how many opening braces are tried before an answer counts as malformed
_DEEPEST = 20  # nesting beyond this is garbage, and would exhaust the parser's stack


def split_reasoning(content: str) -> tuple[str, str]:
    """`(reasoning, answer)` of a message that may hold `<think>` blocks.

    A block that never closes is all reasoning (the answer was cut off); text before a lone `</think>`
    is reasoning too (chat templates that open the block in the prompt).
    """
    *pieces, last = _THINK_TAG.split(content)
    reasoning: list[str] = []
    answer: list[str] = []
    thinking = False
    for text, tag in zip(pieces[::2], pieces[1::2], strict=True):
        if tag == "</" and not thinking:
            reasoning += [*answer, text]
            answer = []
        else:
            (reasoning if thinking else answer).append(text)
        thinking = tag == "<"
    (reasoning if thinking else answer).append(last)
    return "\n".join(filter(None, map(str.strip, reasoning))), "".join(answer).strip()


def read_object(answer: str, wanted_key: str) -> dict[str, Any]:
    """The JSON object in an answer: bare, fenced, amid prose, or cut off (complete parts are kept).

    Of several objects the last one with `wanted_key` is taken: models correct themselves.

    Raises:
        AnswerError: there is no such object.
    """
    if not answer.strip():
        raise AnswerError("the answer is empty")
    for found in _objects(answer):
        if wanted_key in found:
            return found
    raise AnswerError(f'no JSON object with the key "{wanted_key}" was found in the answer')


def _objects(answer: str) -> Iterator[dict[str, Any]]:
    """The objects in an answer, the likeliest first."""
    try:
        found = orjson.loads(answer)  # as it should be; rewards read many, so the fastest parser tries first
    except orjson.JSONDecodeError:
        found = None
    if isinstance(found, dict):
        yield found
        return
    yield from _whole_objects(answer)
    yield from _mended_objects(answer)


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
    starts = [match.start() for match in (_OBJECT_START.search(answer), _BRACE.search(answer)) if match]
    for candidate in [*reversed(_FENCE.findall(answer)), *(answer[start:] for start in starts)]:
        value = _mend(_complete_part(candidate))
        objects = value if isinstance(value, list) else [value]
        yield from (found for found in reversed(objects) if isinstance(found, dict))


def _complete_part(candidate: str) -> str:
    """JSON up to where its last complete entry ends: of an entry that was cut off nothing is believed."""
    ends = [match.start() for match in _ENTRY_ENDS.finditer(candidate)]
    return candidate[: max([candidate.rfind("}") + 1, *ends])]


def _mend(candidate: str) -> Any:
    """The value in text that is not quite JSON; None where nothing can be made of it."""
    if _nesting(candidate) > _DEEPEST:
        return None
    try:
        return json_repair.loads(candidate, skip_json_loads=True)
    except Exception:  # noqa: BLE001 - fed with garbage, a lenient parser may fail in any way
        return None


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
    if not isinstance(value, str) or value.lstrip().startswith("-"):
        return None
    match = re.fullmatch(r"\D*(\d{1,9})\D*", value)
    return int(match[1]) if match else None


_WORDS = {"very high": 0.95, "high": 0.9, "medium": 0.6, "moderate": 0.6, "low": 0.3, "very low": 0.1}


def as_confidence(value: Any) -> float | None:
    """A confidence in [0, 1] from `0.9`, `90`, `"90%"` or `"high"`; None from anything else."""
    if isinstance(value, str):
        return _confidence_in(value.strip().casefold())
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 100:
        return None
    return float(value) / 100 if value > 1 else float(value)


def _confidence_in(word: str) -> float | None:
    if word in _WORDS:
        return _WORDS[word]
    try:
        number = float(word.rstrip("% "))
    except ValueError:
        return None
    if word.endswith("%"):
        return number / 100 if 0 <= number <= 100 else None
    return as_confidence(number)
