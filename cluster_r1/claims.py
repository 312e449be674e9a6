"""Keeps one run's folder from another run: who holds it, from the first call to the finished files."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from cluster_r1.errors import InputError
from cluster_r1.run_folder import (
    ASSIGNMENTS,
    CLUSTERS,
    EDITS,
    RUN,
    TRACE,
    UNEDITED,
    read_json,
    recorded_lines,
    write_whole,
)

CLAIM = ".unfinished"
"""Holds the id of the run that is to finish the folder; gone when `run.json` is there."""


def refuse_taken(folder: Path, run_id: str, *, overwrite: bool) -> None:
    """Raise an InputError where the folder holds another run, or files that a run would replace."""
    if overwrite:
        return
    holder = _holder(folder)
    remedy = "Choose another folder (--out), or replace it with --overwrite (overwrite=True)"
    if holder is not None:
        if holder != run_id and (folder / EDITS).exists():
            raise InputError(
                f"{folder} holds a run that was changed by hand. Choose another folder (--out); --overwrite "
                "(overwrite=True) would discard the changes"
            )
        if holder != run_id:
            raise InputError(f"{folder} holds another run (other texts, instruction or options). {remedy}")
        return
    foreign = [name for name in (ASSIGNMENTS, CLUSTERS) if (folder / name).exists()]
    if foreign:
        raise InputError(f"{folder} holds a file {foreign[0]} that is of no run. {remedy}")


def claim(folder: Path, run_id: str, *, overwrite: bool) -> None:
    """Make the folder and note whose it is, until `release`.

    Raises:
        InputError: it cannot be made, is taken, or another process works in it.
    """
    refuse_taken(folder, run_id, overwrite=overwrite)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        taken_over = _holder(folder) not in (None, run_id)
    except OSError as error:
        raise InputError(
            f"{folder} cannot be made: {error.strerror}. Choose another folder (--out)"
        ) from error
    _lock(folder)
    refuse_taken(folder, run_id, overwrite=overwrite)  # again: another process may have finished meanwhile
    write_whole(folder / CLAIM, run_id)
    if taken_over:
        for path in (folder / RUN, folder / TRACE, *stopped_traces(folder)):
            path.unlink(missing_ok=True)
        forget_edits(folder)


def forget_edits(folder: Path) -> None:
    """Remove the record of edits, and the run as it was before them."""
    (folder / EDITS).unlink(missing_ok=True)
    shutil.rmtree(folder / UNEDITED, ignore_errors=True)


def release(folder: Path) -> None:
    """The run is finished: `run.json` says from now on whose the folder is."""
    (folder / CLAIM).unlink(missing_ok=True)
    _unlock(folder)


@contextmanager
def only_this_process(folder: Path) -> Iterator[None]:
    """Keep other processes out of a folder for the length of a block.

    Raises:
        InputError: there is no such folder, or another process works in it.
    """
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}. Name the folder of a run")
    _lock(folder)
    try:
        yield
    finally:
        _unlock(folder)


_locks: dict[Path, int] = {}
"""Folders that this process works in, each with the open descriptor that holds its lock."""


def _lock(folder: Path) -> None:
    """Keep other processes out, until `release` or the end of this one, however it ends."""
    try:
        import fcntl
    except ImportError:  # Windows: two processes in one folder are not noticed there
        return
    if folder.resolve() in _locks:
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise InputError(
            f"another process is working in {folder}. Wait for it, or work in another folder"
        ) from None
    _locks[folder.resolve()] = descriptor


def _unlock(folder: Path) -> None:
    held = _locks.pop(folder.resolve(), None)
    if held is not None:
        os.close(held)


def keep_stopped_trace(folder: Path) -> None:
    """Rename the trace of an attempt that did not finish to `trace.<n>.jsonl`, before it is begun anew."""
    trace = folder / TRACE
    if (folder / RUN).exists() or not trace.is_file() or not trace.stat().st_size:
        return
    trace.rename(next(path for path in map(folder.joinpath, _stopped_names()) if not path.exists()))


def stopped_traces(folder: Path) -> list[Path]:
    """The traces of attempts that did not finish, the oldest first."""
    found: list[Path] = []
    for name in _stopped_names():
        if not (folder / name).exists():
            return found
        found.append(folder / name)
    return found


def _stopped_names() -> map[str]:
    return map("trace.{}.jsonl".format, count(1))


def _holder(folder: Path) -> str | None:
    """The id of the run that the folder holds; empty where it cannot be told, None where it holds none."""
    if (folder / EDITS).exists():
        return _edited(folder)
    try:
        if not (folder / RUN).exists():
            return (folder / CLAIM).read_text(encoding="utf-8")
        held = read_json(folder / RUN)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InputError(
            f"{folder} cannot be read: {error.strerror}. Choose another folder (--out)"
        ) from error
    except InputError:
        return ""
    return str(held.get("run_id", "")) if isinstance(held, dict) else ""


def _edited(folder: Path) -> str:
    """The id of an edited run; empty where an edit is recorded that its `run.json` does not know yet."""
    try:
        held = read_json(folder / RUN)
        known = held["edits"]
        edits = [json.loads(line) for line in recorded_lines(folder)]
    except (InputError, ValueError, KeyError, TypeError):
        return ""
    return str(held.get("run_id", "")) if known[len(known) - len(edits) :] == edits else ""
