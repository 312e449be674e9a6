"""What all tests share: the fake model server, and an environment of their own."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.openai_server import FakeOpenAI, running_server

# Two threads on two busy cores can be ten times slower than one.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TOKENIZERS_PARALLELISM"):
    os.environ.setdefault(_name, "false" if _name.startswith("TOK") else "1")

# A shell that starts the suite in the background has SIGINT ignored, which its child processes would inherit.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture(autouse=True)
def own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No keys, no tracing, and a cache that nobody else has."""
    for name in list(os.environ):
        if name.startswith(("OPENAI_", "ANTHROPIC_", "LANGSMITH_", "LANGCHAIN_", "CLUSTER_R1_", "VLLM_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("CLUSTER_R1_CACHE", str(tmp_path / "answers.sqlite"))


@pytest.fixture(scope="session")
def running_fake() -> Iterator[FakeOpenAI]:
    with running_server() as server:
        yield server


@pytest.fixture
def server(running_fake: FakeOpenAI) -> FakeOpenAI:
    """The fake model server, as new."""
    running_fake.reset()
    return running_fake
