"""The reward: it takes any string, pays for no answer that ignores the texts, and reads as a run does."""

from __future__ import annotations

import json
import random
import statistics
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from cluster_r1.agents.clustering.proposer import Proposer, ProposerInput, read_places
from cluster_r1.agents.parsing import AnswerError
from cluster_r1.graphs.clustering.checking import check_proposal
from cluster_r1.metrics import adjusted_mutual_info, adjusted_rand, agreement
from cluster_r1.training.rewards import (
    RewardSettings,
    judge,
    read_partition,
    reward,
)

QUICK = settings(max_examples=150, deadline=None)

REFERENCE = ("late", "late", "price", "price", "late", "price", "tone", "tone")
ANSWER: dict[str, Any] = {
    "criterion": "root cause",
    "clusters": [{"id": f"C{n}", "name": f"value {n}", "description": "d"} for n in (1, 2, 3)],
    "assignments": [
        {"text": number, "reason": 'says "so" {here}', "cluster": cluster, "confidence": 0.9}
        for number, cluster in enumerate(["C1", "C1", "C2", "C2", "C1", "C2", "C3", "C3"], 1)
    ],
}
WHOLE = f"<think>\nText 1 and 2 {{are}} late.\n</think>\n\n{json.dumps(ANSWER)}"


def answer_with(assignments: object, clusters: object = ()) -> str:
    """An answer with these parts."""
    return json.dumps({"criterion": "c", "clusters": clusters, "assignments": assignments})


def completion(labels: Sequence[object]) -> str:
    """The answer that puts each text into the cluster of its label."""
    return answer_with(
        [{"text": number, "cluster": f"C{label}"} for number, label in enumerate(labels, 1)],
        [{"id": f"C{label}", "name": str(label)} for label in dict.fromkeys(labels)],
    )


with pytest.warns(UserWarning, match="all-singleton answers score high"):
    V_MEASURE = RewardSettings(measure="v_measure")


# Any string


@st.composite
def damaged(draw: st.DrawFn) -> str:
    """The answer with pieces taken out, doubled, or put in."""
    text = WHOLE
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 60)))
        piece = draw(st.sampled_from(["", text[start:end] * 2, *FRAGMENTS]))
        text = text[:start] + piece + text[end:]
    return text


FRAGMENTS = ["{", "}", "[", "]", '"', "\\", ",", ":", "```json\n", "<think>", "</think>", "\x00", "\ud83d"]
FRAGMENTS += [
    "null",
    "NaN",
    "1e999",
    "-1",
    "9" * 400,
    "9" * 5_000,
    "true",
    "[[[[",
    "none",
    '"clusters": ',
    "٣",
]
anything = st.text(st.characters(exclude_categories=())) | st.lists(st.sampled_from(FRAGMENTS)).map("".join)


@settings(max_examples=400, deadline=None)
@given(anything | damaged())
@example("")
@example("{" * 50_000)
@example('{"clusters": ' * 5_000)
@example('{"clusters": [' + "[" * 900 + "]" * 900 + "]}")
@example(answer_with([{"text": 1, "cluster": "C1"}]).replace("1", "9" * 5_000, 1))
@example('{"clusters": [], "assignments": [{"text": ' + "9" * 5_000 + ', "cluster": ' + "9" * 5_000 + "},]}")
@example(answer_with([{"text": 1e308, "cluster": 1e308}, {"text": 10**400, "cluster": 10**400}]))
@example(answer_with([{"text": number, "cluster": "\ud83d"} for number in range(1, 9)]))
def test_any_string_gets_a_reward_between_0_and_1(text: str) -> None:
    found = judge(text, REFERENCE)
    assert found.reward == reward(text, REFERENCE)
    assert 0 <= found.reward <= 1
    assert 0 <= found.coverage <= 1
    if found.agreement is None:
        assert found.reward <= 0.1 * found.coverage + 1e-12
    else:
        assert found.exact
        assert found.reward == pytest.approx(0.2 + 0.8 * max(0.0, found.agreement.ami))


def test_an_answer_cut_off_is_worth_what_it_covers_and_no_more() -> None:
    all_placed = WHOLE.rindex(', "confidence"') + 1
    worth = [reward(WHOLE[:cut], REFERENCE) for cut in range(all_placed)]
    assert all(value <= 0.1 for value in worth)
    assert worth == sorted(worth)
    assert worth[-1] > 0.05
    assert reward(WHOLE[:all_placed], REFERENCE) == reward(WHOLE, REFERENCE) == 1.0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I would rather not.",
        "[]",
        '{"groups": []}',
        '{"clusters": []}',
        '{"clusters": [{"id": "C1", "name": "late"}], "assignments": []}',
        f"<think>{json.dumps(ANSWER)}",
        f"<think>{json.dumps(ANSWER)}</think>",
    ],
)
def test_what_says_nothing_of_the_texts_gets_nothing(text: str) -> None:
    assert reward(text, REFERENCE) == 0
    assert judge(text, REFERENCE).coverage == 0


# Broken covers


def places(*names: tuple[int, str]) -> str:
    """An answer with these placements."""
    return answer_with([{"text": number, "cluster": name} for number, name in names])


ALL = [(number, f"C{number % 3}") for number in range(1, 9)]


@pytest.mark.parametrize(
    ("answer", "coverage"),
    [
        (places(*ALL[1:]), 7 / 8),
        (places(*ALL[:2]), 2 / 8),
        (places(*ALL, (1, "C0")), 7 / 8),
        (places(*ALL, ALL[0]), 7 / 8),
        (places(*ALL, (9, "C0")), 1.0),
        (places(*ALL, (0, "C0")), 1.0),
        (places(*ALL, (-1, "C0")), 1.0),
        (places(*ALL[:7], (9, "C0")), 7 / 8),
        (places(*ALL[:7], (8, "none")), 7 / 8),
        (places(*ALL[:7], (8, "None")), 7 / 8),
        (places(*ALL[:7], (8, " NONE. ")), 7 / 8),
        (places(*((number, "none") for number in range(1, 9))), 0.0),
        (places(*((number + 100, "C0") for number in range(1, 9))), 0.0),
        (places(*((1, "C0") for _ in range(8))), 0.0),
    ],
)
def test_an_answer_that_is_no_exact_cover_gets_a_tenth_of_its_coverage(answer: str, coverage: float) -> None:
    found = judge(answer, REFERENCE)
    assert not found.exact
    assert found.coverage == pytest.approx(coverage)
    assert found.reward == pytest.approx(0.1 * coverage)


@QUICK
@given(st.lists(st.tuples(st.integers(-2, 12), st.sampled_from(["C1", "C2", "none", "None"])), max_size=14))
def test_a_cover_is_exact_only_if_each_text_stands_once(placed: list[tuple[int, str]]) -> None:
    found = judge(places(*placed), REFERENCE)
    exact = sorted(number for number, _ in placed) == list(range(1, 9)) and {name for _, name in placed} <= {
        "C1",
        "C2",
    }
    assert found.exact == exact
    assert (found.reward >= 0.2) == exact


@pytest.mark.parametrize("name", ["none", "None", "NONE", " none ", "(none)", "none."])
def test_what_a_run_leaves_unassigned_is_no_cluster_to_the_reward(name: str) -> None:
    answer = places((1, name), (2, "C1"), (3, "C2"))
    ids = ("a", "b", "c")
    proposal = Proposer().parse(answer, ProposerInput(instruction="i", texts=ids))
    assert check_proposal(proposal, ids, dict.fromkeys(ids, "text")).clustering.unassigned
    assert not judge(answer, ("late", "price", "tone")).exact


# What exact covers get

labellings = st.integers(2, 30).flatmap(
    lambda n: st.tuples(*[st.lists(st.integers(0, 6), min_size=n, max_size=n)] * 2)
)


@QUICK
@given(labellings)
def test_an_exact_cover_gets_the_formula(labels: tuple[list[int], list[int]]) -> None:
    reference, predicted = labels
    ami = max(0.0, adjusted_mutual_info(reference, predicted))
    assert reward(completion(predicted), reference) == pytest.approx(0.2 + 0.8 * ami)
    ari = max(0.0, adjusted_rand(reference, predicted))
    by_ari = reward(completion(predicted), reference, RewardSettings(measure="ari"))
    assert by_ari == pytest.approx(0.2 + 0.8 * ari)


@QUICK
@given(labellings)
def test_judge_tells_the_measures_behind_the_reward(labels: tuple[list[int], list[int]]) -> None:
    reference, predicted = labels
    answer = completion(predicted)
    found = judge(answer, reference)
    assert found.agreement == agreement(reference, [f"C{label}" for label in predicted])
    assert found.coverage == 1
    for chosen in (RewardSettings(), RewardSettings(measure="ari", k_weight=0.3), V_MEASURE):
        assert judge(answer, reference, chosen).reward == pytest.approx(reward(answer, reference, chosen))


def misplaced(reference: Sequence[int], share: float, rng: random.Random, *, alone: bool) -> list[int]:
    """The reference with a share of the texts each in a cluster of its own, or in one drawn at random."""
    chosen = set(rng.sample(range(len(reference)), round(share * len(reference))))
    names = sorted(set(reference))
    return [
        (-1 - at if alone else rng.choice(names)) if at in chosen else label
        for at, label in enumerate(reference)
    ]


def balanced(texts: int, clusters: int, rng: random.Random) -> list[int]:
    """A reference with clusters of about equal size, in random order."""
    return rng.sample([number % clusters for number in range(texts)], texts)


@settings(max_examples=60, deadline=None)
@given(st.integers(20, 60), st.integers(3, 6), st.randoms(use_true_random=False))
def test_no_answer_that_ignores_the_texts_beats_one_with_30_percent_misplaced(
    texts: int, clusters: int, rng: random.Random
) -> None:
    """Each trivial answer gets 0.2 and random ones hardly more; a partition that is 70 % right gets more."""
    reference = balanced(texts, clusters, rng)
    singletons, one = reward(completion(range(texts)), reference), reward(completion([0] * texts), reference)
    assert singletons == pytest.approx(0.2)
    assert one == pytest.approx(0.2)
    guesses = [[rng.randrange(clusters) for _ in range(texts)] for _ in range(20)]
    by_chance = statistics.fmean(reward(completion(guess), reference) for guess in guesses)
    for alone in (True, False):
        informed = reward(completion(misplaced(reference, 0.3, rng, alone=alone)), reference)
        assert informed > max(singletons, one, by_chance)


@pytest.mark.parametrize("measure", ["ami", "ari"])
@pytest.mark.parametrize("alone", [True, False], ids=["hidden", "guessed"])
def test_the_more_texts_are_misplaced_the_less_it_pays(measure: str, alone: bool) -> None:
    """Means over 60 references of 40 texts, in steps of a tenth."""
    rng = random.Random(0)
    chosen = RewardSettings.model_validate({"measure": measure})
    means = []
    for tenths in range(11):
        worth = []
        for _ in range(60):
            reference = balanced(40, 4, rng)
            answer = completion(misplaced(reference, tenths / 10, rng, alone=alone))
            worth.append(reward(answer, reference, chosen))
        means.append(statistics.fmean(worth))
    assert means[0] == 1
    assert means == sorted(means, reverse=True)
    assert means[-1] < 0.25


# What does not matter


@QUICK
@given(st.randoms(use_true_random=False), st.lists(st.integers(0, 4), min_size=8, max_size=8))
def test_order_and_names_do_not_matter(rng: random.Random, labels: list[int]) -> None:
    value = json.loads(completion(labels))
    names = dict(zip((f"C{n}" for n in range(5)), rng.sample(NAMES, 5), strict=True))
    for entry in value["assignments"]:
        entry["cluster"] = names[entry["cluster"]]
    for cluster in value["clusters"]:
        cluster["id"] = names[cluster["id"]]
    rng.shuffle(value["assignments"])
    rng.shuffle(value["clusters"])
    expected = reward(completion(labels), REFERENCE)
    assert reward(json.dumps(value), REFERENCE) == pytest.approx(expected)


NAMES = ["C7", "late delivery", "Zahlung", "支払い", "a_b", "x-1", "7", "C1", "{odd}", 'the "rest"']

FORMS: dict[str, Callable[[str], str]] = {
    "bare": lambda text: text,
    "white space": lambda text: f"\n  {text}\n\n",
    "indented": lambda text: json.dumps(json.loads(text), indent=2),
    "fenced": lambda text: f"```json\n{text}\n```",
    "after reasoning": lambda text: f"<think>\nIs 1 like {{2}}?\n</think>\n\n{text}",
    "after reasoning opened by the prompt": lambda text: f"Is 1 like 2?\n</think>\n{text}",
    "after a draft in the reasoning": lambda text: f'<think>{{"clusters": ["x"]}}</think>{text}',
    "after a draft": lambda text: f'{{"clusters": [], "assignments": []}}\nNo, rather:\n{text}',
    "amid prose": lambda text: f"Of {{these}} I make:\n{text}\nI hope that helps.",
    "trailing comma": lambda text: f"{text[:-2]},]}}",
    "numbers as words": lambda text: text.replace('"text": ', '"text": "text ').replace(
        ', "cluster"', '", "cluster"'
    ),
    "by text": lambda text: answer_with({e["text"]: e["cluster"] for e in json.loads(text)["assignments"]}),
    "members inside": lambda text: members_inside(json.loads(text)["assignments"]),
}


def members_inside(assignments: list[dict[str, Any]]) -> str:
    """The answer in the form that lists the texts of each cluster within it."""
    members: dict[str, list[int]] = {}
    for entry in assignments:
        members.setdefault(entry["cluster"], []).append(entry["text"])
    return json.dumps({"clusters": [{"id": id, "members": texts} for id, texts in members.items()]})


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@settings(max_examples=25, deadline=None)
@given(labels=st.lists(st.integers(0, 4), min_size=8, max_size=8))
def test_the_form_of_an_answer_does_not_matter(form: Callable[[str], str], labels: list[int]) -> None:
    plain = completion(labels)
    assert reward(form(plain), REFERENCE) == pytest.approx(reward(plain, REFERENCE))


# Read as a run reads it

GIVEN = ProposerInput(instruction="by root cause", texts=("a", "b", "c"))

numbers = st.integers(-1, 5) | st.sampled_from(
    ["1", "[2]", "text 3", "4.", 2.0, 2.5, "x", "", None, True, [1]]
)
names = st.sampled_from(
    ["C1", "C2", " C2 ", "late delivery", "none", "", 3, 0.5, None, True, ["C1"], "\ud83d"]
)
number_keys = st.sampled_from(["text", "number", "id", "index", "text_id", "other"])
name_keys = st.sampled_from(["cluster", "cluster_id", "label", "group", "other"])
entries = (
    st.builds(
        lambda number_key, number, name_key, name: {number_key: number, name_key: name, "reason": "r"},
        number_keys,
        numbers,
        name_keys,
        names,
    )
    | numbers
    | names
)
as_asked = st.builds(
    lambda number, name: {"text": number, "cluster": name}, st.integers(1, 4), st.sampled_from(["C1", "C2"])
)
assignments: st.SearchStrategy[Any] = (
    st.lists(as_asked, max_size=5)
    | st.lists(entries | as_asked, max_size=5)
    | st.dictionaries(st.sampled_from(["1", "2", "text 3", "x"]), entries, max_size=4)
    | st.sampled_from([None, "", "C1", 3, {}])
)
member_keys = st.sampled_from(["members", "texts", "assignments", "text_ids"])
clusters = st.lists(
    names
    | st.builds(
        lambda id, key, members: {"id": id, key: members}, names, member_keys, st.lists(entries, max_size=3)
    ),
    max_size=3,
) | st.dictionaries(st.sampled_from(["C1", "C2", "name"]), names | st.lists(numbers, max_size=3), max_size=3)


@settings(max_examples=500, deadline=None)
@given(assignments, clusters)
def test_the_reward_reads_what_the_proposer_reads(assignments: object, clusters: object) -> None:
    answer = answer_with(assignments, clusters)
    try:
        placements = Proposer().parse(answer, GIVEN).placements
    except AnswerError as error:
        with pytest.raises(AnswerError, match=str(error)):
            read_places(answer)
        return
    assert read_places(answer) == [(placement.text, placement.cluster) for placement in placements]


@QUICK
@given(damaged())
def test_the_reward_reads_of_damaged_answers_what_the_proposer_reads(text: str) -> None:
    expected: list[tuple[int, str]] | None
    try:
        expected = [(place.text, place.cluster) for place in Proposer().parse(text, GIVEN).placements]
    except AnswerError:
        expected = None
    try:
        found: list[tuple[int, str]] | None = read_places(text)
    except AnswerError:
        found = None
    assert found == expected


def test_a_reading_names_the_cluster_of_each_text() -> None:
    found = read_partition(places((2, "b"), (1, "a"), (3, "b")), 3)
    assert found is not None
    assert (found.labels, found.coverage, found.exact) == (("a", "b", "b"), 1.0, True)
    broken = read_partition(places((2, "b"), (1, "a"), (1, "b")), 3)
    assert broken is not None
    assert (broken.labels, broken.exact) == ((None, "b", None), False)
    assert broken.coverage == pytest.approx(1 / 3)
    assert read_partition("nothing", 3) is None


# Options


def test_v_measure_pays_for_singletons_and_says_so() -> None:
    """The documented hack: singletons beat a partition that is 70 % right; AMI pays nothing for them."""
    rng = random.Random(0)
    with pytest.warns(UserWarning, match="all-singleton answers score high"):
        chosen = RewardSettings(measure="v_measure")
    paid, honest = [], []
    for _ in range(30):
        reference = balanced(20, 10, rng)
        guess = completion(misplaced(reference, 0.3, rng, alone=False))
        paid.append(reward(completion(range(20)), reference, chosen))
        honest.append(reward(guess, reference, chosen))
        assert reward(completion(range(20)), reference) == pytest.approx(0.2)
        assert reward(guess, reference) > 0.3
    assert statistics.fmean(paid) > statistics.fmean(honest)
    assert statistics.fmean(paid) > 0.8


def test_other_measures_do_not_warn() -> None:
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        RewardSettings()
        RewardSettings(measure="ari", k_weight=0.5)
    assert given == []


@pytest.mark.parametrize(
    ("labels", "k_score"), [("aabbabcc", 1.0), ("aabbabbb", 2 / 3), ("abcdefgh", 0.0), ("abcdabcd", 2 / 3)]
)
def test_k_weight_gives_a_share_of_the_score_to_the_number_of_clusters(labels: str, k_score: float) -> None:
    ami = max(0.0, adjusted_mutual_info(REFERENCE, labels))
    for weight in (0.0, 0.25, 1.0):
        found = reward(completion(labels), REFERENCE, RewardSettings(k_weight=weight))
        assert found == pytest.approx(0.2 + 0.8 * ((1 - weight) * ami + weight * k_score))


@pytest.mark.parametrize(
    ("tokens", "kept"),
    [(None, 1.0), (0, 1.0), (100, 1.0), (150, 0.5), (175, 0.25), (200, 0.0), (10_000, 0.0)],
)
def test_long_answers_lose_linearly(tokens: int | None, kept: float) -> None:
    limits = RewardSettings(long_from=100, long_to=200)
    assert reward(WHOLE, REFERENCE, limits, tokens=tokens) == pytest.approx(kept)
    assert judge(WHOLE, REFERENCE, limits, tokens=tokens).reward == pytest.approx(kept)
    broken = places(*ALL[1:])
    assert reward(broken, REFERENCE, limits, tokens=tokens) == pytest.approx(0.1 * 7 / 8 * kept)
    assert reward(WHOLE, REFERENCE, tokens=tokens) == 1.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"long_from": 100}, "set both or neither"),
        ({"long_to": 100}, "set both or neither"),
        ({"long_from": 100, "long_to": 100}, "not above long_from"),
        ({"k_weight": 1.1}, "less than or equal to 1"),
        ({"measure": "accuracy"}, "'ami', 'ari' or 'v_measure'"),
        ({"mesure": "ami"}, "Extra inputs"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        RewardSettings.model_validate(options)


@pytest.mark.parametrize("text", ["", "nothing", WHOLE, places(*ALL)])
@pytest.mark.parametrize("take", [reward, judge])
def test_an_empty_reference_is_refused_whatever_the_answer(take: Callable[..., object], text: str) -> None:
    with pytest.raises(ValueError, match="no texts"):
        take(text, ())
