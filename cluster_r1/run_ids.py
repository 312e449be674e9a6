"""What a run is known by: ids that are the same for runs that must give the same result."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version

from cluster_r1 import __version__
from cluster_r1.types import Text

_PACKAGES = ("langgraph", "langchain", "langchain-openai", "openai", "pydantic", "scikit-learn", "numpy")


def digest_of(texts: Sequence[Text]) -> str:
    """sha256 over ids and texts, in order."""
    content = json.dumps([[text.id, text.text] for text in texts], ensure_ascii=False)
    return hashlib.sha256(content.encode("utf-8", "replace")).hexdigest()


def run_id_of(*parts: object) -> str:
    """12 hex digits that all of these decide."""
    return hashlib.sha256("\x1f".join(map(str, parts)).encode("utf-8", "replace")).hexdigest()[:12]


@cache
def versions() -> dict[str, str]:
    """Versions of Python, of this package and of those that may change a result."""
    return {
        "cluster-r1": __version__,
        "python": platform.python_version(),
        **{package: version(package) for package in _PACKAGES},
    }
