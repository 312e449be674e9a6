"""How long the benchmark's measures take, as a Markdown table.

    python benchmark/measure_speed.py [--partitions 10000] [--texts 100]

Random partitions of 2 to 20 clusters against a reference of 8; `all` is what is measured of an answer, with
the instruction gap over nine other attributes left out and put in.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Sequence

from cluster_r1 import metrics
from cluster_r1.benchmark.measures import score

Labels = list[int]


def main() -> None:
    """Time each measure over all partitions."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--partitions", type=int, default=10_000)
    parser.add_argument("--texts", type=int, default=100)
    asked = parser.parse_args()
    rng = random.Random(0)

    def labelling(k: int) -> Labels:
        return [rng.randrange(k) for _ in range(asked.texts)]

    reference = labelling(8)
    predicted = [labelling(rng.randint(2, 20)) for _ in range(asked.partitions)]
    others = {f"other {number}": labelling(8) for number in range(9)}
    measures: dict[str, Callable[[Sequence[int], Labels], object]] = {
        "AMI": metrics.adjusted_mutual_info,
        "ARI": metrics.adjusted_rand,
        "V": metrics.v_measure,
        "pairwise F1": metrics.pairwise_f1,
        "BCubed F1": metrics.bcubed_f1,
        "Hungarian accuracy": metrics.hungarian_accuracy,
        "all": lambda true, found: score(true, found, {}),
        "all, with the gap": lambda true, found: score(true, found, others),
    }
    print(f"{asked.partitions} partitions of {asked.texts} texts\n\n| measure | seconds |\n| --- | --- |")
    for name, measure in measures.items():
        begun = time.perf_counter()
        for labels in predicted:
            measure(reference, labels)
        print(f"| {name} | {time.perf_counter() - begun:.1f} |")


if __name__ == "__main__":
    main()
