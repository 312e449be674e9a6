"""The response cache: answers of models in one SQLite file, so that no finished call is made twice."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cluster_r1.agents.models.messages import ChatAnswer, ChatRequest
from cluster_r1.errors import InputError

_log = logging.getLogger(__name__)

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, model TEXT NOT NULL, answer TEXT NOT NULL)"
)


def default_cache_path() -> Path:
    """`$CLUSTER_R1_CACHE`, else `cluster-r1/answers.sqlite` in the user's cache folder."""
    if named := os.environ.get("CLUSTER_R1_CACHE"):
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "cluster-r1" / "answers.sqlite"


def request_key(model: str, parameters: dict[str, Any], request: ChatRequest) -> str:
    """sha256 over everything that decides the answer: model, parameters, messages, schema, sample."""
    content = [model, parameters, request.messages, request.schema, request.sample]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class ResponseCache:
    """Answers by request key. Only finished calls are stored, at once and durably against a killed process.

    The file is made readable to its owner alone, since answers quote texts. A damaged file is set aside
    and begun anew.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._connection = self._open()

    def get(self, key: str) -> ChatAnswer | None:
        """The stored answer, marked as cached, or None."""
        with self._lock:
            try:
                row = self._connection.execute("SELECT answer FROM answers WHERE key = ?", (key,)).fetchone()
            except sqlite3.OperationalError as error:
                _log.warning("%s cannot be read (%s): asking the model", self.path, error)
                return None
            except sqlite3.DatabaseError as error:
                self._begin_anew(error)
                return None
        return ChatAnswer(**{**json.loads(row[0]), "cached": True}) if row else None

    def put(self, key: str, model: str, answer: ChatAnswer) -> None:
        """Store a finished call."""
        row = (key, model, json.dumps(asdict(answer)))
        with self._lock:
            try:
                self._insert(row)
            except sqlite3.OperationalError as error:  # a full disk or a lock: the answer itself is not lost
                _log.warning(
                    "%s: an answer could not be kept (%s); it will be asked for again", self.path, error
                )
            except sqlite3.DatabaseError as error:
                self._begin_anew(error)
                self._insert(row)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def _insert(self, row: tuple[str, str, str]) -> None:
        with self._connection:
            self._connection.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", row)

    def _open(self) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.touch(mode=0o600, exist_ok=True)
            return self._connect()
        except (OSError, sqlite3.OperationalError) as error:
            raise InputError(
                f"the cache {self.path} cannot be opened: {error}. Name another file in CLUSTER_R1_CACHE"
            ) from error
        except sqlite3.DatabaseError as error:
            self._set_aside(error)
            return self._connect()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=30, check_same_thread=False)
        # WAL with NORMAL survives a killed process; only a power cut can lose the last answers.
        _when_unlocked(lambda: connection.execute("PRAGMA journal_mode = WAL"))
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(_SCHEMA)
        return connection

    def _begin_anew(self, error: sqlite3.DatabaseError) -> None:
        """Called with the lock held."""
        self._connection.close()
        self._set_aside(error)
        self._connection = self._connect()

    def _set_aside(self, error: sqlite3.DatabaseError) -> None:
        damaged = self.path.with_name(self.path.name + ".damaged")
        _log.warning(
            "%s is damaged (%s): moved to %s, begun anew; calls are made again",
            self.path,
            error,
            damaged.name,
        )
        self.path.replace(damaged)
        for ending in ("-wal", "-shm"):
            self.path.with_name(self.path.name + ending).unlink(missing_ok=True)
        self.path.touch(mode=0o600)


def _when_unlocked(action: Callable[[], object], patience: float = 30.0) -> None:
    """Do what SQLite refuses at once while another process has the file locked, as soon as it is free."""
    deadline = time.monotonic() + patience
    while True:
        try:
            action()
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(0.02)
