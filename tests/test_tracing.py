"""A run appears as one tree, in LangSmith and in trace.jsonl."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cluster_r1 import ClusteringAgent
from cluster_r1.prompts import load_template
from tests.conftest import EXAMPLES
from tests.fakes.langsmith_server import FakeLangSmith, Run, running_langsmith
from tests.fakes.openai_server import FakeOpenAI
from tests.fakes.synthesis_oracle import SynthesisOracle

TEXTS = ["late: a", "late: b", "broken: c", "broken: d"]
SECRET = "top-secret-key-0123456789"


@contextmanager
def tracing() -> Iterator[tuple[FakeLangSmith, dict[str, str]]]:
    """A LangSmith, and the variables that send traces there."""
    with running_langsmith() as langsmith:
        yield (
            langsmith,
            {
                "LANGSMITH_TRACING": "true",
                "LANGSMITH_ENDPOINT": langsmith.url,
                "LANGSMITH_API_KEY": SECRET,
                "LANGSMITH_PROJECT": "clusters",
                "VLLM_API_KEY": SECRET,
            },
        )


@pytest.fixture
def traced(server: FakeOpenAI, tmp_path: Path) -> FakeLangSmith:
    """A finished run of the command line with the LangSmith variables set."""
    finding = {"kind": "rename", "clusters": ["C1"], "texts": [1], "comment": "unclear"}
    server.critiques = [{"findings": [finding], "score": 50, "verdict": "revise"}]
    server.edits = [{"kind": "rename", "clusters": ["C1"], "texts": [], "name": "delayed"}]
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    with tracing() as (langsmith, variables):
        command = [sys.executable, "-m", "cluster_r1", "cluster", "texts.txt", "--by", "problem"]
        subprocess.run(
            [*command, "--model", server.spec, "--out", "run"],
            cwd=tmp_path,
            env=os.environ | variables,
            check=True,
            capture_output=True,
        )
        return langsmith


def test_langsmith_gets_one_tree_with_named_nodes(traced: FakeLangSmith) -> None:
    (root,) = traced.roots()
    assert root["name"].startswith("cluster/")
    assert root["session_name"] == "clusters"
    nodes = traced.children(root)
    assert [node["name"] for node in nodes] == [
        "propose",
        "check",
        "critique",
        "refine",
        "check",
        "critique",
        "finalize",
    ]
    roles = [call["name"] for node in nodes for call in traced.children(node)]
    assert roles == ["proposer", "critic", "refiner", "critic"]


def test_langsmith_gets_a_tree_for_each_attempt_of_a_synthesis(server: FakeOpenAI, tmp_path: Path) -> None:
    server.knows = SynthesisOracle.of_file(EXAMPLES / "support_messages.csv")
    command = [sys.executable, "-m", "cluster_r1", "synthesize", str(EXAMPLES / "support_messages.csv")]
    options = ["--tasks", "1", "--model", server.spec, "--out", "made", "--sequential"]
    with tracing() as (langsmith, variables):
        subprocess.run([*command, *options], cwd=tmp_path, env=os.environ | variables, check=True)
        roots = {root["name"]: root for root in langsmith.roots()}
        first = roots["synthesis/support_messages-00000-1"]
        nodes = langsmith.children(first)
        assert [node["name"] for node in nodes] == [
            "sample",
            "generate",
            "screen",
            "verify",
            "critique",
            "distill",
            "write",
        ]
        roles = {call["name"] for node in nodes for call in langsmith.children(node)}
        assert roles == {"generator", "verifier", "critic", "teacher"}
        assert first["extra"]["metadata"]["task_id"] == "support_messages-00000-1"
    for path in (tmp_path / "made").rglob("*"):
        assert not path.is_file() or SECRET not in path.read_text()


def test_each_call_says_role_template_round_model_and_tokens(traced: FakeLangSmith) -> None:
    calls = [run for run in traced.runs.values() if run["run_type"] == "llm"]
    rounds = {}
    for call in calls:
        metadata = call["extra"]["metadata"]
        template = load_template(f"clustering/{call['name']}")
        assert f"role:{call['name']}" in call["tags"]
        assert (metadata["template"], metadata["template_sha256"]) == (template.id, template.sha256)
        assert metadata["model"].startswith("vllm:fake@")
        assert _tokens(call) > 0
        rounds.setdefault(call["name"], []).append(metadata["round"])
    assert {name: sorted(numbers) for name, numbers in rounds.items()} == {
        "proposer": [0],
        "critic": [0, 1],
        "refiner": [1],
    }


def test_no_key_reaches_the_traces(traced: FakeLangSmith, tmp_path: Path) -> None:
    assert traced.raw
    assert all(SECRET.encode() not in body for body in traced.raw)
    assert SECRET not in (tmp_path / "run" / "trace.jsonl").read_text()


def test_the_local_trace_is_the_same_tree_and_the_command_shows_it(
    traced: FakeLangSmith, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "cluster_r1", "trace", "run"]
    shown = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    position = -1
    for name in ("propose", "proposer", "check", "critique", "critic", "refine", "refiner", "finalize"):
        position = shown.index(name, position + 1)
    assert "4 model calls, 0 of them cached" in shown
    assert "tokens in" in shown
    full = subprocess.run(
        [*command, "--prompts"], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    assert "You group texts" in full
    assert "says late" in full


def test_cached_calls_stand_in_the_trace_and_cost_nothing(server: FakeOpenAI, tmp_path: Path) -> None:
    agent = ClusteringAgent(server.spec, cache=tmp_path / "cache.sqlite")
    agent.cluster(TEXTS, "problem")
    calls = [record for record in agent.cluster(TEXTS, "problem").trace if record["type"] == "llm"]
    assert [call["name"] for call in calls] == ["proposer", "critic"]
    assert all(call["outputs"]["cached"] and call["usage"] is None for call in calls)


def test_a_failed_call_leaves_its_error_in_the_trace(server: FakeOpenAI, tmp_path: Path) -> None:
    server.behaviour, server.roles = "bad_key", ("critic",)
    result = ClusteringAgent(server.spec, cache=False).cluster(TEXTS, "problem")
    (failed,) = [record for record in result.trace if record["error"]]
    assert failed["name"] == "critic"
    assert "401" in failed["error"]
    assert "sk-test" not in failed["error"]


def _tokens(call: Run) -> int:
    message = call["outputs"]["generations"][0][0]["message"]
    return int(message["kwargs"]["usage_metadata"]["total_tokens"])
