"""Rewards per second on one core.

    python benchmark/reward_speed.py [--repeats 15]

Each repeat scores 512 fresh completions for 50 texts, as a step of GRPO sees them: 64 prompts with 8 answers
each, of every quality. The median of the repeats is printed, and the fastest; machines are noisy.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from cluster_r1.benchmark.reward_table import CLUSTERS, guessed, random_reference, write_completion
from cluster_r1.metrics import adjusted_mutual_info
from cluster_r1.training.rewards import judge, reward

PROMPTS, ANSWERS, TEXTS = 64, 8, 50


class Case(NamedTuple):
    """A completion, the reference it is scored with, and the labels that it writes."""

    completion: str
    reference: tuple[str, ...]
    labels: tuple[str, ...]


Form = Callable[[str], str]
Work = Callable[[Case], object]


def batch(rng: random.Random, form: Form) -> list[Case]:
    """The completions of one step, in a form that models leave them in."""
    cases = []
    for _ in range(PROMPTS):
        truth = random_reference(TEXTS, rng.choice(CLUSTERS), rng)
        reference = tuple(f"label {label}" for label in truth)
        for _ in range(ANSWERS):
            labels = guessed(truth, rng, share=rng.random())
            cases.append(Case(form(write_completion(labels)), reference, tuple(map(str, labels))))
    return cases


def as_asked(completion: str) -> str:
    """Reasoning, then the answer."""
    return completion


def fenced(completion: str) -> str:
    """The answer in a code fence."""
    reasoning, _, answer = completion.rpartition("\n")
    return f"{reasoning}\n```json\n{answer}\n```"


def indented(completion: str) -> str:
    """The answer spread over many lines, in a code fence."""
    reasoning, _, answer = completion.rpartition("\n")
    return f"{reasoning}\n```json\n{json.dumps(json.loads(answer), indent=2)}\n```"


def cut_off(completion: str) -> str:
    """The answer as a limit of tokens leaves it."""
    return completion[: len(completion) * 4 // 5]


def _reward(case: Case) -> object:
    return reward(case.completion, case.reference)


def _judge(case: Case) -> object:
    return judge(case.completion, case.reference)


def _score(case: Case) -> object:
    return adjusted_mutual_info(case.reference, case.labels)


ROWS: Sequence[tuple[str, Form, Work]] = (
    ("reward: parse and score", as_asked, _reward),
    ("score only (AMI of given labels)", as_asked, _score),
    ("judge: reward and all measures", as_asked, _judge),
    ("reward, answer in a code fence", fenced, _reward),
    ("reward, indented in a code fence", indented, _reward),
    ("reward, answer cut off", cut_off, _reward),
)


def microseconds(make: Callable[[], Sequence[Case]], work: Work, repeats: int) -> list[float]:
    """What one case takes, for each repeat; making the cases is not counted."""
    times = []
    for _ in range(repeats):
        cases = make()
        started = time.perf_counter()
        for case in cases:
            work(case)
        times.append((time.perf_counter() - started) / len(cases) * 1e6)
    return times


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    sizes = [len(case.completion) for case in batch(random.Random(0), as_asked)]
    print(
        f"{TEXTS} texts; completions of {statistics.fmean(sizes) / 1e3:.1f} kB; {arguments.repeats} repeats"
    )
    print("| what | median µs | a second | fastest µs |\n| --- | --- | --- | --- |")
    for name, form, work in ROWS:
        repeats = arguments.repeats if form is not cut_off else min(arguments.repeats, 3)
        times = microseconds(partial(batch, random.Random(0), form), work, repeats)
        median = statistics.median(times)
        print(f"| {name} | {median:.1f} | {1e6 / median:,.0f} | {min(times):.1f} |", flush=True)


if __name__ == "__main__":
    main()
