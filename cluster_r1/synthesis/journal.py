"""The journal of a run: what was decided, slice by slice and in order, so that a killed run goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from cluster_r1.errors import InputError
from cluster_r1.graphs.synthesis.outcome import Outcome

JOURNAL = "journal.jsonl"

_FORMAT = 1


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
        header = {"format": _FORMAT, "run_id": run_id(identity), **identity}
        held = next(read_lines(self.path), None)
        if held is not None and held.get("run_id") != header["run_id"] and not overwrite:
            self._file.close()
            raise InputError(
                f"{folder} holds another run ({_difference(held, header)} differ). Choose another folder "
                "(--out), or replace it with --overwrite (overwrite=True)"
            )
        if held is None or held.get("run_id") != header["run_id"]:
            self._file.truncate(0)
            self._write(header)
        else:
            self._file.truncate(_whole_bytes(self.path))

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
    for line in lines:
        yield [Outcome.model_validate(attempt) for attempt in line["attempts"]]


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a journal.

    Raises:
        InputError: one in the middle is no JSON.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            try:
                yield json.loads(line)
            except ValueError as error:
                raise InputError(
                    f"{path}, line {number}: no JSON ({error}). Begin anew with --overwrite: answers are in "
                    "the cache"
                ) from error


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
    """Bytes up to the end of the last whole line."""
    return path.read_bytes().rfind(b"\n") + 1


def _difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    names = [name for name in other if name not in ("run_id",) and one.get(name) != other[name]]
    return ", ".join(names) or "its options"
