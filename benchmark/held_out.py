"""Agreement on labelled sets that nothing was trained on: the scorer beside the embedding baseline.

    python benchmark/held_out.py FOLDER [--adapter checkpoints/.../adapter.gguf] [--texts 150] [--seeds 2]

FOLDER holds JSONL files of `{"id", "text", "labels": {attribute: label}}`. For each attribute and seed, texts
are drawn and asked about in one of the attribute's wordings. AMI by system, then means with 95 % intervals
(bootstrap over attributes). `labels`: the names of the labels in the sample are given; `true k`: their
number; `k found`: nothing.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster_r1.agents.models import local_server
from cluster_r1.agents.models.agglomerative import cluster_embeddings
from cluster_r1.agents.models.scorer_model import ScorerModel
from cluster_r1.agents.models.static_embedder import embed, unit_rows
from cluster_r1.agents.scoring import label_scores
from cluster_r1.json_lines import append_json_lines
from cluster_r1.metrics import adjusted_mutual_info
from cluster_r1.training.labelled import LabelledSet, read_labelled

Labels = list[int]


def systems(
    texts: list[str], names: list[str], k: int, instruction: str, scorer: ScorerModel
) -> dict[str, Labels]:
    """What each system makes of the texts."""
    words, named = embed(texts), embed(names)
    states = scorer.states(texts, instruction)
    by_state = label_scores(states, scorer.label_vectors(names))
    by_words = label_scores(words, named)
    return {
        "embedding, labels": by_words.argmax(1).tolist(),
        "scorer, labels": by_state.argmax(1).tolist(),
        "both, labels": (by_state / by_state.std() + by_words / by_words.std()).argmax(1).tolist(),
        "embedding, true k": _k_means(words, k),
        "scorer, true k": _k_means(states, k),
        "embedding, k found": cluster_embeddings(words, None).tolist(),
        "scorer, k found": cluster_embeddings(states, None).tolist(),
    }


def _k_means(vectors: NDArray[Any], k: int) -> Labels:
    from sklearn.cluster import KMeans

    rows = unit_rows(vectors - vectors.mean(axis=0))
    found: Labels = KMeans(k, n_init=4, random_state=0).fit_predict(rows).tolist()
    return found


def measure(labelled: LabelledSet, count: int, seeds: int, scorer: ScorerModel) -> Iterator[dict[str, Any]]:
    """A record for each attribute and seed."""
    for name, attribute in labelled.attributes.items():
        rows = [row for row in labelled.rows if name in row.labels]
        for seed in range(seeds):
            drawn = [rows[i] for i in np.random.default_rng(seed).permutation(len(rows))[:count]]
            texts = [row.text for row in drawn]
            present = sorted({row.labels[name] for row in drawn})
            reference = [row.labels[name] for row in drawn]
            instruction = attribute.instructions[seed % len(attribute.instructions)]
            begun = time.perf_counter()
            found = systems(
                texts, [attribute.name(label) for label in present], len(present), instruction, scorer
            )
            yield {
                "corpus": labelled.corpus,
                "attribute": name,
                "topical": attribute.topical,
                "seed": seed,
                "instruction": instruction,
                "texts": len(texts),
                "k": len(present),
                "seconds": round(time.perf_counter() - begun, 1),
                "ami": {
                    system: round(adjusted_mutual_info(reference, labels), 4)
                    for system, labels in found.items()
                },
                "k_found": {
                    system: len(set(labels)) for system, labels in found.items() if system.endswith("found")
                },
            }


def interval(values: list[float]) -> tuple[float, float, float]:
    """Mean and the bounds of its 95 % bootstrap interval."""
    drawn = np.random.default_rng(0).choice(values, size=(2000, len(values))).mean(axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(np.mean(values)), float(low), float(high)


def main() -> None:
    """Print a row for each attribute, then the means."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--adapter", type=Path, help="of the scorer; without one the base answers")
    parser.add_argument("--texts", type=int, default=150)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--out", type=Path, help="add the records to this file (JSONL)")
    asked = parser.parse_args()
    scorer = ScorerModel(local_server.find_weights(), asked.adapter)
    records: list[dict[str, Any]] = []
    for path in sorted(asked.folder.glob("*.jsonl")):
        for record in measure(read_labelled(path), asked.texts, asked.seeds, scorer):
            if not records:
                print(f"| attribute | k | {' | '.join(record['ami'])} | s |")
                print("| --- " * (len(record["ami"]) + 3) + "|")
            cells = [f"{record['corpus']} {record['attribute']}", record["k"]]
            cells += [f"{value:.2f}" for value in record["ami"].values()]
            print(f"| {' | '.join(map(str, cells))} | {record['seconds']} |", flush=True)
            records.append(record)
            if asked.out:
                append_json_lines(asked.out, [record])
    print_means(records)


def print_means(records: list[dict[str, Any]]) -> None:
    """Means over attributes, of topics and of what is no topic."""
    print("\n| system | not a topic | topic |\n| --- | --- | --- |")
    for system in records[0]["ami"]:
        cells = []
        for topical in (False, True):
            by_attribute: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
            for record in records:
                if record["topical"] is topical:
                    by_attribute[record["corpus"], record["attribute"]].append(record["ami"][system])
            values = [float(np.mean(seeds)) for seeds in by_attribute.values()]
            cells.append("{:.2f} [{:.2f}, {:.2f}]".format(*interval(values)) if values else "")
        print(f"| {system} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
