"""Any other system: a command that reads texts as JSONL and writes labels as JSONL."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from cluster_r1.benchmark.systems.system import Answer, Panel, Question
from cluster_r1.errors import InputError, ModelError

_SECONDS = 3600  # a task may take
_PLACES = re.compile(r"\{instruction\}|\{k\}")


class ExternalCommand:
    """Asks a program.

    It reads `{"id", "text"}` a line on standard input and writes `{"id", "label"}` a line on standard output;
    a text that it leaves out is unassigned. `{instruction}` and `{k}` in the command are replaced (k is empty
    where it is to be found), and both are in the environment as `CLUSTER_R1_INSTRUCTION` and `CLUSTER_R1_K`.
    No shell is involved.

    Args:
        name: as in tables.
        command: as on a command line.

    Raises:
        InputError: there is no such program.
    """

    panels: frozenset[Panel] = frozenset({"given", "discover"})
    reads_instruction = orders_matter = True
    spends_tokens = False

    def __init__(self, name: str, command: str) -> None:
        try:
            self._words = shlex.split(command)
        except ValueError as error:
            raise InputError(f"{name}: the command {command!r} cannot be read: {error}") from None
        if not self._words or shutil.which(self._words[0]) is None:
            raise InputError(f"{name}: there is no program {command!r} here. Give a path that can be run")
        self.name = name
        self.identity = " ".join([name, command, *map(_digest, self._words)])

    def answer(self, question: Question) -> Answer:
        """See `System.answer`."""
        k = str(question.k or "")
        words = [
            word.replace("{instruction}", question.instruction).replace("{k}", k) for word in self._words
        ]
        given = "".join(json.dumps({"id": t.id, "text": t.text}) + "\n" for t in question.texts)
        environment = {
            **os.environ,
            "CLUSTER_R1_INSTRUCTION": question.instruction,
            "CLUSTER_R1_K": k,
        }
        try:
            done = subprocess.run(
                words,
                input=given,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                env=environment,
                timeout=_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ModelError(f"{self.name}: {error}") from error
        if done.returncode:
            said = " ".join(done.stderr.split())[-300:]
            raise ModelError(f"{self.name} ended with code {done.returncode}: {said}")
        labels = dict(self._labels(done.stdout, {text.id for text in question.texts}))
        numbers = {label: number for number, label in enumerate(dict.fromkeys(labels.values()))}
        return Answer(
            labels=[numbers[labels[t.id]] if t.id in labels else None for t in question.texts],
            names={number: label for label, number in numbers.items()},
        )

    def _labels(self, written: str, known: set[str]) -> Iterator[tuple[str, str]]:
        for number, line in enumerate(written.split("\n"), 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                id, label = str(row["id"]), row["label"]
            except (ValueError, KeyError, TypeError):
                raise ModelError(
                    f'{self.name} wrote {line[:80]!r} as line {number}: {{"id", "label"}} is expected'
                ) from None
            if id not in known:
                raise ModelError(f"{self.name} labels the text {id!r}, which it was not given")
            if label is not None:
                yield id, str(label)


def _digest(word: str) -> str:
    """Of the file that a word of a command names, so that a program that has changed is another system."""
    path = Path(word)
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12] if path.is_file() else ""
