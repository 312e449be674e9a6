"""Has systems answer tasks: in parallel, each answer kept at once, none asked for twice, within a budget."""

from __future__ import annotations

import hashlib
import json
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from cluster_r1.benchmark.systems.system import Answer, Panel, Question, System
from cluster_r1.errors import BudgetError, ClusterR1Error, InputError, ModelError
from cluster_r1.json_lines import append_json_lines
from cluster_r1.task import Task
from cluster_r1.types import Record, Text

ANSWERS = "answers.jsonl"


class StoredAnswer(Record):
    """An answer to a task as it is kept, one a line.

    Attributes:
        key: of everything that decides the answer.
        task, system, panel: what was asked of whom.
        identity, seed: of the system; a folder has answers of one identity and seed under a name.
        asked: of the task's texts and wordings, and of k where it was given; an answer to a task that has
            changed since is no answer.
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
    identity: str
    seed: int = 0
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


def task_digest(task: Task, panel: Panel) -> str:
    """16 hex digits over what of a task can decide an answer in a panel."""
    texts = [[text.id, text.text] for text in task.texts]
    k = task.k if panel == "given" else None
    return _digest([texts, task.instruction, list(task.paraphrases), k])


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
                *(self.task.id, task_digest(self.task, self.panel), self._instruction),
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

    def run(self, budget_tokens: int | None) -> tuple[StoredAnswer, Answer]:
        """The answer as it is stored, and as the system gave it.

        Raises:
            ModelError: the system failed, or did not answer for each text.
            BudgetError: the budget does not cover the first call.
        """
        order = list(range(len(self.task.texts)))
        if self.shuffle:
            random.Random(f"{self.task.id} {self.shuffle}").shuffle(order)
        texts: list[Text] = [self.task.texts[position] for position in order]
        began = time.perf_counter()
        answer = self.system.answer(Question(texts, self._instruction, self._k, self.seed, budget_tokens))
        seconds = time.perf_counter() - began
        if len(answer.labels) != len(texts) or len(answer.reasons) not in (0, len(texts)):
            raise ModelError(f"{self.system.name} gave {len(answer.labels)} labels for {len(texts)} texts")
        return self._stored(answer, order, seconds), answer

    def _stored(self, answer: Answer, order: Sequence[int], seconds: float) -> StoredAnswer:
        place = {position: number for number, position in enumerate(order)}
        back = [place[position] for position in range(len(order))]
        return StoredAnswer(
            key=self.key,
            task=self.task.id,
            asked=task_digest(self.task, self.panel),
            system=self.system.name,
            identity=self.system.identity,
            seed=self.seed,
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
        spent_tokens: now, at most.
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
    _end_last_line(folder / ANSWERS)
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
    except ClusterR1Error as error:
        outcome.failed[job.described] = str(error)
    except Exception as error:  # noqa: BLE001  a system may be anybody's, and the others have to go on
        outcome.failed[job.described] = f"{type(error).__name__}: {error}"
    return None


class _Purse:
    """The budget that jobs share."""

    def __init__(self, budget_tokens: int | None) -> None:
        self.spent = 0
        self._budget = budget_tokens
        self._one_by_one = threading.Lock()
        self._counting = threading.Lock()

    def run(self, job: Job) -> StoredAnswer:
        if self._budget is None or not job.system.spends_tokens:
            return self._counted(*job.run(None))
        with self._one_by_one:
            left = self._budget - self.spent
            if left < 1:
                raise BudgetError("the budget is spent")
            try:
                stored, answer = job.run(left)
            except ClusterR1Error:
                self.spent = self._budget  # what a failed call has cost is not known
                raise
            return self._counted(stored, answer)

    def _counted(self, stored: StoredAnswer, answer: Answer) -> StoredAnswer:
        with self._counting:
            self.spent += answer.spent_tokens
        if answer.cut_short == "budget":
            raise BudgetError("the budget ended it")
        if answer.cut_short == "failure":
            raise ModelError(f"cut short: {answer.stop_reason}")
        return stored


def refuse_others(folder: Path, jobs: Sequence[Job]) -> None:
    """Refuse a folder whose answers would stand in one table with other ones under the same name.

    Raises:
        InputError: it has answers to another version of a task, or of another system or seed of that name.
    """
    asked = {(job.task.id, job.panel): task_digest(job.task, job.panel) for job in jobs}
    systems = {job.system.name: (job.system.identity, job.seed) for job in jobs}
    for answer in read_answers(folder).values():
        if asked.get((answer.task, answer.panel), answer.asked) != answer.asked:
            raise InputError(
                f"{folder} has answers to another version of {answer.task} (other texts, wordings or k): "
                "name another folder with --out"
            )
        if systems.get(answer.system, (answer.identity, answer.seed)) != (answer.identity, answer.seed):
            raise InputError(
                f"{folder} has answers of another {answer.system} (it has changed, or has another seed): "
                "name another folder with --out"
            )


def read_answers(folder: Path) -> dict[str, StoredAnswer]:
    """The answers in a folder, by key. A line that a killed process left unfinished is passed over.

    Raises:
        InputError: the file cannot be read, or a line holds no answer.
    """
    path = folder / ANSWERS
    try:
        written = path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    lines = written.split(b"\n")
    read = (_answer(path, number, line) for number, line in enumerate(lines[:-1], 1) if line.strip())
    return {answer.key: answer for answer in read}


def _answer(path: Path, number: int, line: bytes) -> StoredAnswer:
    try:
        return StoredAnswer.model_validate_json(line)
    except ValidationError as error:
        said = error.errors()[0]["msg"]
        raise InputError(
            f"{path}, line {number}: no answer ({said}). If another version wrote it, name another folder"
        ) from error


def _end_last_line(path: Path) -> None:
    """Cut off what a killed process left unfinished, so that the next answer begins on a line of its own."""
    if path.exists():
        with path.open("r+b") as file:
            file.truncate(file.read().rfind(b"\n") + 1)
