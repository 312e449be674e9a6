"""The rules of synthesis that need no model: slices, checks, votes, traces, novelty, settings."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster_r1.agents.clustering.proposer import ProposerInput
from cluster_r1.agents.models.messages import ChatAnswer
from cluster_r1.agents.synthesis.draft import Category, Draft, Label
from cluster_r1.agents.synthesis.verifier import Reading
from cluster_r1.errors import InputError
from cluster_r1.graphs.synthesis.accepted import AcceptedTasks, Signature
from cluster_r1.graphs.synthesis.config import Distilling, Novelty, SynthesisConfig, Verifying, read_config
from cluster_r1.graphs.synthesis.distilling import judge_answer, mentioned
from cluster_r1.graphs.synthesis.outcome import Trace
from cluster_r1.graphs.synthesis.screening import (
    embedding_ami,
    evidence_fault,
    leakage_fault,
    partition_fault,
    repetition_fault,
)
from cluster_r1.graphs.synthesis.slicing import SliceStore, Source
from cluster_r1.graphs.synthesis.state import Earlier
from cluster_r1.graphs.synthesis.voting import verify_labels
from cluster_r1.types import Text


def draft_of(labels: list[str | None], instruction: str = "by mood", evidence: str = "") -> Draft:
    names = dict.fromkeys(label for label in labels if label)
    return Draft(
        instruction=instruction,
        criterion="mood",
        categories=tuple(Category(name=name) for name in names),
        labels=tuple(Label(category=label, evidence=evidence) if label else None for label in labels),
    )


def source(count: int, name: str = "mail") -> Source:
    words = ("parcel", "invoice", "screen", "battery", "refund")
    texts = (Text(id=str(n), text=f"the {words[n % 5]} of customer {n}") for n in range(count))
    return Source(name=name, texts=tuple(texts))


# --- slices ---


def test_a_slice_is_the_same_whenever_it_is_drawn_and_other_seeds_draw_others() -> None:
    config = SynthesisConfig(texts=(10, 30))
    one, other = SliceStore([source(300)], config), SliceStore([source(300)], config)
    other.slice("mail", 5)
    assert one.slice("mail", 3) == other.slice("mail", 3)
    seeded = SliceStore([source(300)], config.model_copy(update={"seed": 1}))
    assert one.slice("mail", 3).texts != seeded.slice("mail", 3).texts


def test_sizes_and_numbers_of_clusters_follow_the_configuration() -> None:
    config = SynthesisConfig(texts=(10, 100), k=(2, 20))
    store = SliceStore([source(3000)], config)
    slices = [store.slice("mail", number) for number in range(400)]
    sizes = [len(each.texts) for each in slices]
    assert min(sizes) >= 10
    assert max(sizes) <= 100
    assert abs(np.median(sizes) - np.sqrt(10 * 101)) < 6  # the median of a log-uniform distribution
    assert all(2 <= each.k <= min(20, each.size // 2) for each in slices)
    assert {form for each in slices for form in each.forms} == {"question", "command", "terse", "verbose"}
    for each in slices:
        assert len(set(each.angles)) == len(each.angles)


def test_a_slice_of_low_diversity_holds_texts_that_are_alike() -> None:
    def most_frequent(diversity: float) -> float:
        config = SynthesisConfig(texts=(20, 20), diversity=(diversity, diversity))
        store = SliceStore([source(500)], config)
        shares = []
        for number in range(10):
            words = Counter(text.text.split()[1] for text in store.slice("mail", number).texts)
            shares.append(max(words.values()) / 20)
        return float(np.mean(shares))

    assert most_frequent(0.0) > 0.8
    assert most_frequent(1.0) < 0.5


def test_no_text_is_in_two_splits_and_shares_hold() -> None:
    store = SliceStore([source(1000)], SynthesisConfig(texts=(10, 20)))
    seen: dict[str, set[str]] = {"train": set(), "validation": set(), "test": set()}
    counts: Counter[str] = Counter()
    for number in range(200):
        drawn = store.slice("mail", number)
        counts[drawn.split] += 1
        seen[drawn.split] |= {text.id for text in drawn.texts}
    assert not seen["train"] & seen["validation"]
    assert not seen["train"] & seen["test"]
    assert not seen["validation"] & seen["test"]
    assert abs(counts["train"] - 160) <= 4
    assert abs(counts["test"] - 20) <= 3


def test_whole_corpora_can_be_held_out() -> None:
    config = SynthesisConfig.model_validate({"split": {"corpora": {"law": "test"}}})
    store = SliceStore([source(50), Source(name="law", texts=_others(50))], config)
    assert {store.slice("law", n).split for n in range(20)} == {"test"}
    assert {store.slice("mail", n).split for n in range(20)} == {"train"}
    with pytest.raises(InputError, match=r"split\.corpora names 'law', which is no source: mail"):
        SliceStore([source(50)], config)


def _others(count: int) -> tuple[Text, ...]:
    return tuple(Text(id=f"l{n}", text=f"clause {n} of another contract") for n in range(count))


def test_a_small_corpus_is_not_divided_and_says_so() -> None:
    store = SliceStore([source(40)], SynthesisConfig())
    assert {store.slice("mail", n).split for n in range(30)} == {"train"}
    assert any("too small to hold out" in note for note in store.notes)


def test_repeated_and_empty_texts_are_drawn_once_or_never() -> None:
    texts = (*source(30).texts, Text(id="again", text="the  parcel of customer 0"), Text(id="e", text=" "))
    store = SliceStore([Source(name="mail", texts=texts)], SynthesisConfig(texts=(10, 30)))
    drawn = {text.id for n in range(50) for text in store.slice("mail", n).texts}
    assert "again" not in drawn
    assert "e" not in drawn
    assert "mail: 2 empty or repeated texts left out" in store.notes


def test_too_few_texts_and_equal_names_are_refused() -> None:
    with pytest.raises(InputError, match="mail has 9 different texts, and a slice needs 10"):
        SliceStore([source(9)], SynthesisConfig())
    with pytest.raises(InputError, match="two corpora are called 'mail'"):
        SliceStore([source(20), source(20)], SynthesisConfig())


# --- checks ---


def test_a_partition_must_be_worth_asking_for() -> None:
    def said(labels: list[str | None]) -> str:
        fault = partition_fault(draft_of(labels), (2, 4), 0.9)
        return fault.detail if fault else ""

    assert said(["a", "a", "b", "b"]) == ""
    assert "1 categories only" in said(["a"] * 4)
    assert "too many stand alone" in said(["a", "b", "c", "c"])
    assert "at most 4" in said([letter for letter in "abcde" for _ in range(3)])
    assert "in one category" in said(["a"] * 19 + ["b"])
    assert "only 1 of 4" in said(["a", None, None, None])


def test_evidence_must_be_quoted() -> None:
    texts = ["I am SO angry, really.", "Quite calm here", "What a day"]
    good = draft_of(["a", "b", "b"]).model_copy(
        update={
            "labels": (
                Label(category="a", evidence="so angry ... really"),
                Label(category="b", evidence="“calm here”"),
                Label(category="b", evidence="a day"),
            )
        }
    )
    assert evidence_fault(good, texts, 1.0) is None
    fault = evidence_fault(draft_of(["a", "b", "b"], evidence="furious"), texts, 0.7)
    assert fault is not None
    assert "texts 1, 2, 3" in fault.detail
    assert evidence_fault(draft_of(["a", "b", "b"]), texts, 0.7) is not None  # nothing quoted at all


def test_labels_that_stand_in_their_texts_leak() -> None:
    texts = ["my refunds are late", "refund me", "where is it", "hello there"]
    fault = leakage_fault(draft_of(["refund", "refund", "delivery", "delivery"]), texts, 0.3)
    assert fault is not None
    assert "2 of 4" in fault.detail
    assert leakage_fault(draft_of(["money", "money", "delivery", "delivery"]), texts, 0.3) is None
    serious = ["a serious matter", "serious, first of all", "a full bill", "the bill"]
    assert leakage_fault(draft_of(["serious", "serious", "bill", "bill"]), serious, 0.3) is not None
    assert leakage_fault(draft_of(["other", "other", "calm", "calm"]), ["the other"] * 4, 0.3) is not None


def test_an_instruction_that_names_its_categories_leaks() -> None:
    labels: list[str | None] = ["calm", "calm", "angry", "angry"]
    fault = leakage_fault(draft_of(labels, "by mood: calm or angry"), ["x"] * 4, 0.3)
    assert fault is not None
    assert "names categories: angry, calm" in fault.detail
    counted = leakage_fault(draft_of(labels, "Sort them into exactly two groups by mood"), ["x"] * 4, 0.3)
    assert counted is not None
    assert "two groups" in counted.detail
    assert leakage_fault(draft_of(labels, "by the two parties they name"), ["x"] * 4, 0.3) is None


def test_a_topic_is_trivial_to_embeddings_and_an_arbitrary_division_is_not() -> None:
    words = ["parcel courier delivery", "invoice payment money"]
    texts = [f"{words[n % 2]} number {n}" for n in range(20)]
    assert embedding_ami(draft_of([words[n % 2] for n in range(20)]), texts) > 0.9
    assert embedding_ami(draft_of(["a" if n < 10 else "b" for n in range(20)]), texts) < 0.2


def test_a_repeated_division_of_the_same_texts_is_a_duplicate_whatever_it_is_called() -> None:
    labels = {str(n): "ab"[n % 2] for n in range(12)}
    renamed = {text: {"a": "x", "b": "y"}[label] for text, label in labels.items()}
    other = {str(n): "ab"[n // 6] for n in range(12)}
    assert repetition_fault(labels, {"t1": Earlier(instruction="i", labels=renamed)}, 0.5) is not None
    assert repetition_fault(labels, {"t1": Earlier(instruction="i", labels=other)}, 0.5) is None


# --- votes ---


def test_readers_who_agree_under_other_names_agree() -> None:
    draft = draft_of(["a", "a", "b", "b", None])
    reading = Reading(groups=("G7", "G7", "G1", "G1", "G1"))
    found = verify_labels(draft, [reading] * 3, Verifying())
    assert found.ami == found.single_ami == 1.0
    assert found.votes == (1.0,) * 4
    assert found.kept == (0, 1, 2, 3)


def test_a_text_on_which_most_readers_differ_is_dropped() -> None:
    draft = draft_of(["a", "a", "a", "b", "b", "b"])
    right = Reading(groups=("x", "x", "x", "y", "y", "y"))
    wrong = Reading(groups=("x", "x", "y", "y", "y", "y"))
    found = verify_labels(draft, [wrong, wrong, right], Verifying())
    assert found.kept == (0, 1, 3, 4, 5)
    assert found.votes[2] == pytest.approx(1 / 3, abs=1e-4)
    assert found.kept_ami == 1.0
    assert found.ami < 1.0


def test_readers_who_err_in_different_places_are_right_together() -> None:
    draft = draft_of(["a"] * 6 + ["b"] * 6)
    readings = []
    for place in (0, 4, 8):
        groups = ["x"] * 6 + ["y"] * 6
        groups[place] = "y" if groups[place] == "x" else "x"
        readings.append(Reading(groups=tuple(groups)))
    found = verify_labels(draft, readings, Verifying())
    assert found.ami == 1.0
    assert found.single_ami < 0.8


def test_doubt_halves_a_vote_and_no_group_is_no_vote() -> None:
    draft = draft_of(["a", "a", "b", "b"])
    doubting = Reading(groups=("x", "x", "y", None), doubtful=frozenset({1}))
    found = verify_labels(draft, [doubting], Verifying(least_vote=0.6))
    assert found.votes == (0.5, 1.0, 1.0, 0.0)
    assert found.kept == (1, 2)


def test_chance_readings_agree_with_nothing() -> None:
    random = np.random.default_rng(0)
    draft = draft_of(["abc"[n % 3] for n in range(60)])
    readings = [Reading(groups=tuple("xyz"[i] for i in random.integers(3, size=60))) for _ in range(3)]
    assert abs(verify_labels(draft, readings, Verifying()).ami) < 0.15


# --- traces ---

TEXTS = ("the parcel came late", "the invoice is wrong", "the courier was rude", "you charged me twice")
GIVEN = ProposerInput(instruction="by problem", texts=TEXTS)
REFERENCE = ("delivery", "billing", "delivery", "billing")
REASONING = "Delivery: texts 1 and 3, the rest is billing. [2] and [4] are about money. " * 3


def answered(groups: str = "1212", **changes: Any) -> ChatAnswer:
    clusters = [{"id": f"C{n}", "name": f"n{n}", "description": ""} for n in sorted(set(groups))]
    assignments = [{"text": n, "reason": "r", "cluster": f"C{g}"} for n, g in enumerate(groups, 1)]
    text = json.dumps({"criterion": "c", "clusters": clusters, "assignments": assignments})
    return ChatAnswer(**{"text": text, "reasoning": REASONING, **changes})


def judged(answer: ChatAnswer, **bars: Any) -> Any:
    return judge_answer(answer, GIVEN, REFERENCE, Distilling(**bars), 0)


def test_a_right_answer_with_its_reasons_is_a_trace_in_the_one_form() -> None:
    trace = judged(answered())
    assert isinstance(trace, Trace)
    assert trace.ami == 1.0
    assert trace.completion.startswith(f"<think>\n{REASONING.strip()}\n</think>\n\n{{")
    fenced = answered()
    wrapped = judged(answered(text=f"Sure!\n```json\n{fenced.text}\n```"))
    assert wrapped.completion == trace.completion


@pytest.mark.parametrize(
    ("answer", "bars", "fault"),
    [
        (answered(finish_reason="length"), {}, "truncated"),
        (answered(text="no JSON"), {}, "unusable"),
        (answered("121"), {}, "no_cover"),
        (answered("1122"), {}, "low_ami"),
        (answered(text=answered().text.replace('"C2"', '"none"')), {}, "no_cover"),
        (answered(text=answered().text.replace('"r"', '"</think>"')), {}, "unusable"),
        (answered(reasoning=f"{REASONING} </think> more"), {}, "unusable"),
        (answered(text=answered().text.replace('"n1"', '""')), {}, "unusable"),
        (answered("1234"), {"least_ami": -1.0}, "singletons"),
        (answered(reasoning=""), {}, "no_reasoning"),
        (answered(reasoning="They differ in the problem that is told. " * 5), {}, "not_about_texts"),
        (answered(), {"tokens": (20, 30)}, "length"),
        (answered(reasoning="1. x 2. y 3. z"), {"least_mentioned": 0.0}, "length"),
    ],
)
def test_answers_that_teach_nothing_are_no_traces(answer: ChatAnswer, bars: Any, fault: str) -> None:
    assert judged(answer, **bars) == fault


def test_reasoning_speaks_of_texts_by_number_or_by_their_words() -> None:
    said = "Look at texts 2, 4-5 and 7.\n1) fine\nThe parcel came late, says one."
    texts = ["x y z w"] * 7 + ["the parcel came late again"]
    assert mentioned(said, texts) == {1, 2, 4, 5, 7, 8}
    assert mentioned("There are 3 kinds of problems and 12 texts", ["a b c d"] * 8) == set()


# --- novelty ---


def signature(instruction: str, *categories: str) -> Signature:
    return Signature.of(instruction, [Category(name=name) for name in categories])


def test_tasks_with_the_same_categories_are_of_one_family_whatever_their_wording() -> None:
    accepted = AcceptedTasks(Novelty())
    accepted.add("mail", "t1", signature("by tone", "angry", "polite"), "train")
    again = signature("How does each writer sound?", "polite", "angry")
    assert accepted.refusal("mail", again, "train") == "asks for the same as t1"
    assert accepted.refusal("law", again, "train") is None  # other corpora may ask it too
    assert accepted.refusal("mail", signature("by product", "phone", "vacuum cleaner"), "train") is None


def test_a_family_may_have_more_tasks_but_not_in_two_splits() -> None:
    accepted = AcceptedTasks(Novelty(tasks_a_family=2))
    tone = signature("by tone", "angry", "polite")
    accepted.add("mail", "t1", tone, "train")
    assert "another split" in str(accepted.refusal("mail", tone, "test"))
    assert accepted.refusal("mail", tone, "train") is None
    assert accepted.add("mail", "t2", tone, "train") == "t1"
    assert accepted.refusal("mail", tone, "train") is not None


def test_no_family_is_in_two_splits_by_way_of_a_third_task() -> None:
    accepted = AcceptedTasks(Novelty(tasks_a_family=9))
    accepted.add("mail", "t1", signature("by the tone of the writer", "angry", "polite"), "train")
    accepted.add("mail", "t2", signature("by what the room is like", "heated", "cold"), "test")
    between = signature("by the tone of the writer", "heated", "cold")
    assert accepted.refusal("mail", between, "train") is not None
    assert accepted.refusal("mail", between, "test") is not None


def test_what_a_reader_found_to_be_the_same_is_one_family() -> None:
    accepted = AcceptedTasks(Novelty(tasks_a_family=2))
    accepted.add("mail", "t1", signature("by tone", "angry", "polite"), "train")
    other = signature("In what mood do they write?", "hot-headed", "well-mannered")
    assert accepted.refusal("mail", other, "test") is None
    assert "another split" in str(accepted.refusal("mail", other, "test", like="t1"))
    assert accepted.add("mail", "t2", other, "train", like="t1") == "t1"
    assert accepted.refusal("mail", other, "train", like="t1") is not None


def test_an_equal_instruction_is_the_same_whatever_the_bar() -> None:
    accepted = AcceptedTasks(Novelty(most_similarity=1.0))
    for number, words in enumerate(("by tone", "Who is at fault here?", "by the kind of device")):
        accepted.add("mail", f"t{number}", signature(words, f"a{number}", f"b{number}"), "train")
        assert accepted.refusal("mail", signature(words, "c", "d"), "test") is not None


def test_what_was_accepted_later_is_not_seen() -> None:
    accepted = AcceptedTasks(Novelty())
    accepted.add("law", "l1", signature("by court", "high", "low"), "train")
    visible = len(accepted)
    accepted.add("mail", "t1", signature("by tone", "angry", "polite"), "train")
    assert accepted.instructions("mail", visible) == ()
    assert accepted.instructions("mail", len(accepted)) == ("by tone",)
    assert accepted.refusal("mail", signature("by tone", "angry", "polite"), "train", visible=visible) is None


# --- settings ---


@pytest.mark.parametrize(
    ("yaml", "said"),
    [
        ("texts: [2, 5]", "texts is"),
        ("k: [9, 3]", "k is"),
        ("k: [8, 9]", "a cluster needs two"),
        ("diversity: [0.9, 0.1]", "diversity is"),
        ("verify: {samples: 0}", "verify.samples"),
        ("verfy: {}", "verfy: there is no such setting, did you mean verify?"),
        ("distill: {sample: 3}", "distill.sample: there is no such setting, did you mean samples?"),
        ("forms: {rhyme: 1}", "forms"),
        ("split: {validation: 0.6, test: 0.5}", "split: validation and test together"),
        ("distill: {required: 3}", "distill: required is 3: at most keep (2)"),
        ("distill: {tokens: [30, 20]}", "distill: tokens is"),
        ("skew: .inf", "skew"),
        ("forms: {question: .inf}", "forms.question"),
        ("- 1", "SynthesisConfig"),
        ("a: [", "cannot be read"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_named(tmp_path: Path, yaml: str, said: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(yaml)
    with pytest.raises(InputError) as error:
        read_config(path)
    assert str(path) in str(error.value)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_an_empty_or_missing_configuration_is_the_default(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("")
    assert read_config(tmp_path / "c.yaml") == read_config(None) == SynthesisConfig()
    with pytest.raises(InputError, match="cannot be read"):
        read_config(tmp_path / "none.yaml")
