"""Long texts are shortened in sight of the reader; too many are refused with a number that does fit."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cluster_r1.agents.clustering.fitting import MARK, fit_texts, shorten
from cluster_r1.agents.clustering.proposer import Proposer, ProposerInput
from cluster_r1.agents.models.static_embedder import count_tokens
from cluster_r1.errors import InputError

QUICK = settings(max_examples=60, deadline=None)

BY = "by what the customer complains about"
LONG = "The parcel came a week late and nobody answered the phone. " * 400


def tokens_needed(shown: tuple[str, ...], instruction: str) -> int:
    """Tokens of the proposer's prompt, counted line by line, and of an answer that places every text."""
    messages = Proposer().render(ProposerInput(instruction=instruction, texts=shown))
    lines = [line for message in messages for line in message.content.splitlines()]
    return sum(count_tokens(lines)) + 25 * len(shown)


def room_of(context: int) -> int:
    """What prompt and answer may take of a context, so that the model has room to think."""
    return context - min(8_192, context // 4)


def refusal(contents: list[str], context: int, instruction: str = BY) -> str | None:
    """Why the texts are refused, if they are."""
    try:
        fit_texts(contents, instruction, context)
    except InputError as error:
        return str(error)
    return None


UNITS = ["late parcel ", "x", "配達が遅い。", "😀", "a1-", "Überweisung, ", "שלום ", '{"k": 1}\n']
texts = st.lists(
    st.builds(lambda unit, n: unit * n, st.sampled_from(UNITS), st.integers(0, 400) | st.integers(0, 9_000)),
    min_size=1,
    max_size=25,
)


@QUICK
@given(texts, st.sampled_from([4_096, 8_192, 16_384, 32_768]))
def test_what_is_shown_fits_the_context_and_nothing_is_dropped(contents: list[str], context: int) -> None:
    assume(refusal(contents, context) is None)
    fitted = fit_texts(contents, BY, context)
    assert len(fitted.shown) == len(contents)
    assert tokens_needed(fitted.shown, BY) <= room_of(context)
    changed = [(shown, text) for shown, text in zip(fitted.shown, contents, strict=True) if shown != text]
    assert len(changed) == fitted.shortened
    for shown, text in changed:
        head, mark, tail = shown.partition(MARK)
        assert mark
        assert text.startswith(head)
        assert text.endswith(tail)
        assert head
        assert tail


def test_short_texts_stay_byte_identical_beside_long_ones() -> None:
    short = ("  two\nlines\t", "", "é" * 5, "[… shortened …]", "\x00")
    fitted = fit_texts([*short, LONG, LONG], BY, 8_192)
    assert fitted.shown[:5] == short
    assert fitted.shortened == 2
    assert all(MARK in shown for shown in fitted.shown[5:])


@pytest.mark.parametrize("context", [None, 1_000_000])
def test_with_room_enough_everything_stays(context: int | None) -> None:
    fitted = fit_texts((LONG, "", "x"), BY, context)
    assert (fitted.shown, fitted.shortened) == ((LONG, "", "x"), 0)


def test_no_texts_fit_anywhere() -> None:
    assert fit_texts((), BY, 100_000).shown == ()


def test_equally_long_texts_are_shortened_alike() -> None:
    shown = fit_texts([LONG] * 10, BY, 8_192).shown
    assert len(set(shown)) == 1
    assert len(shown[0]) < len(LONG) / 5


def test_a_shortened_text_keeps_more_of_its_beginning_than_of_its_end() -> None:
    text = "".join(f"{n:05d} " for n in range(2_000))
    (tokens,) = count_tokens([text])
    head, _, tail = shorten(text, tokens, tokens // 5).partition(MARK)
    assert len(head) > len(tail) > 100
    assert head.startswith("00000 00001")
    assert tail.endswith("01998 01999 ")


@QUICK
@given(st.lists(st.integers(0, 300), min_size=40, max_size=400), st.sampled_from([4_096, 8_192]))
def test_too_many_texts_are_refused_with_the_largest_number_that_fits(
    lengths: list[int], context: int
) -> None:
    contents = ["word " * length for length in lengths]
    refused = refusal(contents, context)
    if refused is None:
        assert tokens_needed(fit_texts(contents, BY, context).shown, BY) <= room_of(context)
        return
    for said in (f"{len(contents)} texts", str(context), "--model embedding"):
        assert said in refused
    assert "\n" not in refused
    limit = int(re.findall(r"--limit (\d+)", refused)[0])
    assert 0 < limit < len(contents)
    assert refusal(contents[:limit], context) is None
    assert refusal(contents[: limit + 1], context) is not None


def test_a_long_instruction_leaves_less_room_for_texts() -> None:
    instruction = "by the reason that the customer names in the end, " * 40
    fitted = fit_texts([LONG] * 8, instruction, 8_192)
    assert tokens_needed(fitted.shown, instruction) <= room_of(8_192)
    assert len(fitted.shown[0]) < len(fit_texts([LONG] * 8, BY, 8_192).shown[0])
    many = [f"a short text, number {n}" for n in range(60)]
    assert refusal(many, 8_192) is None
    assert refusal(many, 8_192, instruction * 10) is not None


@pytest.mark.parametrize(("instruction", "context"), [(BY, 1_024), ("by reason " * 3_000, 8_192)])
def test_where_not_one_text_fits_no_limit_is_recommended(instruction: str, context: int) -> None:
    with pytest.raises(InputError) as caught:
        fit_texts([LONG], instruction, context)
    assert "--limit 0" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["退" * 300 + " word" * 1_200, "word " * 1_200 + "退款要求" * 400],
    ids=["dense where it is kept", "dense after what is counted"],
)
def test_texts_of_uneven_density_fit_the_context_too(text: str) -> None:
    fitted = fit_texts([text] * 40, BY, 16_384)
    assert tokens_needed(fitted.shown, BY) <= 16_384
