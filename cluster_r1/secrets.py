"""Keeps keys out of everything that is written or shown."""

from __future__ import annotations

import os
import re

_NAMES = re.compile(r"(?:_|^)(?:API_?KEY|TOKEN|SECRET|PASSWORD|ACCESS_KEY)$", re.IGNORECASE)
# Shapes of keys of the usual providers, and authorisation headers, for keys that are in no variable.
_SHAPES = re.compile(
    r"\b(?:sk|pk|rk|xai|gsk|hf|lsv2|ls_|nvapi|pplx|AIza)[-_][A-Za-z0-9_\-*.]{8,}|\bAIza[A-Za-z0-9_\-]{20,}"
    r"|(?<=Bearer )[A-Za-z0-9_\-.=]{8,}"
)
_SHORTEST = 8  # a shorter value is a placeholder such as "EMPTY", and would hit ordinary words
HIDDEN = "[hidden]"


def redact(text: str) -> str:
    """The text with the values of key-like environment variables, and what looks like a key, hidden."""
    return _SHAPES.sub(HIDDEN, redact_values(text))


def redact_values(text: str) -> str:
    """The text with the values of key-like environment variables hidden; for text that is user data."""
    for value in secret_values():
        text = text.replace(value, HIDDEN)
    return text


def secret_values() -> list[str]:
    """The values of environment variables whose name says key, token, secret or password."""
    found = {v for name, v in os.environ.items() if _NAMES.search(name) and len(v) >= _SHORTEST}
    return sorted(found, key=len, reverse=True)
