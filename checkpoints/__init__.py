"""What this project trained and ships: the scorer, an adapter of SmolLM2-135M-Instruct, with its card."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

ADAPTER, WORDS, CARD = "adapter.gguf", "words.txt", "README.md"


def scorer_folder() -> Path:
    """The folder of the shipped scorer."""
    return Path(str(resources.files("cluster_r1.checkpoints"))) / "scorer"
