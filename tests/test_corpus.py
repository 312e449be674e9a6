"""Corpora that fit no single context: batches, one taxonomy, a place for every text, whatever goes wrong."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster_r1 import ClusteringAgent, ClusteringResult, InputError, ModelError, Text
from cluster_r1.agents.clustering.reconciler import (
    FoundGroup,
    Joined,
    JoinedCategory,
    Reconciler,
    ReconcilerInput,
)
from cluster_r1.agents.models.retries import RetryPolicy
from cluster_r1.agents.parsing import AnswerError
from cluster_r1.corpus_runs import in_drawn_order
from cluster_r1.graphs.corpus.classifying import TextClassifier
from cluster_r1.graphs.corpus.economy import estimated_disagreement, unsure_positions
from cluster_r1.graphs.corpus.reconciling import BatchCluster, join_by_anchors
from cluster_r1.graphs.corpus.sampling import draw_batches
from cluster_r1.graphs.corpus.taxonomy import complete
from cluster_r1.metrics import adjusted_rand
from tests.fakes.openai_server import FakeOpenAI, Reply, label_of

TOPICS = ("late", "broken", "billing", "praise", "login")


def corpus(count: int, topics: tuple[str, ...] = TOPICS) -> list[str]:
    chance = random.Random(0)
    words = [f"word{number}" for number in range(300)]
    return [f"{topics[n % len(topics)]}: {' '.join(chance.choices(words, k=12))} {n}" for n in range(count)]


def agent_of(server: FakeOpenAI, **options: Any) -> ClusteringAgent:
    return ClusteringAgent(server.spec, retries=RetryPolicy(attempts=3, first_wait=0.01), **options)


def agreement(result: ClusteringResult) -> float:
    return adjusted_rand([label_of(text.text) for text in result.texts], result.labels.tolist())


def assert_exact_cover(result: ClusteringResult) -> None:
    placed = [a.text_id for a in result.assignments]
    outside = [text.text_id for text in result.unassigned]
    assert sorted([*placed, *outside]) == sorted(text.id for text in result.texts)
    assert len(set(placed)) == len(placed)
    members = [member for cluster in result.clusters for member in cluster.members]
    assert sorted(members) == sorted(placed)


# --- the whole way ---


def test_many_texts_are_grouped_in_batches_under_one_taxonomy(server: FakeOpenAI) -> None:
    result = agent_of(server).cluster(corpus(1500), "by problem")
    assert_exact_cover(result)
    assert agreement(result) == 1.0
    assert {cluster.name for cluster in result.clusters} == set(TOPICS)
    assert result.stop_reason == "batches"
    assert result.info.corpus is not None
    assert result.info.corpus.effort == "thorough"
    assert result.info.corpus.disagreement is None
    assert result.info.corpus.reason_for_k == "one for each name"
    roles = Counter(server.roles_asked())
    assert roles["proposer"] == result.info.corpus.batches == 10
    assert roles["reconciler"] == 1
    assert roles["assigner"] == -(-(1500 - 820) // 150)


def test_economy_reads_a_part_and_says_how_far_it_may_be_off(server: FakeOpenAI) -> None:
    texts = corpus(6000)
    result = agent_of(server).cluster(texts, "by problem")
    assert_exact_cover(result)
    assert agreement(result) > 0.98
    reading = result.info.corpus
    assert reading is not None
    assert reading.effort == "economy"
    assert reading.by_classifier > 2000
    assert reading.disagreement is not None
    assert reading.disagreement.audited == 300
    assert reading.disagreement.low <= reading.disagreement.value <= reading.disagreement.high < 0.02
    read = sum(r["messages"][1]["content"].count("\n[") for r in server.requests)
    assert read < 0.65 * len(texts)


def test_thorough_has_the_model_read_everything(server: FakeOpenAI) -> None:
    result = agent_of(server, effort="thorough").cluster(corpus(3000), "by problem")
    assert result.info.corpus is not None
    assert result.info.corpus.by_classifier == 0
    assert agreement(result) == 1.0


def test_a_repeated_run_asks_nothing_and_comes_to_the_same(server: FakeOpenAI, tmp_path: Path) -> None:
    texts = corpus(700)
    first = agent_of(server).cluster(texts, "by problem")
    asked = len(server.requests)
    again = agent_of(server).cluster(texts, "by problem")
    assert len(server.requests) == asked
    assert again.clustering == first.clustering
    first.save(tmp_path / "run")
    assert ClusteringResult.load(tmp_path / "run").clustering == first.clustering


def test_limits_of_k_hold(server: FakeOpenAI) -> None:
    assert agent_of(server).cluster(corpus(600), "by problem", k=3).n_clusters == 3
    assert agent_of(server).cluster(corpus(600), "by problem", k="7..9").n_clusters == 7


def test_equal_texts_share_a_place_and_are_read_once(server: FakeOpenAI) -> None:
    texts = [*corpus(400), *["late: again and again"] * 1000, ""]
    result = agent_of(server).cluster(texts, "by problem")
    assert_exact_cover(result)
    assert len(set(result.labels[400:1400].tolist())) == 1
    assert result.unassigned[-1].reason == "the text is empty"


def test_few_texts_that_do_not_fit_the_context_are_read_in_batches(server: FakeOpenAI) -> None:
    texts = [f"{TOPICS[n % 5]}: {'word ' * 60}{n}" for n in range(150)]
    result = agent_of(server, context_tokens=6000).cluster(texts, "by problem")
    assert result.stop_reason == "batches"
    assert agreement(result) == 1.0


# --- bad days ---


def test_a_batch_that_always_fails_leaves_its_texts_to_be_assigned(server: FakeOpenAI) -> None:
    texts = corpus(800)
    ordered = [text.text for text in in_drawn_order([Text(id=text, text=text) for text in texts], 0)]
    drawn = draw_batches(ordered, size=100, anchors=20, most=10, seed=0)
    first = ordered[drawn.batches[3][0]]  # stands in every part of its batch that is tried

    def fails(role: str, answer: dict[str, Any], call: int) -> Reply:
        prompt = server.requests[call]["messages"][1]["content"]
        return Reply("no JSON" if role == "proposer" and f"[1] {first}" in prompt else json.dumps(answer))

    server.behaviour = fails
    result = agent_of(server).cluster(texts, "by problem")
    assert_exact_cover(result)
    assert agreement(result) == 1.0
    assert any("batch 4: not grouped" in note for note in result.notes)


def test_malformed_answers_cost_calls_and_no_texts(server: FakeOpenAI) -> None:
    chance = random.Random(0)
    server.behaviour = lambda role, answer, call: Reply(
        "garbage {" if chance.random() < 0.3 else json.dumps(answer)
    )
    result = agent_of(server).cluster(corpus(900), "by problem")
    assert_exact_cover(result)
    assert agreement(result) == 1.0


def test_texts_that_no_answer_places_are_unassigned_with_the_reason(server: FakeOpenAI) -> None:
    server.behaviour, server.roles = "garbage", ("assigner",)
    result = agent_of(server).cluster(corpus(1200), "by problem")
    assert_exact_cover(result)
    assert len(result.unassigned) == 1200 - 820
    assert "gave no usable answer as assigner" in result.unassigned[0].reason


def test_no_batch_grouped_is_an_error_and_nothing_is_assigned(server: FakeOpenAI) -> None:
    server.behaviour = "garbage"
    with pytest.raises(ModelError, match="grouped none of the batches"):
        agent_of(server).cluster(corpus(500), "by problem")
    assert "assigner" not in server.roles_asked()


def test_a_reconciler_without_an_answer_leaves_the_groups_as_anchors_joined_them(server: FakeOpenAI) -> None:
    server.behaviour, server.roles = "garbage", ("reconciler",)
    result = agent_of(server).cluster(corpus(800), "by problem")
    assert agreement(result) == 1.0
    assert any("not reconciled by the model" in note for note in result.notes)


def test_the_budget_ends_the_reading_and_says_what_is_left(server: FakeOpenAI) -> None:
    whole = agent_of(server, cache=False).cluster(corpus(3000), "by problem").usage.total_tokens
    spent = server.tokens
    result = agent_of(server, cache=False, budget_tokens=whole * 3 // 4).cluster(corpus(3000), "by problem")
    assert server.tokens - spent <= whole * 3 // 4
    assert_exact_cover(result)
    unread = [text for text in result.unassigned if "budget was spent" in text.reason]
    assert unread
    assert any(f"{len(unread)} texts were not read" in note for note in result.notes)


def test_texts_that_fit_nowhere_get_the_cluster_that_is_missing(server: FakeOpenAI) -> None:
    """The proposer of the first batches overlooks a topic; the audit finds it."""
    texts = corpus(1200)
    batches = 10

    def overlooks(role: str, answer: dict[str, Any], call: int) -> Reply:
        proposed = server.roles_asked()[: call + 1].count("proposer")
        if role == "proposer" and proposed <= batches:
            hidden = next((c["id"] for c in answer["clusters"] if c["name"] == "praise"), None)
            answer["clusters"] = [c for c in answer["clusters"] if c["id"] != hidden]
            for entry in answer["assignments"]:
                entry["cluster"] = "none" if entry["cluster"] == hidden else entry["cluster"]
        return Reply(json.dumps(answer))

    server.behaviour = overlooks
    result = agent_of(server).cluster(texts, "by problem")
    assert "praise" in {cluster.name for cluster in result.clusters}
    assert agreement(result) == 1.0
    assert any("clusters were added" in note for note in result.notes)


# --- new texts ---


def test_new_texts_go_into_the_clusters_there_are(server: FakeOpenAI, tmp_path: Path) -> None:
    agent = agent_of(server)
    first = agent.cluster(corpus(60), "by problem")
    first.save(tmp_path / "run")
    new = ["late: a new one", "praise: another", "weather: fits nowhere", "late: a new one", ""]
    assigned = agent.assign(tmp_path / "run", new)
    assert_exact_cover(assigned)
    assert {c.id: c.name for c in assigned.clusters} == {c.id: c.name for c in first.clusters}
    assert [a.cluster_id for a in assigned.assignments] == [
        next(c.id for c in first.clusters if c.name == name) for name in ("late", "praise", "late")
    ]
    assert [text.text_id for text in assigned.unassigned] == ["2", "4"]
    assert assigned.stop_reason == "assigned"
    assert server.roles_asked()[-1] == "assigner"
    assigned.save(tmp_path / "new")
    loaded = ClusteringResult.load(tmp_path / "new")
    assert loaded.clusters == assigned.clusters
    assert loaded.assignments == assigned.assignments
    assert loaded.unassigned == assigned.unassigned


def test_many_new_texts_are_read_in_batches_and_a_repeated_call_asks_nothing(server: FakeOpenAI) -> None:
    agent = agent_of(server)
    first = agent.cluster(corpus(60), "by problem")
    assigned = agent.assign(first, corpus(1000))
    assert agreement(assigned) == 1.0
    asked = len(server.requests)
    assert agent.assign(first, corpus(1000)).clustering == assigned.clustering
    assert len(server.requests) == asked


def test_a_run_without_clusters_takes_no_texts(server: FakeOpenAI) -> None:
    agent = agent_of(server)
    empty = agent.cluster(["", ""], "by problem")
    with pytest.raises(InputError, match="no clusters"):
        agent.assign(empty, ["late: x"])


# --- the parts ---


def test_batches_share_their_anchors_and_hold_every_other_text_once() -> None:
    drawn = draw_batches(corpus(450), size=100, anchors=20, most=10, seed=0)
    anchors = set(drawn.anchors)
    others = [position for batch in drawn.batches for position in batch if position not in anchors]
    assert len(anchors) == 20
    assert all(anchors <= set(batch) <= set(range(450)) and len(batch) <= 100 for batch in drawn.batches)
    assert sorted([*anchors, *others]) == list(range(450))
    assert drawn == draw_batches(corpus(450), size=100, anchors=20, most=10, seed=0)


def test_a_rare_kind_of_text_is_drawn_from_many() -> None:
    texts = [*corpus(3000, ("late",)), "sourdough starter hydration", "goalkeeper penalty offside"]
    hits = [
        {3000, 3001} & set(draw_batches(texts, size=50, anchors=10, most=4, seed=seed).positions)
        for seed in range(10)
    ]
    assert sum(map(len, hits)) >= 15  # at random, 170 of 3,002 texts would hold one of 20


def test_clusters_that_share_anchors_are_one_and_those_of_one_batch_are_not() -> None:
    found = [
        BatchCluster(batch=0, name="late parcels", members=(1, 2, 3, 10)),
        BatchCluster(batch=1, name="delivery delays", members=(1, 2, 3, 20)),
        BatchCluster(batch=0, name="bills", members=(4, 5, 11)),
        BatchCluster(batch=1, name="Bills!", members=(21,)),
        BatchCluster(batch=1, name="praise", members=(6,)),
    ]
    groups = join_by_anchors(found, anchors=(1, 2, 3, 4, 5, 6), seed=0)
    assert sorted(map(sorted, groups)) == [[0, 1], [2, 3], [4]]
    split = [
        BatchCluster(batch=0, name="a", members=(1, 2)),
        BatchCluster(batch=0, name="b", members=(3, 4)),
        BatchCluster(batch=1, name="a", members=(1, 2, 3, 4)),
        BatchCluster(batch=1, name="b", members=(9,)),
    ]
    for group in join_by_anchors(split, anchors=(1, 2, 3, 4), seed=0):
        assert len({split[place].batch for place in group}) == len(group)


def test_forgotten_groups_and_nameless_categories_are_completed() -> None:
    groups = tuple(FoundGroup(id=f"G{n}", name=name, texts=3) for n, name in enumerate("abc", 1))
    given = ReconcilerInput(instruction="i", groups=groups)
    joined = Joined(
        categories=(JoinedCategory(name="", groups=("G2",)), JoinedCategory(name="A", groups=("G1",)))
    )
    done = complete(joined, given)
    assert [(category.name, category.groups) for category in done.categories] == [
        ("b", ("G2",)),
        ("A", ("G1",)),
        ("c", ("G3",)),
    ]


def test_the_reconciler_reads_each_group_once() -> None:
    groups = tuple(FoundGroup(id=f"G{n}", name="x", texts=3) for n in (1, 2))
    given = ReconcilerInput(instruction="i", groups=groups)
    answer = {
        "categories": [{"name": "one", "groups": ["g1", "G1", "G9"]}, {"name": "two", "groups": ["G1"]}]
    }
    joined = Reconciler().parse(json.dumps(answer), given)
    assert [category.groups for category in joined.categories] == [("G1",)]
    with pytest.raises(AnswerError, match="none of the groups"):
        Reconciler().parse('{"categories": [{"name": "x", "groups": []}]}', given)


def test_the_classifier_is_trusted_only_where_held_out_labels_agree() -> None:
    texts = corpus(600)
    labels = [n % 5 for n in range(600)]
    learnt = TextClassifier(texts, labels, seed=0).calibration
    assert learnt.agreement > 0.95
    assert learnt.share > 0.9
    shuffled = random.Random(1).sample(labels, k=600)
    assert TextClassifier(texts, shuffled, seed=0).calibration.share < 0.05


def test_the_least_sure_are_read_first() -> None:
    unread, sure = np.array([10, 20, 30, 40]), np.array([0.92, 0.2, 0.5, 0.99])
    assert unsure_positions(unread, sure, threshold=0.95, most=2).tolist() == [20, 30]
    assert unsure_positions(unread, sure, threshold=0.95, most=9).tolist() == [10, 20, 30]
    assert unsure_positions(unread, sure, threshold=0.1, most=9).tolist() == []


def test_the_estimate_of_disagreement_covers_the_truth() -> None:
    chance = np.random.default_rng(0)
    truth, covered = 0.08, 0
    for _ in range(200):
        differing = int(chance.binomial(300, truth))
        found = estimated_disagreement(differing, 300, by_classifier=8000, texts=10_000)
        covered += found.low <= 0.8 * truth <= found.high
    assert covered >= 182
