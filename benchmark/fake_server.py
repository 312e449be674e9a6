"""The tests' fake model server in a process of its own, for what measures this project's own time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent


@contextmanager
def fake_server(latency: float, *options: str) -> Iterator[str]:
    """A server that answers after so many seconds, for the length of a block; yields its address.

    It is started from the repository's root, where the tests are.
    """
    command = [sys.executable, "-m", "tests.fakes.openai_server", "--latency", str(latency), *options]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.kill()
