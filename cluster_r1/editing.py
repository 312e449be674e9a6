"""Edits of a saved run: each is written down before it is carried out, and can be undone and replayed."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from cluster_r1.claims import forget_edits, only_this_process
from cluster_r1.edits import Edit, changes_of
from cluster_r1.errors import InputError
from cluster_r1.result import ClusteringResult
from cluster_r1.run_folder import ASSIGNMENTS, CLUSTERS, EDITS, RUN, UNEDITED, recorded_lines, write_whole


def edit_run(folder: Path, edits: Sequence[Edit]) -> ClusteringResult:
    """Carry out edits on a saved run: all of them, or none.

    Raises:
        InputError: the folder holds no run, another process works in it, or an edit cannot be carried out.
    """
    with only_this_process(folder):
        before = edited_run(folder)
        result = before.edit(*edits)
        new = result.info.edits[len(before.info.edits) :]
        _write(folder, result, [*recorded_edits(folder), *new])
    return result


def edited_run(folder: Path) -> ClusteringResult:
    """The run with all edits that were written down, also those that a killed process did not carry out.

    Raises:
        InputError: the folder holds no run that can be read.
    """
    edits = recorded_edits(folder)
    return _unedited(folder).edit(*edits) if edits else _unedited(folder)


def mended_run(folder: Path) -> ClusteringResult:
    """`edited_run`, after its files were written anew if a stopped process left them as they were.

    Raises:
        InputError: the folder holds no run that can be read, or another process works in it.
    """
    with only_this_process(folder):
        result = edited_run(folder)
        if recorded_edits(folder):
            result.write(folder)
    return result


def undo_edit(folder: Path) -> tuple[ClusteringResult, tuple[Edit, ...]]:
    """Take the last change back; gives the run without it, and the edits that it was made of.

    Raises:
        InputError: there is none, or another process works in the folder.
    """
    with only_this_process(folder):
        changes = changes_of(recorded_edits(folder))
        if not changes:
            raise InputError(f"{folder} has no change that could be undone")
        kept = [edit for change in changes[:-1] for edit in change]
        result = _unedited(folder).edit(*kept) if kept else _unedited(folder)
        _write(folder, result, kept)
        if not kept:
            forget_edits(folder)
    return result, changes[-1]


def recorded_edits(folder: Path) -> list[Edit]:
    """The edits that were made in this folder, in order.

    Raises:
        InputError: they cannot be read.
    """
    path = folder / EDITS
    return [_edit(path, number, line) for number, line in enumerate(recorded_lines(folder), 1)]


def _edit(path: Path, number: int, line: str) -> Edit:
    try:
        return Edit.model_validate_json(line)
    except ValueError as error:
        raise InputError(f"{path}, line {number} is no edit: {error}") from error


def _unedited(folder: Path) -> ClusteringResult:
    kept = folder / UNEDITED
    return ClusteringResult.load(kept if kept.exists() else folder)


def _write(folder: Path, result: ClusteringResult, edits: Sequence[Edit]) -> None:
    """Keep the run as it was, write the edits down, then the files that they lead to."""
    _keep_unedited(folder)
    write_whole(folder / EDITS, "".join(edit.model_dump_json() + "\n" for edit in edits))
    try:
        result.write(folder)
    except InputError as error:
        raise InputError(
            f"the edit is recorded, but {error.__cause__ or error}. Make room: "
            f"`cluster-r1 edit {folder} log` carries it out"
        ) from error


def _keep_unedited(folder: Path) -> None:
    """Copy the files of the run before the first edit: all of them or, if the process is killed, none."""
    if (folder / UNEDITED).exists():
        return
    draft = folder / f".{UNEDITED}"
    shutil.rmtree(draft, ignore_errors=True)  # of a process that was killed
    try:
        draft.mkdir()
        for name in (ASSIGNMENTS, CLUSTERS, RUN):
            shutil.copy2(folder / name, draft / name)
        draft.rename(folder / UNEDITED)
    except OSError as error:
        raise InputError(f"{folder} cannot be edited: {error.strerror}. Nothing was changed") from error
