"""The equal two-step job, two chat calls a row, the second fed by the first: rows, memory, report.

Nothing of this project is imported here, since the rivals run in environments of their own.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WRITER = "You write an instruction for grouping texts."
CHECKER = "You check an instruction."

WORDS = ("river", "engine", "garden", "letter", "market", "window", "planet", "doctor", "silver", "ticket")
LINES_PER_ROW = 12
WORDS_PER_LINE = 8
CALLS_PER_ROW = 2
ANSWER_SECONDS = 0.2
POLL_SECONDS = 0.2
PAGES_TO_MB = os.sysconf("SC_PAGE_SIZE") / 1e6


@dataclass
class PeakMemory:
    """The most resident memory that this process and all below it had together at any poll."""

    megabytes: float = 0.0
    _over: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        """Poll until told that it's over."""
        while not self._over.wait(POLL_SECONDS):
            self.megabytes = max(self.megabytes, sum(map(_resident_mb, _family(os.getpid()))))

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Poll for the length of a block."""
        thread = threading.Thread(target=self.watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()


def _family(root: int) -> set[int]:
    """A process and all below it."""
    parents = {int(path.name): _parent(path) for path in Path("/proc").iterdir() if path.name.isdigit()}
    family = {root}
    while young := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= young
    return family


def _parent(process: Path) -> int:
    """The parent of a process, or 0 for one that has just ended."""
    try:
        # The name, in parentheses, may hold spaces and parentheses itself.
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _resident_mb(pid: int) -> float:
    """Resident memory of a process, or 0 for one that has just ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGES_TO_MB
    except OSError:
        return 0.0


def make_rows(count: int) -> list[dict[str, Any]]:
    """Rows of short lines, different in each row and the same in each run."""
    return [{"row": row, "texts": _texts(random.Random(row))} for row in range(count)]


def _texts(dice: random.Random) -> str:
    return "\n".join(" ".join(dice.choices(WORDS, k=WORDS_PER_LINE)) for _ in range(LINES_PER_ROW))


def report(system: str, rows: int, slots: int, seconds: float, memory: PeakMemory, complete: int) -> None:
    """Print the measurement as a line of JSON."""
    ideal = rows * CALLS_PER_ROW * ANSWER_SECONDS / slots
    measured = {
        "system": system,
        "rows": rows,
        "seconds": round(seconds, 2),
        "rows_per_s": round(rows / seconds, 1),
        "of_ideal": round(ideal / seconds, 2),
        "peak_rss_mb": round(memory.megabytes),
        "complete": complete,
    }
    print(json.dumps(measured), flush=True)


def run_from_command_line(description: str | None, run: Callable[[str, int, int], None]) -> None:
    """Read the address, the number of rows and of slots, and run."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", required=True, help="of the server, with /v1")
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--slots", type=int, default=64, help="calls under way at once, over both steps")
    arguments = parser.parse_args()
    run(arguments.url, arguments.rows, arguments.slots)
