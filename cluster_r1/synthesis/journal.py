"""The journal of a run: what was decided, slice by slice and in order, so that a killed run goes on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from pydantic import ValidationError

from cluster_r1.errors import InputError
from cluster_r1.graphs.synthesis.outcome import Outcome

JOURNAL = "journal.jsonl"

_FORMAT = 1
_BLOCK = 1 << 16


class Journal:
    """One line says whose run it is, and one more for each slice what became of its attempts.

    The file is held by one process at a time. A line that was cut off is taken away when it is opened.

    Args:
        folder: of the run.
        identity: all that decides what comes out; another run's journal is not continued.
        overwrite: begin anew where the folder holds another run.

    Raises:
        InputError: the folder cannot be used, holds another run, or another process works in it.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any], *, overwrite: bool = False) -> None:
        self.path = folder / JOURNAL
        self._file = _open(self.path)
        self.begun_anew = overwrite or not self.path.stat().st_size
        header = {"format": _FORMAT, "run_id": run_id(identity), **identity}
        if not self.begun_anew:
            self.begun_anew = not self._continues(header, folder)
        if self.begun_anew:
            self._file.truncate(0)
            self._write(header)

    def _continues(self, header: Mapping[str, Any], folder: Path) -> bool:
        """Whether the file is this run's; False where nothing whole stands in it."""
        try:
            held = next(read_lines(self.path), None)
            if held is None:
                return False
            if held.get("run_id") != header["run_id"]:
                raise InputError(
                    f"{folder} holds another run ({_difference(held, header)} differ). Choose another folder "
                    "(--out), or replace it with --overwrite (overwrite=True)"
                )
        except InputError:
            self._file.close()
            raise
        self._file.truncate(_whole_bytes(self.path))
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def append(self, outcomes: Sequence[Outcome]) -> None:
        """Enter the next slice, durably against a killed process."""
        self._write({"attempts": [outcome.model_dump(mode="json") for outcome in outcomes]})

    def slices(self) -> Iterator[list[Outcome]]:
        """What became of the slices, in order."""
        return read_slices(self.path)

    def _write(self, record: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(record, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
        self._file.flush()


def run_id(identity: Mapping[str, Any]) -> str:
    """12 hex digits, the same for runs that must come to the same."""
    content = json.dumps(identity, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(content.encode("utf-8", "replace")).hexdigest()[:12]


def read_slices(path: Path) -> Iterator[list[Outcome]]:
    """The attempts of each slice of a journal, in order.

    Raises:
        InputError: a line is no such record.
    """
    lines = read_lines(path)
    next(lines, None)
    for number, line in enumerate(lines, 2):
        try:
            yield [Outcome.model_validate(attempt) for attempt in line["attempts"]]
        except (KeyError, TypeError, ValidationError) as error:
            raise _unreadable(path, number, "no attempts") from error


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a journal.

    Raises:
        InputError: one is no JSON object.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            try:
                found = json.loads(line)
            except ValueError as error:
                raise _unreadable(path, number, "no JSON") from error
            if not isinstance(found, dict):
                raise _unreadable(path, number, "no JSON object")
            yield found


def _unreadable(path: Path, number: int, what: str) -> InputError:
    return InputError(
        f"{path}, line {number}: {what}. Begin anew with --overwrite (overwrite=True): answers are kept"
    )


def _open(path: Path) -> IO[bytes]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
    except OSError as error:
        raise InputError(
            f"{path.parent} cannot be used: {error.strerror}. Choose another folder (--out)"
        ) from error
    try:
        import fcntl
    except ImportError:  # Windows: two runs in one folder are not noticed there
        return file
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise InputError(
            f"another process is working in {path.parent}. Wait for it, or choose another folder (--out)"
        ) from None
    return file


def _whole_bytes(path: Path) -> int:
    """Bytes up to the end of the last whole line, looked for from the end."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - _BLOCK)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            end = start
    return 0


def _difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    names = [name for name in other if name not in ("run_id",) and one.get(name) != other[name]]
    return ", ".join(names) or "its options"
