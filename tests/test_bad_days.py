"""What goes wrong with large runs, and what is left of them then."""

from __future__ import annotations

import json
import random
import resource
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from cluster_r1 import BudgetError, ClusteringResult, ModelError, Text
from cluster_r1.corpus_runs import in_drawn_order
from cluster_r1.graphs.corpus.sampling import draw_batches
from tests.fakes.openai_server import FakeOpenAI, Reply, label_of
from tests.test_cli import run as run_cli
from tests.test_corpus import agent_of, agreement, assert_exact_cover, corpus


def asked_of(server: FakeOpenAI) -> Counter[str]:
    """How often each question was asked."""
    return Counter(json.dumps(request["messages"]) for request in server.requests)


def test_a_server_that_dies_half_way_costs_no_finished_call(server: FakeOpenAI, tmp_path: Path) -> None:
    texts = corpus(3000)
    whole = agent_of(server, cache=tmp_path / "other.sqlite").cluster(texts, "by problem")
    calls = len(server.requests)
    server.reset()

    def dies(role: str, answer: dict[str, Any], call: int) -> Reply:
        return Reply(status=503, error="gone") if call >= calls // 2 else Reply(json.dumps(answer))

    server.behaviour = dies
    with pytest.raises(ModelError, match=r"HTTP 503.*gone"):
        agent_of(server).cluster(texts, "by problem")
    answered = {json.dumps(request["messages"]) for request in server.requests[: calls // 2]}
    assert len(answered) > calls // 4
    server.reset()
    again = agent_of(server).cluster(texts, "by problem")
    assert again.clustering == whole.clustering
    assert not answered & asked_of(server).keys()
    assert again.usage.saved_calls >= len(answered)


@pytest.mark.parametrize("moment", [3, 11, 17])
def test_a_killed_command_goes_on_where_it_was(server: FakeOpenAI, tmp_path: Path, moment: int) -> None:
    """Killed at its so many-th call: the same command comes to the same files, and no answer is got twice."""
    (tmp_path / "texts.txt").write_text("\n".join(corpus(6000)))
    command = ("cluster", "texts.txt", "--by", "problem", "--model", server.spec, "--concurrency", "4")
    server.keeps_requests = False
    try:
        running = subprocess.Popen(
            [sys.executable, "-m", "cluster_r1", *command, "--out", "killed"],
            cwd=tmp_path,
            stderr=subprocess.PIPE,
        )

        def kills(role: str, answer: dict[str, Any], call: int) -> Reply:
            if call == moment:
                running.send_signal(signal.SIGKILL)
            return Reply(json.dumps(answer))

        server.behaviour = kills
        assert running.wait() == -signal.SIGKILL
        assert running.stderr is not None
        running.stderr.close()
        server.behaviour = "perfect"
        done = run_cli(*command, "--out", "killed", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert server.asked_again <= 4  # those whose answers were under way
        done = run_cli(*command, "--out", "undisturbed", cwd=tmp_path, env=another_cache(tmp_path))
        assert done.returncode == 0, done.stderr
        for name in ("assignments.csv", "clusters.json"):
            assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes()
    finally:
        server.keeps_requests = True


def another_cache(folder: Path) -> dict[str, str]:
    import os

    return {**os.environ, "CLUSTER_R1_CACHE": str(folder / "another.sqlite")}


def test_a_full_disk_is_one_line_and_the_answers_are_kept(server: FakeOpenAI, tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk."""
    (tmp_path / "texts.txt").write_text("\n".join(corpus(1500)))
    command = ("cluster", "texts.txt", "--by", "problem", "--model", server.spec, "--out", "out")
    room = 90_000  # for answers, not for the table of assignments

    def fill() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))

    full = run_cli(*command, cwd=tmp_path, preexec_fn=fill)
    assert full.returncode == 2
    lines = [line for line in full.stderr.splitlines() if line.startswith("error")]
    assert len(lines) == 1
    assert "cannot be written: File too large" in lines[0]
    assert "Traceback" not in full.stderr
    assert not (tmp_path / "out" / "run.json").exists()
    asked = len(server.requests)
    done = run_cli(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(server.requests) - asked < asked
    assert_exact_cover(ClusteringResult.load(tmp_path / "out"))


def test_a_damaged_cache_costs_calls_and_nothing_else(server: FakeOpenAI, tmp_path: Path) -> None:
    texts, cache = corpus(700), tmp_path / "mine.sqlite"
    first = agent_of(server, cache=cache).cluster(texts, "by problem")
    asked = len(server.requests)
    for ending in ("-wal", "-shm"):
        (tmp_path / f"mine.sqlite{ending}").unlink(missing_ok=True)
    cache.write_bytes(b"not a database" + random.Random(0).randbytes(20_000))
    again = agent_of(server, cache=cache).cluster(texts, "by problem")
    assert again.clustering == first.clustering
    assert len(server.requests) == 2 * asked
    third = agent_of(server, cache=cache).cluster(texts, "by problem")
    assert third.clustering == first.clustering
    assert len(server.requests) == 2 * asked


def test_a_text_that_appears_ten_thousand_times_is_read_once(server: FakeOpenAI) -> None:
    texts = [*corpus(300), *["late: the same again"] * 10_000]
    result = agent_of(server).cluster(texts, "by problem")
    assert_exact_cover(result)
    assert agreement(result) == 1.0
    seen = sum(r["messages"][1]["content"].count("late: the same again") for r in server.requests)
    assert seen <= 4 + 2  # as an anchor in every batch, and in a review


def test_ninety_nine_of_a_hundred_texts_in_one_cluster(server: FakeOpenAI) -> None:
    texts = [*corpus(5940, ("late",)), *corpus(60, ("praise", "login"))]
    result = agent_of(server).cluster(texts, "by problem")
    assert_exact_cover(result)
    assert {cluster.name for cluster in result.clusters} == {"late", "praise", "login"}
    assert agreement(result) > 0.95


def test_five_hundred_clusters(server: FakeOpenAI) -> None:
    """The first batches cannot see them all; those that are missing are found in what fits nowhere."""
    topics = tuple(f"topic {chr(97 + n % 26)}{n}" for n in range(500))
    result = agent_of(server, effort="thorough").cluster(corpus(5000, topics), "by problem")
    assert_exact_cover(result)
    assert 490 <= result.n_clusters <= 500
    assert agreement(result) > 0.97
    assert len(result.unassigned) <= 100


def test_near_equal_clusters_are_merged_and_broad_ones_divided(server: FakeOpenAI) -> None:
    """The batches take two topics for one, and find a third under two names; a critic sees both."""
    texts = corpus(1500, ("late", "parcel late", "billing", "invoices"))

    def blurred(role: str, answer: dict[str, Any], call: int) -> Reply:
        prompt = server.requests[call]["messages"][1]["content"]
        if role == "proposer" and "billing:" in prompt:  # a sample of one cluster is seen clearly
            _join(answer, "late", "parcel late")
        if role == "critic":
            ids = {name: id for id, name in _clusters_of(prompt)}
            answer = {
                "findings": [
                    {"kind": "split", "clusters": [ids["late"]], "texts": [], "comment": "two things"},
                    {"kind": "merge", "clusters": [ids["billing"], ids["invoices"]], "texts": []},
                ],
                "score": 40,
                "verdict": "revise",
            }
        return Reply(json.dumps(answer))

    server.behaviour = blurred
    result = agent_of(server).cluster(texts, "by problem")
    assert_exact_cover(result)
    names = {cluster.name for cluster in result.clusters}
    assert names in ({"late", "parcel late", "billing"}, {"late", "parcel late", "invoices"})
    assert sorted(len(cluster.members) for cluster in result.clusters) == [375, 375, 750]
    assert any("holds several things" in note for note in result.notes)
    assert any("found clusters to be one: " in note for note in result.notes)


def test_a_critic_cannot_break_the_limits_of_k(server: FakeOpenAI) -> None:
    def merges(role: str, answer: dict[str, Any], call: int) -> Reply:
        if role == "critic":
            answer = {
                "findings": [{"kind": "merge", "clusters": ["C1", "C2"], "texts": [], "comment": ""}],
                "score": 10,
                "verdict": "revise",
            }
        return Reply(json.dumps(answer))

    server.behaviour = merges
    assert agent_of(server).cluster(corpus(700), "by problem", k=5).n_clusters == 5
    assert agent_of(server).cluster(corpus(700), "by problem").n_clusters == 4


def _join(answer: dict[str, Any], kept: str, gone: str) -> None:
    ids = {cluster["name"]: cluster["id"] for cluster in answer["clusters"]}
    if kept in ids and gone in ids:
        for entry in answer["assignments"]:
            entry["cluster"] = ids[kept] if entry["cluster"] == ids[gone] else entry["cluster"]


def _clusters_of(prompt: str) -> list[tuple[str, str]]:
    lines = [line for line in prompt.splitlines() if line.startswith("C") and ": " in line]
    return [(line.split(": ")[0], line.split(": ")[1].split(" - ")[0]) for line in lines]


# --- budgets ---


@pytest.mark.parametrize("share", [0.3, 0.6, 0.75, 0.85, 0.9, 0.94, 0.97, 0.98, 0.99])
def test_wherever_the_budget_ends_what_is_there_is_right(server: FakeOpenAI, share: float) -> None:
    """Two clusters are to be merged, and one to be divided: a budget may end between the two."""
    texts = corpus(900)

    def reviewed(role: str, answer: dict[str, Any], call: int) -> Reply:
        prompt = server.requests[call]["messages"][1]["content"]
        if role == "proposer" and "billing:" in prompt:  # a sample of one cluster is seen clearly
            _join(answer, "late", "broken")
        if role == "critic":
            ids = {name: id for id, name in _clusters_of(prompt)}
            merge = {"kind": "merge", "clusters": [ids["billing"], ids["login"]], "texts": []}
            split = {"kind": "split", "clusters": [ids["late"]], "texts": []}
            answer = {"findings": [merge, split], "score": 10, "verdict": "revise"}
        return Reply(json.dumps(answer))

    server.behaviour = reviewed
    whole = agent_of(server, cache=False, effort="thorough").cluster(texts, "by problem").usage.total_tokens
    spent = server.tokens
    agent = agent_of(server, cache=False, effort="thorough", budget_tokens=int(whole * share))
    try:
        result = agent.cluster(texts, "by problem")
    except BudgetError:
        assert share < 0.5
        return
    assert server.tokens - spent <= whole * share
    assert_exact_cover(result)
    assert result.info.corpus is not None
    assert result.info.corpus.by_classifier == 0
    wording = {text.id: label_of(text.text) for text in result.texts}
    allowed = {"billing": {"billing", "login"}, "login": {"billing", "login"}, "late": {"late", "broken"}}
    for cluster in result.clusters:
        inside = {wording[member] for member in cluster.members}
        assert inside <= allowed.get(cluster.name, {cluster.name}), cluster.name
    unread = sum("budget was spent" in text.reason for text in result.unassigned)
    assert unread == sum(int(note.split()[0]) for note in result.notes if "texts were not read" in note)
    assert all(wording[text.text_id] == "broken" or unread for text in result.unassigned)


@pytest.mark.parametrize("share", [0.5, 0.8, 0.9, 0.97])
def test_wherever_the_budget_ends_an_update_says_what_it_did(server: FakeOpenAI, share: float) -> None:
    run = agent_of(server).cluster(corpus(60), "by problem")
    new = {f"n{n}": text for n, text in enumerate(corpus(240, ("weather", "heat")))}
    whole = agent_of(server, cache=False).update(run, new).usage.total_tokens
    part = agent_of(server, cache=False, budget_tokens=int(whole * share)).update(run, new)
    assert_exact_cover(part)
    assert part.info.corpus is not None
    assert part.info.corpus.by_classifier == 0
    assert part.info.changes is not None
    added = {cluster.name for cluster in part.info.changes.new_clusters}
    said = [note for note in part.notes if "clusters were added" in note]
    assert all(name in said[0] for name in added) if added else not said
    assert any("budget was spent" in note for note in part.notes)


def test_economy_reads_no_more_than_it_said_where_all_is_one(server: FakeOpenAI) -> None:
    texts = corpus(12_000, ("late",))
    agent = agent_of(server)
    expected = agent.estimate(texts, "by problem")
    result = agent.cluster(texts, "by problem")
    assert_exact_cover(result)
    assert result.n_clusters == 1
    assert len(server.requests) <= expected.calls
    assert result.info.corpus is not None
    assert result.info.corpus.by_classifier > 2000


@pytest.mark.parametrize("rounds", [0, 1])
def test_searches_for_missing_clusters_do_not_hang_on_rounds(server: FakeOpenAI, rounds: int) -> None:
    topics = tuple(f"topic {chr(97 + n % 26)}{n}" for n in range(300))
    result = agent_of(server, effort="thorough", rounds=rounds).cluster(corpus(2400, topics), "by problem")
    assert result.n_clusters >= 290


def test_a_division_that_cannot_be_read_leaves_texts_where_they_are(server: FakeOpenAI) -> None:
    texts = corpus(700, ("late", "parcel late", "billing"))

    def fails(role: str, answer: dict[str, Any], call: int) -> Reply:
        prompt = server.requests[call]["messages"][1]["content"]
        if role == "proposer" and "billing:" in prompt:
            _join(answer, "late", "parcel late")
        if role == "critic":
            ids = {name: id for id, name in _clusters_of(prompt)}
            split = {"kind": "split", "clusters": [ids["late"]], "texts": []}
            answer = {"findings": [split], "score": 10, "verdict": "revise"}
        return Reply("garbage" if role == "assigner" else json.dumps(answer))

    server.behaviour = fails
    result = agent_of(server).cluster(texts, "by problem")
    assert_exact_cover(result)
    assert not result.unassigned
    assert {cluster.name: len(cluster.members) for cluster in result.clusters} == {
        "late": 467,
        "billing": 233,
    }


def test_one_pass_without_an_answer_is_left_out(server: FakeOpenAI) -> None:
    texts = corpus(700)
    ordered = [text.text for text in in_drawn_order([Text(id=text, text=text) for text in texts], 1)]
    drawn = draw_batches(ordered, size=100, anchors=20, most=10, seed=0)
    second = {f"[1] {ordered[batch[0]]}" for batch in drawn.batches}

    def fails(role: str, answer: dict[str, Any], call: int) -> Reply:
        lines = server.requests[call]["messages"][1]["content"].splitlines()
        garbage = role == "proposer" and second & set(lines)
        return Reply("garbage" if garbage else json.dumps(answer))

    server.behaviour = fails
    result = agent_of(server, consensus=3).cluster(texts, "by problem")
    assert_exact_cover(result)
    assert result.info.passes == 2
    assert any("1 of the 3 passes did not come to the end" in note for note in result.notes)
