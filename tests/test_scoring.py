"""What is made of a scorer's states: groups and their number, labels, words. Synthetic states, no model."""

from __future__ import annotations

import numpy as np
import pytest

from cluster_r1.agents.scoring import (
    Floats,
    centres,
    evidence,
    group_rows,
    joined_scores,
    label_scores,
    settle,
    share_of_centre,
    topic_weight,
)
from cluster_r1.agents.state_words import group_names, likely_words
from cluster_r1.metrics import adjusted_mutual_info

WIDTH = 32


def blobs(sizes: list[int], spread: float, seed: int = 0) -> tuple[Floats, list[int]]:
    """States around one direction a group, on top of what all have in common."""
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(len(sizes), WIDTH))
    truth = [group for group, size in enumerate(sizes) for _ in range(size)]
    common = 5 * rng.normal(size=WIDTH)
    noise = rng.normal(size=(len(truth), WIDTH)) * spread
    return np.asarray(directions[truth] + noise + common, dtype=np.float32), truth


@pytest.mark.parametrize("sizes", [[20, 12], [16, 12, 9], [12] * 6])
def test_the_number_of_groups_is_found_where_they_lie_apart(sizes: list[int]) -> None:
    states, truth = blobs(sizes, spread=0.3)
    found = group_rows(evidence(states, np.zeros_like(states), 0.0), None)
    assert adjusted_mutual_info(truth, found.tolist()) > 0.95
    assert found.max() + 1 == len(sizes)


def test_bounds_of_k_are_kept_and_the_largest_group_comes_first() -> None:
    states, _ = blobs([15, 15, 15], spread=0.3)
    rows = evidence(states, np.zeros_like(states), 0.0)
    assert group_rows(rows, (5, 5)).max() + 1 == 5
    assert group_rows(rows, (2, 2)).max() + 1 == 2
    assert group_rows(rows, (1, 1)).max() + 1 == 1
    sizes = np.bincount(group_rows(rows, (4, 6)))
    assert 4 <= len(sizes) <= 6
    assert sizes.tolist() == sorted(sizes, reverse=True)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_handful_of_texts_and_equal_ones_have_groups_too(count: int) -> None:
    same = np.ones((count, WIDTH), dtype=np.float32)
    assert set(group_rows(evidence(same, same, 1.0), None).tolist()) == {0}
    apart = np.eye(count, WIDTH, dtype=np.float32)
    labels = group_rows(evidence(apart, apart, 0.0), None)
    assert len(labels) == count
    assert set(labels.tolist()) == set(range(labels.max() + 1))


def test_words_count_where_states_agree_with_them_and_only_there() -> None:
    states, _ = blobs([20, 20, 20], spread=0.5)
    unrelated, _ = blobs([20, 20, 20], spread=3.0, seed=1)
    assert topic_weight(states, states) == 1.0
    assert topic_weight(states, unrelated) == 0.0
    assert topic_weight(states[:1], states[:1]) == 0.0
    assert topic_weight(np.ones_like(states), states) == 0.0


def test_a_label_that_is_liked_whatever_the_text_wins_nothing() -> None:
    states, truth = blobs([10, 10], spread=0.2)
    labels = np.stack([states[:10].mean(0) - states.mean(0), states[10:].mean(0) - states.mean(0)])
    liked = labels + np.array([[0.0], [4.0]], dtype=np.float32) * states.mean(0)
    assert label_scores(states, liked).argmax(1).tolist() == truth
    alone = label_scores(states[:1], liked, usual=states.mean(0))
    assert alone.argmax(1).tolist() == truth[:1]


def test_texts_that_are_alike_settle_on_one_label() -> None:
    states, truth = blobs([25, 25, 25], spread=0.6)
    rng = np.random.default_rng(3)
    hints = np.eye(3, dtype=np.float32)[truth] + rng.normal(size=(75, 3)).astype(np.float32)
    rows = evidence(states, np.zeros_like(states), 0.0)
    before = adjusted_mutual_info(truth, hints.argmax(1).tolist())
    shares = settle(rows, hints)
    assert adjusted_mutual_info(truth, shares.argmax(1).tolist()) > before + 0.4
    np.testing.assert_allclose(shares.sum(1), 1, atol=1e-5)


def test_one_text_takes_the_label_of_its_score() -> None:
    state = np.ones((1, WIDTH), dtype=np.float32)
    scores = np.array([[0.1, 2.0, -1.0]], dtype=np.float32)
    assert settle(evidence(state, state, 0.0), joined_scores(scores, scores, 0.5)).argmax() == 1


def test_confidence_is_higher_at_the_centre_than_at_the_border() -> None:
    states, truth = blobs([20, 20], spread=0.2)
    between = (states[:1] + states[-1:]) / 2
    rows = evidence(np.vstack([states, between]), np.zeros((41, WIDTH), np.float32), 0.0)
    labels = np.array([*truth, 0])
    sure = share_of_centre(rows, centres(rows, labels), labels)
    assert sure[-1] < sure[:-1].min()
    assert 0 <= sure.min() <= sure.max() <= 1
    assert share_of_centre(rows, centres(rows, labels * 0), labels * 0).tolist() == [1.0] * 41


def test_words_are_those_that_set_a_state_apart_and_no_two_of_one_stem() -> None:
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(200, WIDTH)).astype(np.float32)
    words = [f"word{chr(97 + i // 26)}{chr(97 + i % 26)}x" for i in range(197)]
    words = ["deliver", "delivered", "payment", *words]
    embeddings[1] = embeddings[0] + 0.01
    usual = 3 * embeddings[50]
    said = likely_words(
        np.stack([usual + 2 * embeddings[0], usual + 2 * embeddings[2]]), usual, words, embeddings, 2
    )
    assert said[0][0] in ("deliver", "delivered")
    assert said[1][0] == "payment"
    assert {"deliver", "delivered"} != set(said[0])


def test_names_differ_whatever_the_words() -> None:
    listed = [["payment", "invoice"], ["payment", "refund", "money"], ["payment", "invoice"], [], []]
    names = group_names(listed)
    assert names[0] == "payment, invoice"
    assert names[1] == "refund, money"
    assert len({name.casefold() for name in names}) == len(names)
