"""Has systems answer tasks: in parallel, each answer kept at once, none asked for twice, within a budget."""

from __future__ import annotations

import hashlib
import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from cluster_r1.benchmark.systems.system import Answer, Panel, Question, System
from cluster_r1.errors import BudgetError, InputError, ModelError
from cluster_r1.json_lines import append_json_lines
from cluster_r1.task import Task
from cluster_r1.types import Record, Text

ANSWERS = "answers.jsonl"


class StoredAnswer(Record):
    """An answer to a task as it is kept, one a line.

    Attributes:
        key: of everything that decides the answer.
        task, system, panel: what was asked of whom.
        asked: of the task's texts and wordings; an answer to a task that has changed since is no answer.
        wording: 0 the instruction, from 1 on its paraphrases.
        shuffle: 0 the texts' own order, from 1 on random orders.
        labels: of each text, in the task's own order; None where it is in no cluster.
        names, reasons, calls, tokens, stop_reason: see `Answer`.
        seconds: it took; None where calls were answered from a cache.
    """

    key: str
    task: str
    asked: str
    system: str
    panel: Panel
    wording: int = 0
    shuffle: int = 0
    labels: tuple[int | None, ...]
    names: Mapping[int, str] = {}
    reasons: tuple[str, ...] = ()
    calls: int = 0
    tokens: int = 0
    seconds: float | None = None
    stop_reason: str = ""


def task_digest(task: Task) -> str:
    """16 hex digits over a task's texts and wordings."""
    return _digest([[[t.id, t.text] for t in task.texts], task.instruction, list(task.paraphrases)])


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, ensure_ascii=False).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Job:
    """One answer that is wanted; see `StoredAnswer`."""

    task: Task
    system: System
    panel: Panel
    wording: int = 0
    shuffle: int = 0
    seed: int = 0

    @property
    def key(self) -> str:
        """16 hex digits over everything that decides the answer."""
        return _digest(
            [
                *(self.task.id, task_digest(self.task), self._instruction, self._k),
                *(self.system.identity, self.panel, self.wording, self.shuffle, self.seed),
            ]
        )

    @property
    def described(self) -> str:
        """As in progress and errors."""
        varied = [f"paraphrase {self.wording}"] * (self.wording > 0)
        varied += [f"order {self.shuffle}"] * (self.shuffle > 0)
        return ", ".join([f"{self.system.name} on {self.task.id}", f"k {self.panel}", *varied])

    @property
    def _instruction(self) -> str:
        return (self.task.instruction, *self.task.paraphrases)[self.wording]

    @property
    def _k(self) -> int | None:
        return self.task.k if self.panel == "given" else None

    def run(self, budget_tokens: int | None) -> tuple[StoredAnswer, int]:
        """The answer, and the tokens that were spent on it now."""
        order = list(range(len(self.task.texts)))
        if self.shuffle:
            random.Random(f"{self.task.id} {self.shuffle}").shuffle(order)
        texts: list[Text] = [self.task.texts[position] for position in order]
        began = time.perf_counter()
        answer = self.system.answer(Question(texts, self._instruction, self._k, self.seed, budget_tokens))
        seconds = time.perf_counter() - began
        return self._stored(answer, order, seconds), answer.spent_tokens

    def _stored(self, answer: Answer, order: Sequence[int], seconds: float) -> StoredAnswer:
        place = {position: number for number, position in enumerate(order)}
        back = [place[position] for position in range(len(order))]
        return StoredAnswer(
            key=self.key,
            task=self.task.id,
            asked=task_digest(self.task),
            system=self.system.name,
            panel=self.panel,
            wording=self.wording,
            shuffle=self.shuffle,
            labels=tuple(answer.labels[number] for number in back),
            names=dict(answer.names),
            reasons=tuple(answer.reasons[number] for number in back) if answer.reasons else (),
            calls=answer.calls,
            tokens=answer.tokens,
            seconds=round(seconds, 3) if answer.fresh else None,
            stop_reason=answer.stop_reason,
        )


def plan(
    tasks: Sequence[Task],
    systems: Sequence[System],
    panels: Sequence[Panel],
    *,
    paraphrases: int | None = None,
    shuffles: int | None = None,
    seed: int = 0,
) -> list[Job]:
    """The answers that are wanted, a corpus after the other, since its tasks share embeddings.

    Args:
        tasks, systems, panels: every combination that a system can take part in.
        paraphrases: wordings besides the instruction, for systems that read it; None for all of them where
            no tokens are spent.
        shuffles: orders besides the texts' own, for systems to which they matter; None for 2 where no tokens
            are spent. Paraphrases and orders are asked with k to be found, if that panel is asked for.
        seed: of whatever is random.
    """
    varied: Panel = "discover" if "discover" in panels else "given"
    jobs = []
    for task in tasks:
        for system in systems:
            for panel in panels:
                if panel not in system.panels:
                    continue
                jobs.append(Job(task, system, panel, seed=seed))
                if panel != varied:
                    continue
                free = not system.spends_tokens
                wordings = len(task.paraphrases) if paraphrases is None and free else (paraphrases or 0)
                orders = 2 if shuffles is None and free else (shuffles or 0)
                if system.reads_instruction:
                    jobs += [
                        Job(task, system, panel, wording=number, seed=seed)
                        for number in range(1, min(wordings, len(task.paraphrases)) + 1)
                    ]
                if system.orders_matter:
                    jobs += [
                        Job(task, system, panel, shuffle=number, seed=seed) for number in range(1, orders + 1)
                    ]
    return jobs


@dataclass(slots=True)
class Outcome:
    """How a run went.

    Attributes:
        asked: jobs that were run now.
        kept: jobs whose answer was there already.
        failed: what went wrong, by job.
        left: jobs that the budget did not cover.
        spent_tokens: now.
    """

    asked: int = 0
    kept: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    left: int = 0
    spent_tokens: int = 0


def run_jobs(
    jobs: Sequence[Job],
    folder: Path,
    *,
    at_once: int = 2,
    budget_tokens: int | None = None,
    on_answer: Callable[[StoredAnswer, int, int], None] | None = None,
) -> Outcome:
    """Run what has no answer in the folder yet; each answer is appended to its `answers.jsonl` as it comes.

    A system that fails on a task is told of at the end, and asked again by the next run. With a budget, jobs
    that spend tokens run one after another, so that the budget cannot be exceeded.

    Args:
        jobs: as of `plan`.
        folder: is made if it is not there.
        at_once: jobs under way.
        budget_tokens: the most that may be spent now, over all jobs.
        on_answer: called with an answer, how many of the jobs are done, and how many there are.
    """
    stored = read_answers(folder)
    missing = [job for job in jobs if job.key not in stored]
    outcome = Outcome(kept=len(jobs) - len(missing))
    purse = _Purse(budget_tokens)
    folder.mkdir(parents=True, exist_ok=True)
    pool = ThreadPoolExecutor(max_workers=at_once)
    try:
        running = {pool.submit(purse.run, job): job for job in missing}
        for future in as_completed(running):
            answer = _settled(future, running[future], outcome)
            if answer is None:
                continue
            append_json_lines(folder / ANSWERS, [answer.model_dump(mode="json")])
            outcome.asked += 1
            if on_answer:
                on_answer(answer, outcome.kept + outcome.asked, len(jobs))
    finally:
        pool.shutdown(cancel_futures=True)
    outcome.spent_tokens = purse.spent
    return outcome


def _settled(future: Future[StoredAnswer], job: Job, outcome: Outcome) -> StoredAnswer | None:
    try:
        return future.result()
    except BudgetError:
        outcome.left += 1
    except (ModelError, InputError) as error:
        outcome.failed[job.described] = str(error)
    return None


class _Purse:
    """The budget that jobs share."""

    def __init__(self, budget_tokens: int | None) -> None:
        self.spent = 0
        self._budget = budget_tokens
        self._one_by_one = threading.Lock()
        self._counting = threading.Lock()

    def run(self, job: Job) -> StoredAnswer:
        limited = self._budget is not None and job.system.spends_tokens
        with self._one_by_one if limited else nullcontext():
            answer, spent = job.run(self._left() if limited else None)
            with self._counting:
                self.spent += spent
        return answer

    def _left(self) -> int:
        assert self._budget is not None
        left = self._budget - self.spent
        if left < 1:
            raise BudgetError("the budget is spent")
        return left


def read_answers(folder: Path) -> dict[str, StoredAnswer]:
    """The answers in a folder, by key. A line that a killed process left unfinished is passed over.

    Raises:
        InputError: the file cannot be read, or a line before the last holds no answer.
    """
    path = folder / ANSWERS
    if not path.exists():
        return {}
    try:
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    return {answer.key: answer for answer in _answers(path, [line for line in lines if line])}


def _answers(path: Path, lines: Sequence[str]) -> Iterator[StoredAnswer]:
    for number, line in enumerate(lines, 1):
        try:
            yield StoredAnswer.model_validate_json(line)
        except ValidationError as error:
            if number < len(lines):
                said = error.errors()[0]["msg"]
                raise InputError(f"{path}, line {number}: no answer ({said}). Remove the line") from error
            _drop_last_line(path, lines)


def _drop_last_line(path: Path, lines: Sequence[str]) -> None:
    """So that the next answer begins on a line of its own."""
    whole = "".join(f"{line}\n" for line in lines[:-1])
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.write_text(whole, encoding="utf-8", newline="\n")
    unfinished.replace(path)
