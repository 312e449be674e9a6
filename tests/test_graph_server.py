"""`langgraph dev` loads the graph, and a run through its HTTP API works."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import EXAMPLES
from tests.fakes.openai_server import FakeOpenAI
from tests.fakes.synthesis_oracle import SynthesisOracle

ROOT = Path(__file__).parent.parent


@pytest.fixture
def dev_server(server: FakeOpenAI, tmp_path: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = json.loads((ROOT / "langgraph.json").read_text())
    (tmp_path / "langgraph.json").write_text(json.dumps({**config, "dependencies": ["."]}))
    (tmp_path / ".env").write_text(f"CLUSTER_R1_MODEL={server.spec}\n")
    program = shutil.which("langgraph", path=str(Path(sys.executable).parent))
    assert program, "langgraph-cli is not installed"
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [program, "dev", "--no-browser", "--no-reload", "--port", str(port)],
            cwd=tmp_path,
            stdout=log,
            stderr=log,
            env=os.environ | {"CLUSTER_R1_CACHE": str(tmp_path / "cache.sqlite")},
        )
        try:
            yield _when_up(f"http://127.0.0.1:{port}", process, tmp_path / "log")
        finally:
            process.terminate()
            process.wait(20)


def test_a_run_through_the_http_api(dev_server: str, server: FakeOpenAI) -> None:
    texts = ["late: a", {"id": "t2", "text": "broken: b"}, "late: c", ""]
    run = {
        "assistant_id": "clustering",
        "input": {"texts": texts, "instruction": "by problem"},
        "context": {"rounds": 1},
    }
    answer = httpx.post(f"{dev_server}/runs/wait", json=run, timeout=60).json()
    assert "clustering" in answer, answer
    members = {c["name"]: c["members"] for c in answer["clustering"]["clusters"]}
    assert members == {"late": ["1", "3"], "broken": ["t2"]}
    assert answer["clustering"]["unassigned"][0]["text_id"] == "4"
    assert answer["stop_reason"] == "accepted"
    assert server.roles_asked() == ["proposer", "critic"]
    drawing = httpx.get(f"{dev_server}/assistants/clustering/graph", timeout=20).json()
    edges = {(edge["source"], edge["target"]) for edge in drawing["edges"]}
    assert edges == {
        ("__start__", "propose"),
        ("propose", "check"),
        ("check", "critique"),
        ("critique", "refine"),
        ("critique", "finalize"),
        ("refine", "check"),
        ("refine", "finalize"),
        ("finalize", "__end__"),
    }


def test_an_attempt_of_a_synthesis_through_the_http_api(dev_server: str, server: FakeOpenAI) -> None:
    oracle = SynthesisOracle.of_file(EXAMPLES / "support_messages.csv")
    server.knows = oracle
    run = {
        "assistant_id": "synthesis",
        "input": {"texts": list(oracle.labels)[:30], "corpus": "mine"},
        "context": {"config": {"texts": [20, 20]}},
    }
    answer = httpx.post(f"{dev_server}/runs/wait", json=run, timeout=60).json()
    assert answer["outcome"]["id"] == "mine-00000-1", answer
    assert len(answer["outcome"]["task"]["texts"]) == 20
    assert set(server.roles_asked()) == {"generator", "verifier", "task_critic", "proposer"}


def _when_up(url: str, process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            if httpx.get(f"{url}/ok", timeout=2).status_code == 200:
                return url
        except httpx.TransportError:
            time.sleep(0.3)
    raise AssertionError(log.read_text())
