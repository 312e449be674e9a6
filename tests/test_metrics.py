"""The measures against scikit-learn, against their definitions by brute force, and against known values."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from itertools import permutations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score, v_measure_score

from cluster_r1.metrics import (
    Agreement,
    adjusted_mutual_info,
    adjusted_rand,
    agreement,
    bcubed_f1,
    hungarian_accuracy,
    k_error,
    pairwise_f1,
    singleton_rate,
    v_measure,
)

QUICK = settings(max_examples=100, deadline=None)

Measure = Callable[[Sequence[Hashable], Sequence[Hashable]], float]
Pair = tuple[list[int], list[int]]

MEASURES: dict[str, Measure] = {
    "ami": adjusted_mutual_info,
    "ari": adjusted_rand,
    "v": v_measure,
    "k_error": k_error,
}
SKLEARN: dict[str, Measure] = {
    "ami": adjusted_mutual_info_score,
    "ari": adjusted_rand_score,
    "v": v_measure_score,
}


@st.composite
def pairs(draw: st.DrawFn, most: int = 40) -> Pair:
    """Two labellings of the same texts: alike, unlike, with one cluster, with singletons."""
    n = draw(st.integers(1, most))
    one, other = draw(st.integers(1, n)), draw(st.integers(1, n))
    reference = draw(st.lists(st.integers(1, one), min_size=n, max_size=n))
    predicted = draw(
        st.lists(st.integers(1, other), min_size=n, max_size=n) | st.just(reference) | st.just(list(range(n)))
    )
    return reference, predicted


@pytest.mark.parametrize("name", SKLEARN)
@QUICK
@given(pairs())
@example(([0], [0]))
@example(([0, 0], [0, 1]))
@example(([0, 1], [0, 0]))
@example(([0, 0, 1], [0, 1, 2]))
@example(([0] * 30, list(range(30))))
@example(([0, 0, *range(1, 39)], [*range(38), 38, 38]))
def test_values_are_those_of_scikit_learn(name: str, pair: Pair) -> None:
    assert MEASURES[name](*pair) == pytest.approx(SKLEARN[name](*pair), abs=1e-9)


@pytest.mark.parametrize("name", SKLEARN)
@pytest.mark.parametrize(("texts", "one", "other"), [(5_000, 12, 40), (3_000, 2, 900), (2_000, 1_900, 1_900)])
def test_values_are_those_of_scikit_learn_for_large_corpora(
    name: str, texts: int, one: int, other: int
) -> None:
    rng = random.Random(texts)
    reference = [rng.randrange(one) for _ in range(texts)]
    predicted = [label if rng.random() < 0.5 else rng.randrange(other) for label in reference]
    value = MEASURES[name](reference, predicted)
    assert value == pytest.approx(SKLEARN[name](reference, predicted), abs=1e-7)


def entropy(labels: Sequence[Hashable]) -> float:
    """By its definition, in nats."""
    shares = [count / len(labels) for count in Counter(labels).values()]
    return -sum(share * math.log(share) for share in shares)


def mutual_information(one: Sequence[int], other: Sequence[int]) -> float:
    """By its relation to entropies, in nats."""
    return entropy(one) + entropy(other) - entropy(list(zip(one, other, strict=True)))


def pairs_together(one: Sequence[int], other: Sequence[int]) -> float:
    """How many pairs of texts share a cluster in both."""
    n = len(one)
    return sum(one[i] == one[j] and other[i] == other[j] for i in range(n) for j in range(i))


def adjusted_by_enumeration(
    index: Callable[[Sequence[int], Sequence[int]], float], reference: list[int], predicted: list[int]
) -> float | None:
    """(index - expected) / (best - expected), expected over all orders of labels; None for 0 / 0."""
    values = [index(reference, order) for order in permutations(predicted)]
    expected = sum(values) / len(values)
    best = (index(reference, reference) + index(predicted, predicted)) / 2
    if math.isclose(best, expected, abs_tol=1e-9):
        return None
    return (index(reference, predicted) - expected) / (best - expected)


def pairwise_f1_by_pairs(reference: Sequence[int], predicted: Sequence[int]) -> float:
    """Over all pairs, from precision and recall."""
    hit = pairs_together(reference, predicted)
    predicted_pairs, true_pairs = pairs_together(predicted, predicted), pairs_together(reference, reference)
    if not predicted_pairs + true_pairs:
        return 1.0
    if not hit:
        return 0.0
    precision, recall = hit / predicted_pairs, hit / true_pairs
    return 2 * precision * recall / (precision + recall)


def bcubed_by_texts(reference: Sequence[int], predicted: Sequence[int]) -> float:
    """Text by text, from the sets that it stands in."""
    n = range(len(reference))
    true = [{j for j in n if reference[j] == reference[i]} for i in n]
    found = [{j for j in n if predicted[j] == predicted[i]} for i in n]
    precision = sum(len(true[i] & found[i]) / len(found[i]) for i in n) / len(reference)
    recall = sum(len(true[i] & found[i]) / len(true[i]) for i in n) / len(reference)
    return 2 * precision * recall / (precision + recall)


def accuracy_by_matching(reference: Sequence[int], predicted: Sequence[int]) -> float:
    """Over all one-to-one matches of clusters."""
    rows, columns = sorted(set(reference)), sorted(set(predicted))
    spare = [None] * len(rows)
    cells = Counter(zip(reference, predicted, strict=True))
    best = max(
        sum(cells[row, column] for row, column in zip(rows, chosen, strict=True))
        for chosen in permutations([*columns, *spare], len(rows))
    )
    return best / len(reference)


@pytest.mark.parametrize(
    ("measure", "brute_force"),
    [
        (pairwise_f1, pairwise_f1_by_pairs),
        (bcubed_f1, bcubed_by_texts),
        (hungarian_accuracy, accuracy_by_matching),
    ],
)
@settings(max_examples=60, deadline=None)
@given(pair=pairs(most=5))
@example(pair=([0], [0]))
@example(pair=([0, 1, 2], [0, 0, 0]))
@example(pair=([0, 0, 0], [0, 1, 2]))
def test_measures_of_overlap_are_what_their_definitions_say(
    measure: Measure, brute_force: Measure, pair: Pair
) -> None:
    assert measure(*pair) == pytest.approx(brute_force(*pair), abs=1e-9)


def test_measures_of_overlap_have_the_values_of_a_worked_example() -> None:
    reference, predicted = "aaabbc", "xxyyyz"
    # Pairs: 2 shared of 4 predicted and 4 true. Matched: aa, bb, c.
    assert pairwise_f1(reference, predicted) == pytest.approx(0.5)
    assert hungarian_accuracy(reference, predicted) == pytest.approx(5 / 6)
    # Precision (2 + 1/3 + 4/3 + 1) / 6, recall (4/3 + 1/3 + 2 + 1) / 6.
    assert bcubed_f1(reference, predicted) == pytest.approx(14 / 18)


@settings(max_examples=60, deadline=None)
@given(pairs(most=6))
def test_chance_is_what_all_orders_of_the_labels_give_on_average(pair: Pair) -> None:
    by_information = adjusted_by_enumeration(mutual_information, *pair)
    by_pairs = adjusted_by_enumeration(pairs_together, *pair)
    if by_information is not None:
        assert adjusted_mutual_info(*pair) == pytest.approx(by_information, abs=1e-9)
    if by_pairs is not None:
        assert adjusted_rand(*pair) == pytest.approx(by_pairs, abs=1e-9)


@QUICK
@given(pairs())
def test_v_measure_is_the_harmonic_mean_of_homogeneity_and_completeness(pair: Pair) -> None:
    reference, predicted = pair
    mutual = mutual_information(reference, predicted)
    homogeneity = mutual / entropy(reference) if len(set(reference)) > 1 else 1.0
    completeness = mutual / entropy(predicted) if len(set(predicted)) > 1 else 1.0
    total = homogeneity + completeness
    expected = 2 * homogeneity * completeness / total if total > 1e-12 else 0.0
    assert v_measure(*pair) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("name", "reference", "predicted", "value"),
    [
        ("ari", "aabc", "aabb", 4 / 7),
        ("ari", "aabb", "abab", -0.5),
        ("ari", "aabb", "aabc", 4 / 7),
        ("v", "aabb", "aabc", 0.8),
        ("v", "aabb", "abcd", 2 / 3),
        ("v", "aabb", "aaaa", 0.0),
        ("ami", "aabb", "abcd", 0.0),
        ("ami", "aabb", "aaaa", 0.0),
        ("ami", "aabb", "abab", -0.5),  # mutual information 0; expected ln 2 / 3; entropies ln 2
        ("k_error", "aabb", "abcd", 1.0),
        ("k_error", "aabbcc", "aaabbb", 1 / 3),
        ("k_error", "aabb", "baba", 0.0),
    ],
)
def test_known_values(name: str, reference: str, predicted: str, value: float) -> None:
    assert MEASURES[name](reference, predicted) == pytest.approx(value, abs=1e-12)


@QUICK
@given(pairs(), st.randoms(use_true_random=False))
def test_names_of_clusters_and_order_of_texts_do_not_matter(pair: Pair, rng: random.Random) -> None:
    reference, predicted = pair
    names = {label: f"cluster {number}" for number, label in enumerate({*reference, *predicted})}
    order = rng.sample(range(len(reference)), len(reference))
    expected = agreement(reference, predicted)
    renamed = agreement([(names[label],) for label in reference], [names[label] for label in predicted])
    shuffled = agreement([reference[at] for at in order], [predicted[at] for at in order])
    assert values(renamed) == pytest.approx(values(expected), abs=1e-12)
    assert values(shuffled) == pytest.approx(values(expected), abs=1e-12)


def values(found: Agreement) -> list[float]:
    """All measures."""
    return [found.ami, found.ari, found.v, found.k_error, found.singleton_rate]


@pytest.mark.parametrize("name", ["ami", "ari", "v"])
@QUICK
@given(pairs())
def test_neither_labelling_comes_first(name: str, pair: Pair) -> None:
    reference, predicted = pair
    swapped = MEASURES[name](predicted, reference)
    assert MEASURES[name](reference, predicted) == pytest.approx(swapped, abs=1e-12)


def test_of_the_errors_of_k_the_reference_is_the_measure() -> None:
    assert k_error("aabb", "aaaa") == 0.5
    assert k_error("aaaa", "aabb") == 1.0


@QUICK
@given(pairs())
def test_bounds(pair: Pair) -> None:
    found = agreement(*pair)
    assert -1 <= found.ami <= 1 + 1e-12
    assert -0.5 - 1e-12 <= found.ari <= 1
    assert 0 <= found.v <= 1 + 1e-12
    assert found.k_error >= 0
    assert 0 <= found.singleton_rate <= 1


@QUICK
@given(st.lists(st.integers(0, 9), min_size=1, max_size=40))
def test_the_reference_itself_is_perfect(reference: list[int]) -> None:
    found = agreement(reference, [f"C{label}" for label in reference])
    assert (found.ami, found.ari, found.v, found.k_error) == (1.0, 1.0, 1.0, 0.0)


@QUICK
@given(pairs())
def test_all_measures_at_once_are_the_single_ones(pair: Pair) -> None:
    expected = [measure(*pair) for measure in MEASURES.values()]
    assert values(agreement(*pair)) == [*expected, singleton_rate(pair[1])]


@pytest.mark.parametrize("texts", [20, 100])
@pytest.mark.parametrize("clusters", [3, 10])
def test_what_ignores_the_texts_agrees_by_chance_only(texts: int, clusters: int) -> None:
    rng = random.Random(0)
    ami, ari = [], []
    for _ in range(300):
        reference = [rng.randrange(clusters) for _ in range(texts)]
        found = agreement(reference, [rng.randrange(clusters) for _ in range(texts)])
        ami.append(found.ami)
        ari.append(found.ari)
        for trivial in (range(texts), [0] * texts):
            assert abs(adjusted_mutual_info(reference, trivial)) < 1e-9
            assert abs(adjusted_rand(reference, trivial)) < 1e-9
    assert abs(sum(ami) / len(ami)) < 0.02
    assert abs(sum(ari) / len(ari)) < 0.02


@pytest.mark.parametrize(("labels", "rate"), [("abc", 1.0), ("aabb", 0.0), ("aabc", 0.5), ("a", 1.0)])
def test_the_singleton_rate_counts_texts(labels: str, rate: float) -> None:
    assert singleton_rate(labels) == rate


def test_labels_of_any_kind_can_be_mixed() -> None:
    reference = [None, ("a", 1), 2, "2", None]
    assert adjusted_mutual_info(reference, [0, 1, 2, 3, 0]) == 1.0


@pytest.mark.parametrize(
    "measure", [*MEASURES.values(), agreement, pairwise_f1, bcubed_f1, hungarian_accuracy]
)
@pytest.mark.parametrize(("reference", "predicted"), [("", ""), ("ab", "a"), ("a", "ab"), ("", "a")])
def test_labellings_that_cannot_be_compared_are_refused(
    measure: Callable[[str, str], object], reference: str, predicted: str
) -> None:
    with pytest.raises(ValueError, match=f"not {len(reference)} and {len(predicted)} labels"):
        measure(reference, predicted)


def test_the_singleton_rate_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no labels"):
        singleton_rate([])
