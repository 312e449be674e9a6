"""Several passes, one partition: what they agree on, and how far."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import pytest

from cluster_r1 import InputError
from cluster_r1.graphs.consensus import consensus_of
from cluster_r1.metrics import adjusted_rand
from tests.fakes.openai_server import FakeOpenAI, Reply
from tests.test_corpus import TOPICS, agent_of, agreement, assert_exact_cover, corpus

TRUTH = [n % 5 for n in range(400)]


def noisy(share: float, seed: int) -> list[int]:
    """The truth under other names, with so many labels drawn anew."""
    chance = random.Random(seed)
    names = chance.sample(range(5), k=5)
    return [chance.randrange(5) if chance.random() < share else names[label] for label in TRUTH]


def test_the_consensus_is_nearer_to_the_truth_than_any_pass() -> None:
    passes = [noisy(0.3, seed) for seed in range(5)]
    found = consensus_of(passes)
    best = max(adjusted_rand(TRUTH, labels) for labels in passes)
    assert adjusted_rand(TRUTH, found.labels.tolist()) > best + 0.2
    assert 0.2 < found.stability < 0.4


def test_agreement_is_what_the_passes_say_about_a_text() -> None:
    passes = [noisy(0.2, seed) for seed in range(5)]
    found = consensus_of(passes)
    names = [[0] * 5 for _ in passes]
    for labels, own in zip(passes, names, strict=True):
        for cluster in range(5):
            inside = [label for label, truth in zip(labels, TRUTH, strict=True) if truth == cluster]
            own[cluster] = max(set(inside), key=inside.count)
    right = [
        sum(labels[n] == own[TRUTH[n]] for labels, own in zip(passes, names, strict=True)) for n in range(400)
    ]
    sure, unsure = np.array(right) == 5, np.array(right) <= 2
    assert found.agreement[sure].min() > found.agreement[unsure].max()
    assert found.agreement.max() <= 1.0


def test_equal_passes_are_their_own_consensus() -> None:
    found = consensus_of([TRUTH, [label + 7 for label in TRUTH], TRUTH])
    assert found.stability == 1.0
    assert adjusted_rand(TRUTH, found.labels.tolist()) == 1.0
    assert found.agreement.tolist() == pytest.approx([1.0] * 400)


def test_what_most_passes_leave_outside_is_outside() -> None:
    one, other, third = list(TRUTH), list(TRUTH), list(TRUTH)
    one[0] = other[0] = -1
    one[1] = -1
    found = consensus_of([one, other, third])
    assert found.labels[0] == -1
    assert found.agreement[0] == pytest.approx(2 / 3)
    assert found.labels[1] == found.labels[6]
    assert consensus_of([[-1, -1], [-1, -1]]).labels.tolist() == [-1, -1]


def test_a_cluster_that_one_pass_divides_stays_whole_if_the_others_have_it() -> None:
    divided = [label if label else (0 if n % 2 else 9) for n, label in enumerate(TRUTH)]
    found = consensus_of([divided, TRUTH, TRUTH])
    assert found.typical in (1, 2)
    assert adjusted_rand(TRUTH, found.labels.tolist()) == 1.0


# --- the agent ---


def forgetful(share: float) -> Any:
    """A model that puts some texts in another cluster, differently in each order that it reads them in."""

    def behaviour(role: str, answer: dict[str, Any], call: int) -> Reply:
        chance = random.Random(json.dumps(answer))
        ids = [cluster["id"] for cluster in answer.get("clusters", [])]
        for entry in answer.get("assignments", []):
            if ids and chance.random() < share:
                entry["cluster"] = chance.choice(ids)
        return Reply(json.dumps(answer))

    return behaviour


def test_passes_over_few_texts_are_made_in_different_orders(server: FakeOpenAI) -> None:
    server.behaviour = forgetful(0.3)
    texts = corpus(100)
    one = agent_of(server).cluster(texts, "by problem")
    several = agent_of(server, consensus=5).cluster(texts, "by problem")
    assert_exact_cover(several)
    assert agreement(several) > agreement(one)
    assert several.info.passes == 5
    assert several.info.stability is not None
    assert 0.2 < several.info.stability < 0.7
    confidence = {a.text_id: a.confidence for a in several.assignments}
    assert 0.4 < np.mean([value for value in confidence.values() if value is not None]) < 0.9
    assert {cluster.name for cluster in several.clusters} == set(TOPICS)
    assert all(a.reason for a in several.assignments if (a.confidence or 0) > 0.7)
    prompts = {r["messages"][1]["content"] for r in server.requests if "first" not in r}
    assert len(prompts) >= 10  # a proposal and a review of each order


def test_passes_over_a_corpus_are_one_clustering(server: FakeOpenAI) -> None:
    texts = corpus(700)
    result = agent_of(server, consensus=3).cluster(texts, "by problem", k=5)
    assert_exact_cover(result)
    assert agreement(result) == 1.0
    assert (result.n_clusters, result.info.passes, result.info.stability) == (5, 3, 1.0)
    asked = len(server.requests)
    again = agent_of(server, consensus=3).cluster(texts, "by problem", k=5)
    assert again.clustering == result.clustering
    assert len(server.requests) == asked


def test_a_budget_ends_the_passes_not_the_run(server: FakeOpenAI) -> None:
    texts = corpus(100)
    one = agent_of(server, cache=False).cluster(texts, "by problem").usage.total_tokens
    spent = server.tokens
    result = agent_of(server, cache=False, consensus=5, budget_tokens=int(one * 3.5)).cluster(texts, "by x")
    assert server.tokens - spent <= one * 3.5
    assert_exact_cover(result)
    assert 2 <= result.info.passes <= 3
    assert any("of the 5 passes did not come to the end" in note for note in result.notes)


def test_no_pass_is_bad_input(server: FakeOpenAI) -> None:
    with pytest.raises(InputError, match="consensus is 0"):
        agent_of(server, consensus=0)


def test_the_order_of_a_corpus_changes_nothing(server: FakeOpenAI) -> None:
    server.behaviour = forgetful(0.3)
    texts = {str(n): text for n, text in enumerate(corpus(500))}
    first = agent_of(server).cluster(texts, "by problem")
    asked = len(server.requests)
    keys = random.Random(1).sample(sorted(texts), k=len(texts))
    shuffled = agent_of(server).cluster({key: texts[key] for key in keys}, "by problem")
    assert len(server.requests) == asked
    places = {a.text_id: a.cluster_id for a in first.assignments}
    assert {a.text_id: a.cluster_id for a in shuffled.assignments} == places
