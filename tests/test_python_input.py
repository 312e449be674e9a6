"""What a Python caller may pass as texts, and which ids the caller gets back."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from cluster_r1.errors import InputError
from cluster_r1.python_input import texts_from_python
from cluster_r1.types import Text

FRAME = pd.DataFrame({"id": [7, 8], "Body": ["x", None], "title": ["t", "u"]}, index=["p", "q"])


@pytest.mark.parametrize(
    ("data", "options", "texts", "ids"),
    [
        (["x", None, float("nan")], {}, ["x", "", ""], [0, 1, 2]),
        (iter("xy"), {}, ["x", "y"], [0, 1]),
        (("a\ud800",), {}, ["a\ufffd"], [0]),
        (np.array(["x", "y"]), {}, ["x", "y"], [0, 1]),
        ([{"id": 7, "text": "x"}, {"id": 8}], {}, ["x", ""], [7, 8]),
        ([{"Review": "x", "n": 1}, {"Review": "y"}], {}, ["x", "y"], [0, 1]),
        ([{"t": "x", "k": 1}], {"text_column": "t", "id_column": "k"}, ["x"], [1]),
        ([Text(id="b", text="x"), Text(id="a", text="y")], {}, ["x", "y"], ["b", "a"]),
        ({3: "x", (1, 2): None}, {}, ["x", ""], [3, (1, 2)]),
        (pd.Series(["x", pd.NA], index=[5, 6]), {}, ["x", ""], [5, 6]),
        (pd.Series(["x", "y"], index=[5, 5]), {}, ["x", "y"], [0, 1]),
        (pd.Series(["x", "y"], index=[5, None]), {}, ["x", "y"], [0, 1]),
        (pd.Series(["x", "y"]).astype("category"), {}, ["x", "y"], [0, 1]),
        (FRAME, {}, ["x", ""], [7, 8]),
        (FRAME.drop(columns="id"), {}, ["x", ""], ["p", "q"]),
        (FRAME.drop(columns="id").set_axis([1, 1]), {}, ["x", ""], [0, 1]),
    ],
)
def test_every_kind_gives_texts_and_the_ids_of_the_caller(
    data: object, options: dict[str, str], texts: list[str], ids: list[Any]
) -> None:
    found, own_ids = texts_from_python(data, **options)
    assert [text.text for text in found] == texts
    assert own_ids == ids
    assert [text.id for text in found] == [str(own_id) for own_id in ids]


@pytest.mark.parametrize(
    ("data", "options", "reason"),
    [
        (FRAME, {"text_column": "title", "id_column": "Body"}, r"position 1 has no id"),
        (FRAME, {"text_column": "body"}, r"did you mean 'Body'"),
        (FRAME.drop(columns="Body"), {}, r"which column holds the texts.*'id', 'title'"),
        (FRAME, {"text_column": "id"}, r"position 0: int where a string is needed"),
        (pd.DataFrame(), {}, r"without columns"),
        (pd.DataFrame({"id": [1, 1], "text": ["x", "y"]}), {}, r"'1' stands in positions 0 and 1"),
        ("one text", {}, r"one str was passed where a list of texts is needed"),
        (b"one text", {}, r"one bytes was passed"),
        (["x", 3], {}, r"position 1: int where a string is needed"),
        (["x", {"text": "y"}], {}, r"position 1: dict where a string is needed"),
        ([{"text": "x"}, None], {}, r"position 1: NoneType where a dict is needed"),
        ([Text(id="a", text="x"), "y"], {}, r"position 1: str where a Text is needed"),
        ([Text(id="a", text="x"), Text(id="a", text="y")], {}, r"'a' stands in positions 0 and 1"),
        ([{"id": "a", "text": "x"}, {"text": "y"}], {}, r"position 1 has no id"),
        ({1: "x", "1": "y"}, {}, r"'1' stands in positions 0 and 1"),
        (["x"], {"text_column": "text"}, r"no columns.*'text'.*pass dicts"),
        (np.array([["x"]]), {}, r"2 dimensions"),
        ({"x", "y"}, {}, r"a set has no order"),
        (None, {}, r"NoneType was passed where a list"),
        ([], {}, r"give at least one"),
        ([{}], {}, r"dicts without keys"),
    ],
)
def test_what_cannot_be_texts_is_refused_in_one_line(
    data: object, options: dict[str, str], reason: str
) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        texts_from_python(data, **options)
    assert "\n" not in str(caught.value)


def test_rows_without_a_text_are_named(caplog: pytest.LogCaptureFixture) -> None:
    texts_from_python([{"text": "x"}, {"n": 1}, {"text": None}])
    assert "position 1: no key 'text' (1 in all)" in caplog.text


def test_a_whole_float_makes_a_natural_id_and_stays_itself_for_the_caller() -> None:
    found, own_ids = texts_from_python(pd.DataFrame({"id": [7.0, 8.0], "text": ["x", "y"]}))
    assert [text.id for text in found] == ["7", "8"]
    assert own_ids == [7.0, 8.0]
