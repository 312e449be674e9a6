"""The embedding baseline: the same groups each time, k kept, any text taken, names out of the texts."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster_r1.agents.clustering.assigner import Assigner, AssignerInput
from cluster_r1.agents.clustering.critic import Critic, CriticInput
from cluster_r1.agents.clustering.grouping_view import GroupingView
from cluster_r1.agents.clustering.proposer import Proposal, ProposedCluster, Proposer, ProposerInput
from cluster_r1.agents.distinctive_words import distinct_names, distinctive_words
from cluster_r1.agents.embedding_node import EmbeddingNode, propose
from cluster_r1.agents.ledger import Ledger
from cluster_r1.agents.models.agglomerative import MOST_IN_TREE, cluster_embeddings
from cluster_r1.agents.models.static_embedder import DIMENSIONS, count_tokens, embed
from cluster_r1.types import KRange, Usage

QUICK = settings(max_examples=80, deadline=None)

PAYMENTS = (
    "My credit card was charged twice for the same invoice",
    "Please refund the duplicate payment on my account",
    "The invoice shows a fee that I never agreed to pay",
    "I was billed for a subscription that I had cancelled",
    "When will the refund arrive on my bank account?",
    "The payment failed but the money left my account",
    "Why is the amount on the bill higher than the price?",
    "You charged my card although the order was cancelled",
)
WEATHER = (
    "Heavy rain and strong wind are expected on the coast",
    "It will be sunny with clear skies all weekend",
    "Snow is falling in the mountains above 900 metres",
    "A thunderstorm with hail moved over the valley",
    "Morning fog clears, then mild temperatures and sunshine",
    "The forecast says freezing cold nights and icy roads",
    "Humid heat with temperatures above 35 degrees",
    "Clouds and drizzle in the north, dry in the south",
)
ODD = (
    "",
    " \n",
    "😀🎉",
    "\u200b\u200d\ufeff",
    "שלום עולם",
    "مرحبا بالعالم",
    "\x00",
    "\ud83d",
    "1234567890",
    "的",
    "a" * 9_000,
)


def groups_of(labels: Any, texts: tuple[str, ...]) -> list[set[str]]:
    return [
        {text for text, own in zip(texts, labels, strict=True) if own == label}
        for label in sorted(set(labels))
    ]


def ask(role: Any, given: Any) -> Any:
    return asyncio.run(EmbeddingNode().ask(role, given, texts=1, round=0, ledger=Ledger()))


def test_vectors_are_the_same_each_time_and_whatever_stands_beside() -> None:
    texts = (*PAYMENTS, *WEATHER) * 20
    vectors = embed(texts)
    assert np.array_equal(vectors, embed(texts))
    assert np.array_equal(vectors[:3], embed(texts[:3]))
    assert np.array_equal(vectors[:16], vectors[-16:])
    assert vectors.shape == (320, DIMENSIONS)


@pytest.mark.parametrize("text", ODD[:7] + ODD[8:])
def test_odd_texts_give_finite_unit_or_zero_vectors(text: str) -> None:
    (vector,) = embed([text])
    assert np.isfinite(vector).all()
    assert np.linalg.norm(vector) == pytest.approx(1.0 if text.strip() else 0.0, abs=1e-5) or text == " \n"


def test_a_lone_surrogate_is_embedded_like_any_odd_text() -> None:
    assert np.isfinite(embed([ODD[7]])).all()


def test_no_texts_give_no_vectors() -> None:
    assert embed([]).shape == (0, DIMENSIONS)
    assert count_tokens([]) == []


def test_tokens_of_long_texts_are_extrapolated() -> None:
    short, double, long = count_tokens(["word " * 1_200, "word " * 2_400, "word " * 120_000])
    assert double == pytest.approx(2 * short, rel=0.01)
    assert long == pytest.approx(100 * short, rel=0.01)


def random_rows(seed: int, distinct: int, rows: int) -> np.ndarray[Any, Any]:
    random = np.random.default_rng(seed)
    return random.normal(size=(distinct, 12))[random.integers(0, distinct, rows)]


@QUICK
@given(st.integers(0, 10_000), st.integers(1, 15), st.integers(1, 40), st.data())
def test_equal_rows_share_a_group_and_k_is_kept(
    seed: int, distinct: int, n: int, data: st.DataObject
) -> None:
    rows = random_rows(seed, distinct, n)
    different = len(np.unique(rows, axis=0))
    low = data.draw(st.integers(1, 20))
    high = data.draw(st.integers(low, 25))
    for k in (None, (low, high), (low, low)):
        labels = cluster_embeddings(rows, k)
        found = labels.max() + 1
        assert labels.shape == (n,)
        assert sorted(set(labels)) == list(range(found))
        assert len(np.unique(np.column_stack([rows, labels]), axis=0)) == different
        sizes = np.bincount(labels)
        assert (np.diff(sizes) <= 0).all()
        assert np.array_equal(labels, cluster_embeddings(rows, k))
        if k:
            assert min(k[0], different) <= found <= k[1]
        else:
            assert found <= different


@pytest.mark.parametrize("k", [None, (1, 1), (3, 5)])
@pytest.mark.parametrize("rows", [np.zeros((4, 3)), np.ones((4, 3)), np.ones((1, 3)), np.eye(2)])
def test_rows_without_any_difference_are_no_crash(
    rows: np.ndarray[Any, Any], k: tuple[int, int] | None
) -> None:
    labels = cluster_embeddings(rows, k)
    assert labels.shape == (len(rows),)
    assert labels.max() < len(np.unique(rows, axis=0))


@pytest.mark.parametrize("k", [(2, 2), (7, 7), (30, 40)])
def test_more_rows_than_fit_the_tree_keep_k(k: tuple[int, int]) -> None:
    random = np.random.default_rng(5)
    centres = random.normal(size=(20, 32)) * 3
    rows = centres[random.integers(0, 20, 4_900)] + random.normal(size=(4_900, 32))
    rows = np.vstack([rows, rows[:100]])
    assert len(rows) > MOST_IN_TREE
    labels = cluster_embeddings(rows, k)
    assert k[0] <= len(set(labels)) <= k[1]
    assert np.array_equal(labels[:100], labels[-100:])
    assert sorted(set(labels)) == list(range(labels.max() + 1))
    assert (np.diff(np.bincount(labels)) <= 0).all()


def test_two_topics_are_separated() -> None:
    texts = tuple(text for pair in zip(PAYMENTS, WEATHER, strict=True) for text in pair)
    assert groups_of(cluster_embeddings(embed(texts), (2, 2)), texts) == [set(PAYMENTS), set(WEATHER)]


def test_without_k_no_group_mixes_the_topics() -> None:
    texts = (*PAYMENTS, *WEATHER)
    for group in groups_of(cluster_embeddings(embed(texts), None), texts):
        assert group <= set(PAYMENTS) or group <= set(WEATHER)


def assert_sound(proposal: Proposal, texts: tuple[str, ...]) -> None:
    """Each text placed once in a listed cluster, confidence in bounds, names distinct."""
    assert [placement.text for placement in proposal.placements] == list(range(1, len(texts) + 1))
    ids = {cluster.id for cluster in proposal.clusters}
    assert {placement.cluster for placement in proposal.placements} == ids
    assert all(0 <= (placement.confidence or 0) <= 1 for placement in proposal.placements)
    names = [cluster.name for cluster in proposal.clusters]
    assert len(set(names)) == len(names)
    assert all(names)


@pytest.mark.parametrize("k", [None, KRange(low=2, high=2), KRange(low=1, high=1), KRange(low=4, high=16)])
def test_a_proposal_is_sound_the_same_each_time_and_keeps_k(k: KRange | None) -> None:
    texts = (*PAYMENTS, *WEATHER, PAYMENTS[0])
    proposal = ask(Proposer(), ProposerInput(instruction="by tone", texts=texts, k=k))
    assert_sound(proposal, texts)
    assert proposal == propose(texts, k)
    assert proposal.placements[0].cluster == proposal.placements[-1].cluster
    assert "does not follow the instruction" in proposal.criterion
    if k:
        assert k.low <= len(proposal.clusters) <= k.high


@QUICK
@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(ODD[:7]), min_size=1
    )
)
def test_any_texts_are_grouped(texts: list[str]) -> None:
    assert_sound(propose(tuple(texts), None), tuple(texts))


def test_names_are_words_of_the_cluster_and_tell_it_from_the_others() -> None:
    texts = (*PAYMENTS, *WEATHER)
    proposal = propose(texts, KRange(low=2, high=2))
    for cluster in proposal.clusters:
        own = [
            text.casefold()
            for text, p in zip(texts, proposal.placements, strict=True)
            if p.cluster == cluster.id
        ]
        for word in cluster.name.split(", "):
            assert any(word in text for text in own)
    first, second = (set(cluster.name.split(", ")) for cluster in proposal.clusters)
    assert not first & second


@pytest.mark.parametrize(
    ("groups", "names"),
    [
        ([["late parcel"], ["broken screen"]], ["late, parcel", "broken, screen"]),
        ([["The parcel and the parcel"], ["the screen"]], ["parcel", "screen"]),
        ([["refund"], ["refund"], ["refund"]], ["refund", "refund (2)", "refund (3)"]),
        ([["🎉", "😀"], ["!?"]], ["no distinctive words", "no distinctive words (2)"]),
        ([["call me"], ["the bill"], ["a fire"]], ["call", "bill", "fire"]),
        ([["same"], ["a b c"], ["of the", "parcel"]], ["same", "a, b, c", "parcel"]),
        ([["配達が遅い"], ["ПЛАТЁЖ"]], ["配達が遅い", "платёж"]),
        ([["http www com"], ["x1y2"]], ["no distinctive words", "x1y2"]),
        ([], []),
    ],
)
def test_names_come_from_the_texts_and_are_distinct(groups: list[list[str]], names: list[str]) -> None:
    assert distinct_names(groups) == names


def test_a_name_that_is_taken_gets_a_number() -> None:
    assert distinct_names([["parcel"], ["parcel"]], ["parcel", "parcel (2)"]) == ["parcel (3)", "parcel (4)"]


def test_one_long_text_does_not_name_its_group() -> None:
    groups = [["parcel late", "parcel lost", "parcel " + "zebra " * 500], ["screen broken"]]
    assert distinctive_words(groups)[0][0] == "parcel"


@QUICK
@given(
    st.lists(st.lists(st.text(max_size=20), min_size=1, max_size=3), max_size=5),
    st.lists(st.text(), max_size=3),
)
def test_names_of_any_groups_are_distinct_and_new(groups: list[list[str]], taken: list[str]) -> None:
    names = distinct_names(groups, taken)
    assert len(names) == len(groups)
    assert len({*names, *taken}) == len(names) + len(set(taken))
    for name, words in zip(names, distinctive_words(groups), strict=True):
        assert re.sub(r" \(\d+\)$", "", name) == (", ".join(words) or "no distinctive words")


def test_texts_are_assigned_to_the_cluster_whose_description_they_resemble() -> None:
    clusters = (
        ProposedCluster(id="K7", name="weather", description="rain, sun, snow, wind and temperatures"),
        ProposedCluster(id="K8", name="payments", description="card, refund, invoice, money and bills"),
    )
    texts = (*PAYMENTS[:3], *WEATHER[:3], "")
    placements = ask(Assigner(), AssignerInput(instruction="by x", clusters=clusters, texts=texts)).placements
    assert [placement.cluster for placement in placements[:6]] == ["K8"] * 3 + ["K7"] * 3
    assert [placement.text for placement in placements] == [1, 2, 3, 4, 5, 6, 7]
    assert (
        placements
        == ask(Assigner(), AssignerInput(instruction="", clusters=clusters, texts=texts)).placements
    )


def test_it_claims_no_role_that_it_cannot_play() -> None:
    node = EmbeddingNode()
    assert node.roles == {"proposer", "assigner"}
    assert (node.spec, node.context_tokens) == ("embedding", None)
    given = CriticInput(instruction="by x", view=GroupingView(groups=(), ids=()))
    with pytest.raises(TypeError, match="critic"):
        ask(Critic(), given)


def test_it_costs_nothing() -> None:
    ledger = Ledger(budget_tokens=0)
    given = ProposerInput(instruction="by x", texts=PAYMENTS)
    asyncio.run(EmbeddingNode().ask(Proposer(), given, texts=8, round=0, ledger=ledger))
    assert ledger.usage == Usage()
