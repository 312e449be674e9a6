"""What trivial and corrupted answers are worth, under each measure a reward can be made of.

    python benchmark/reward_table.py [--references 200]

Each answer is written out as a completion, reasoning and JSON, and read by the reward. The numbers are means
over n in {20, 50, 100} texts and k in {3, 5, 10} clusters, with that many random references for each pair.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product

from cluster_r1.training.rewards import MEASURES, RewardSettings, judge, reward

TEXTS = (20, 50, 100)
CLUSTERS = (3, 5, 10)
CORRUPTED = 0.3  # share of the texts that a corrupted answer gets wrong

Labels = Sequence[int]
Answer = Callable[[Labels, random.Random], str]


def write_completion(labels: Labels) -> str:
    """Reasoning and answer that put each text into the cluster of its label; about 6 kB for 50 texts."""
    numbers = {label: position for position, label in enumerate(dict.fromkeys(labels), 1)}
    clusters = [
        {"id": f"C{number}", "name": f"value {number}", "description": f"Texts that show value {number}."}
        for number in numbers.values()
    ]
    assignments = [
        {
            "text": position,
            "reason": f"its wording shows value {numbers[label]}",
            "cluster": f"C{numbers[label]}",
            "confidence": 0.9,
        }
        for position, label in enumerate(labels, 1)
    ]
    seen = "\n".join(
        f"[{position}] is value {numbers[label]}." for position, label in enumerate(labels[:20], 1)
    )
    answer = {"criterion": "the value", "clusters": clusters, "assignments": assignments}
    return f"<think>\nI look for the value that each text shows.\n{seen}\n</think>\n\n{json.dumps(answer)}"


def random_reference(texts: int, clusters: int, rng: random.Random) -> list[int]:
    """A random label for each text; at least two labels occur."""
    while True:
        labels = rng.choices(range(clusters), k=texts)
        if len(set(labels)) > 1:
            return labels


def hidden(reference: Labels, rng: random.Random, share: float = CORRUPTED) -> list[int]:
    """The reference with a share of the texts taken out, each into a cluster of its own."""
    chosen = rng.sample(range(len(reference)), round(share * len(reference)))
    alone = {position: -1 - position for position in chosen}
    return [alone.get(position, label) for position, label in enumerate(reference)]


def guessed(reference: Labels, rng: random.Random, share: float = CORRUPTED) -> list[int]:
    """The reference with a share of the texts put into clusters drawn at random, the right one included."""
    names = sorted(set(reference))
    chosen = set(rng.sample(range(len(reference)), round(share * len(reference))))
    return [rng.choice(names) if position in chosen else label for position, label in enumerate(reference)]


def halved(reference: Labels, rng: random.Random) -> list[int]:
    """The reference with each cluster split at random into two of equal size."""
    halves = list(reference)
    for label in set(reference):
        members = [position for position, other in enumerate(reference) if other == label]
        for position in rng.sample(members, len(members) // 2):
            halves[position] = -1 - label
    return halves


def random_labels(reference: Labels, rng: random.Random) -> list[int]:
    """Labels drawn at random from those of the reference."""
    names = sorted(set(reference))
    return [rng.choice(names) for _ in reference]


def without_one(reference: Labels, rng: random.Random) -> str:
    """The perfect answer, but for one text that it does not place."""
    reasoning, _, answer = write_completion(reference).rpartition("\n")
    value = json.loads(answer)
    del value["assignments"][rng.randrange(len(reference))]
    return f"{reasoning}\n{json.dumps(value)}"


ANSWERS: Mapping[str, Answer] = {
    "all singletons": lambda reference, _: write_completion(range(len(reference))),
    "one cluster": lambda reference, _: write_completion([0] * len(reference)),
    "random, k as the reference": lambda reference, rng: write_completion(random_labels(reference, rng)),
    "perfect, each cluster split in two": lambda reference, rng: write_completion(halved(reference, rng)),
    "perfect, 30 % hidden as singletons": lambda reference, rng: write_completion(hidden(reference, rng)),
    "perfect, 30 % guessed at random": lambda reference, rng: write_completion(guessed(reference, rng)),
    "perfect": lambda reference, _: write_completion(reference),
    "perfect, but one text missing": without_one,
    "unparseable": lambda *_: "I would rather not group these texts.",
}
"""Completions of every kind, made from a reference."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--references", type=int, default=200, help="for each pair of n and k")
    arguments = parser.parse_args()
    rewards = settings_by_measure()
    print(f"| answer | {' | '.join(f'reward ({name})' for name in rewards)} | AMI | ARI | V |")
    print("| --- " * (len(rewards) + 4) + "|")
    for name, answer in ANSWERS.items():
        rows = _scores(answer, arguments.references, list(rewards.values()))
        print(f"| {name} | {' | '.join(map(_mean, zip(*rows, strict=True)))} |", flush=True)


def settings_by_measure() -> dict[str, RewardSettings]:
    """Settings of a reward for each measure, without the warning that belongs to one of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return {measure: RewardSettings.model_validate({"measure": measure}) for measure in MEASURES}


def _scores(
    answer: Answer, references: int, rewards: Sequence[RewardSettings]
) -> Iterator[tuple[float | None, ...]]:
    """Rewards, AMI, ARI and V of such answers; None for the measures of what is no partition."""
    rng = random.Random(0)
    for texts, clusters, _ in product(TEXTS, CLUSTERS, range(references)):
        reference = random_reference(texts, clusters, rng)
        completion = answer(reference, rng)
        worth = [reward(completion, reference, settings) for settings in rewards]
        found = judge(completion, reference).agreement
        yield (*worth, *((found.ami, found.ari, found.v) if found else (None, None, None)))


def _mean(values: Sequence[float | None]) -> str:
    numbers = [value for value in values if value is not None]
    return f"{abs(round(statistics.fmean(numbers), 2)):.2f}" if numbers else "–"


if __name__ == "__main__":
    main()
