"""Answers in every state that models leave them in: what is kept of them, and when they are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster_r1.agents.parsing import (
    AnswerError,
    as_confidence,
    as_list,
    as_number,
    as_string,
    read_object,
    split_reasoning,
)

QUICK = settings(max_examples=150, deadline=None)

ANSWER: dict[str, Any] = {
    "criterion": 'what is {wrong}, "in short"',
    "clusters": [{"id": "C1", "name": "Zahlung – 支払い"}, {"id": "C2", "name": "it's \\ late"}],
    "assignments": [
        {"text": 1, "reason": "charged [twice]", "cluster": "C1", "confidence": 0.9},
        {"text": 2, "reason": "", "cluster": "C2", "confidence": 1},
        {"text": 13, "reason": "says }, not {", "cluster": "C1", "confidence": None},
    ],
}


def kept(answer: str) -> dict[str, Any] | None:
    """What is read of an answer; None where it is refused. Any other exception fails the test."""
    try:
        found = read_object(answer, "clusters")
    except AnswerError:
        return None
    assert "clusters" in found
    return found


@pytest.mark.parametrize(
    ("content", "reasoning", "answer"),
    [
        ('{"a": 1}', "", '{"a": 1}'),
        ("", "", ""),
        ("<think>hm</think>{}", "hm", "{}"),
        ("<think>\nhm\n\nso\n</think>\n\n{}\n", "hm\n\nso", "{}"),
        ("<think></think>{}", "", "{}"),
        ("<thinking>hm</thinking>{}", "hm", "{}"),
        ("<think>one</think>{} <think>two</think>", "one\ntwo", "{}"),
        ("<think>one</think>draft<think>two</think>{}", "one\ntwo", "draft{}"),
        ("hm, so</think>{}", "hm, so", "{}"),
        ("a</think>b</think>{}", "a\nb", "{}"),
        ("<think>a<think>b</think>c</think>{}", "a\nb\nc", "{}"),
        ('<think>I would say {"clusters": []}', 'I would say {"clusters": []}', ""),
        ("{}<think>was that right", "was that right", "{}"),
        ("<think>done</think>{}<think>was that right", "done\nwas that right", "{}"),
    ],
)
def test_reasoning_is_told_from_the_answer(content: str, reasoning: str, answer: str) -> None:
    assert split_reasoning(content) == (reasoning, answer)


@pytest.mark.parametrize(
    ("content", "reasoning", "answer"),
    [('<thinking>maybe {"a": 1}', 'maybe {"a": 1}', ""), ("hm</thinking>{}", "hm", "{}")],
)
def test_reasoning_in_thinking_tags_may_be_cut_off_too(content: str, reasoning: str, answer: str) -> None:
    assert split_reasoning(content) == (reasoning, answer)


@QUICK
@given(st.lists(st.sampled_from(["<think>", "</think>", "<thinking>", "{}", "so", "\n"]), max_size=12))
def test_no_text_is_lost_between_reasoning_and_answer(parts: list[str]) -> None:
    reasoning, answer = split_reasoning("".join(parts))
    assert (reasoning + answer).count("so") == parts.count("so")
    assert (reasoning + answer).count("{}") == parts.count("{}")


WRAPPERS: dict[str, Callable[[str], str]] = {
    "bare": lambda text: text,
    "white space": lambda text: f"\n\n  {text}\n ",
    "fenced": lambda text: f"```json\n{text}\n```",
    "fenced without language": lambda text: f"```\n{text}\n```",
    "fence not closed": lambda text: f"Here you are:\n```json\n{text}",
    "prose around": lambda text: f"Here is the grouping: {text} I hope that helps!",
    "prose with braces": lambda text: f"Of {{a, b}} and {{}} I take {{b: c}}.\n{text}\nThat is {{all}}.",
    "a draft before": lambda text: f'{{"clusters": "draft"}}\nNo, rather:\n{text}',
    "an example after": lambda text: f'{text}\nEach entry looks like {{"text": 1}}.',
    "in a list": lambda text: f"[{text}]",
}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
@pytest.mark.parametrize("indent", [None, 2])
def test_an_answer_is_found_whatever_stands_around_it(wrap: Callable[[str], str], indent: int | None) -> None:
    assert read_object(wrap(json.dumps(ANSWER, indent=indent)), "clusters") == ANSWER


@pytest.mark.parametrize(
    ("answer", "clusters"),
    [
        ('{"clusters": ["a",],}', ["a"]),
        ("{'clusters': ['a', \"it's\"]}", ["a", "it's"]),
        ('{clusters: ["a"]}', ["a"]),
        ('{"clusters": ["a"], // all of them\n "x": 1}', ["a"]),
        ('{"clusters": [None, True]}', [None, True]),
        ('{"clusters": ["a\nb"]}', ["a\nb"]),
        ("{“clusters”: [“a”]}", ["a"]),
        ('Of {these} I take ```json\n{"clusters": ["a", "b', ["a"]),
        ('{"clusters": ["a"]} {"clusters": ["b"]} {"score": 1}', ["b"]),
        ('```json\n{"clusters": ["a",]}\n```\nbetter:\n```json\n{"clusters": ["b",]}\n```', ["b"]),
    ],
)
def test_carelessly_written_json_is_mended(answer: str, clusters: list[Any]) -> None:
    assert read_object(answer, "clusters")["clusters"] == clusters


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "the answer is empty"),
        (" \n\t", "the answer is empty"),
        ("I cannot do that.", 'no JSON object with the key "clusters"'),
        ('{"groups": []}', 'no JSON object with the key "clusters"'),
        ('["clusters"]', 'no JSON object with the key "clusters"'),
        ('"clusters"', 'no JSON object with the key "clusters"'),
        ("null", 'no JSON object with the key "clusters"'),
    ],
)
def test_an_answer_without_the_object_is_refused_in_words(answer: str, reason: str) -> None:
    with pytest.raises(AnswerError, match=reason):
        read_object(answer, "clusters")


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize(
    "before",
    [
        "",
        "```json\n",
        "Of {a, b} and {c: d} I take this:\n\n```json\n",
        "I weighed {a, b} and {c: d} first.\n",
        "Either {a} or {b}: ",
    ],
)
def test_of_an_answer_cut_off_anywhere_all_complete_parts_are_kept(before: str, indent: int | None) -> None:
    whole = json.dumps(ANSWER, indent=indent, ensure_ascii=False)
    ends = {key: _ends(whole, key) for key in ("clusters", "assignments")}
    for cut in range(len(whole)):
        found = kept(before + whole[:cut])
        for key, positions in ends.items():
            complete = sum(end <= cut for end in positions)
            if complete:
                assert found is not None, whole[:cut]
                assert found[key][:complete] == ANSWER[key][:complete]


def _ends(whole: str, key: str) -> list[int]:
    """Where each entry of a list in the written answer ends."""
    ends: list[int] = []
    position = whole.index(f'"{key}"')
    for _ in ANSWER[key]:
        _, position = json.JSONDecoder().raw_decode(whole, whole.index("{", position))
        ends.append(position)
    return ends


@pytest.mark.parametrize(
    "answer",
    [
        "[" * 100_000,
        "{" * 100_000,
        '{"clusters": ' * 20_000,
        '{"clusters": ' + "[" * 100_000,
        '{"clusters": ' + "[" * 50_000 + "]" * 50_000 + "}",
        "```json\n" + '{"clusters": [' * 20_000,
        "```\n" * 20_000,
        "{ } " * 50_000,
        "{" * 90 + "x" * 3_000,
        '{"clusters": "' + "\\" * 50_001,
        '{"clusters": "' + '"' * 20_000,
        '{"clusters": [' + "," * 50_000,
        '{"clusters": ' + "9" * 50_000 + "}",
        '{"clusters": ' + "-" * 50_000,
        '{"clusters": [' + '{"a": 1} ' * 5_000,
        "\x00" * 100_000 + "{",
        "💥" * 50_000,
    ],
    ids=lambda answer: repr(answer[:16]) + f"x{len(answer)}",
)
def test_garbage_of_any_size_and_depth_ends_in_an_answer_or_a_refusal(answer: str) -> None:
    found = kept(answer)
    assert found is None or isinstance(found, dict)


def test_a_large_answer_is_read_whole() -> None:
    answer = {"clusters": [{"id": f"C{n}", "name": "x" * 200} for n in range(5_000)]}
    assert read_object(f"So:\n{json.dumps(answer)}", "clusters") == answer


def test_reasoning_of_a_megabyte_is_split_off() -> None:
    reasoning = "Let me see: {a} [b] <c> " * 50_000
    assert split_reasoning(f"<think>{reasoning}</think>{{}}") == (reasoning.strip(), "{}")


def test_a_key_that_opens_a_fence_is_no_crash() -> None:
    assert kept('{"```json[\n```json\na') is None


FRAGMENTS = [
    "{",
    "}",
    "[",
    "]",
    '"',
    "'",
    ":",
    ",",
    "\\",
    "`",
    "```json\n",
    "\n",
    " ",
    "clusters",
    '"clusters":',
]
FRAGMENTS += [
    "null",
    "1e999",
    "-",
    "0.",
    "//",
    "/*",
    "<think>",
    "</think>",
    "“",
    "\ud83d",
    "\x00",
    "{}",
    "NaN",
]
answers = st.text() | st.lists(st.sampled_from(FRAGMENTS), max_size=40).map("".join)
answers = answers.filter(lambda answer: '"```json' not in answer)  # the crash above


@settings(max_examples=500, deadline=None)
@given(answers)
def test_any_string_gives_an_object_or_a_refusal(answer: str) -> None:
    _, rest = split_reasoning(answer)
    for text in (answer, rest):
        found = kept(text)
        assert found is None or isinstance(found, dict)


def json_values() -> st.SearchStrategy[Any]:
    """Anything that JSON has a form for."""
    leaves = (
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text()
    )
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
        max_leaves=12,
    )


@QUICK
@given(
    st.dictionaries(st.text(), json_values(), max_size=4),
    json_values(),
    st.sampled_from(sorted(WRAPPERS)),
    st.booleans(),
    st.sampled_from([None, 1]),
)
def test_well_formed_json_is_read_exactly(
    others: dict[str, Any], value: Any, wrapper: str, ascii_only: bool, indent: int | None
) -> None:
    answer = {**others, "clusters": value}
    written = WRAPPERS[wrapper](json.dumps(answer, ensure_ascii=ascii_only, indent=indent))
    assert read_object(written, "clusters") == answer


@pytest.mark.parametrize(
    ("value", "number"),
    [
        *[(7, 7), (7.0, 7), ("7", 7), ("[7]", 7), ("text 7", 7), (" 7.", 7), ("#0012", 12), (0, 0), (-3, -3)],
        *[(7.5, None), ("7 or 8", None), ("seven", None), ("", None), ("1" * 10, None), (True, None)],
        *[(None, None), ([7], None), ({"text": 7}, None), (float("nan"), None), (float("inf"), None)],
    ],
)
def test_a_text_number_is_understood_however_it_is_written(value: Any, number: int | None) -> None:
    assert as_number(value) == number


@pytest.mark.parametrize(
    ("value", "confidence"),
    [
        *[(0.9, 0.9), (0, 0.0), (1, 1.0), (1.0, 1.0), (90, 0.9), (100, 1.0), ("0.9", 0.9), ("90", 0.9)],
        *[("90%", 0.9), ("90 %", 0.9), (" 100% ", 1.0), ("0.5%", 0.005), ("1%", 0.01)],
        *[("high", 0.9), (" Very High ", 0.95), ("LOW", 0.3), ("medium", 0.6)],
        *[(-0.1, None), (101, None), ("-5", None), ("sure", None), ("", None), ("%", None), ("nan", None)],
        *[
            (True, None),
            (None, None),
            ([0.9], None),
            (float("nan"), None),
            (float("inf"), None),
            ("1e999", None),
        ],
    ],
)
def test_a_confidence_is_understood_however_it_is_written(value: Any, confidence: float | None) -> None:
    assert as_confidence(value) == (None if confidence is None else pytest.approx(confidence))


def test_an_absurdly_large_confidence_is_none() -> None:
    assert as_confidence(10**400) is None


@pytest.mark.parametrize("value", ["150%", "10000%"])
def test_a_percentage_beyond_100_is_no_confidence(value: str) -> None:
    assert as_confidence(value) is None


@pytest.mark.parametrize(
    ("value", "string"),
    [
        *[("a", "a"), (" a \n\t b\u2028c ", "a b c"), ("", ""), (7, "7"), (0.5, "0.5")],
        *[("a\ud83d", "a?"), ("😀", "😀"), (True, ""), (None, ""), ([1], ""), ({"a": 1}, "")],
    ],
)
def test_a_string_is_brought_on_one_line_that_can_be_encoded(value: Any, string: str) -> None:
    assert as_string(value) == string


@pytest.mark.parametrize(
    ("value", "items"),
    [
        *[([1, 2], [1, 2]), ((1, 2), [1, 2]), ([], []), (None, []), ("", []), ("C1", ["C1"]), (3, [3])],
        *[(0, [0]), (False, [False]), ({"a": 1}, [{"a": 1}])],
    ],
)
def test_a_lone_value_counts_as_a_list_of_one(value: Any, items: list[Any]) -> None:
    assert as_list(value) == items


@QUICK
@given(json_values() | st.floats())
def test_coercions_take_any_value(value: Any) -> None:
    assert isinstance(as_list(value), list)
    assert as_string(value) == " ".join(as_string(value).encode().decode().split())
    number = as_number(value)
    assert number is None or isinstance(number, int)
    confidence = as_confidence(value)
    assert confidence is None or 0 <= confidence <= 1
