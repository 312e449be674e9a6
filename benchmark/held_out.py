"""Agreement on labelled sets that nothing was trained on: the scorer beside the embedding baseline.

    python benchmark/held_out.py FOLDER [--adapter adapter.gguf] [--texts 100] [--seeds 2] [--out FILE]
    python benchmark/held_out.py --from FILE

FOLDER holds JSONL files of `{"id", "text", "labels": {attribute: label}}`. For each attribute and seed, texts
are drawn and asked about in one of the attribute's wordings. `labels`: the names of the labels in the sample
are given; `true k`: their number; `k found`: nothing. The gap is the AMI of `k found` with the attribute
asked for, minus the highest with another attribute of the same texts. Prints AMI by attribute, then means
with 95 % intervals (bootstrap over attributes); `--from` prints the tables of a file that `--out` wrote. The
set clinc150 is shown and left out of the means: settings were chosen with it.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster_r1.agents.models import local_server
from cluster_r1.agents.models.agglomerative import cluster_embeddings
from cluster_r1.agents.models.scorer_model import ScorerModel
from cluster_r1.agents.models.static_embedder import embed, unit_rows
from cluster_r1.agents.scoring import find_groups, label_scores, label_shares
from cluster_r1.checkpoints import ADAPTER, scorer_folder
from cluster_r1.json_lines import append_json_lines, read_json_lines
from cluster_r1.metrics import adjusted_mutual_info, k_error
from cluster_r1.training.labelled import LabelledSet, LabelledText, read_labelled

Labels = list[int]
Row = dict[str, Any]

_SYSTEMS = ("embedding", "scorer")
_DEVELOPMENT = {"clinc150"}  # the scorer's settings for k and topics were chosen with it: no part of any mean


def systems(
    texts: list[str], names: list[str], k: int, instruction: str, scorer: ScorerModel
) -> dict[str, Labels]:
    """What each system makes of the texts."""
    words, named = embed(texts), embed(names)
    states = scorer.states(texts, instruction)
    shares = label_shares(states, words, (scorer.label_vectors(names), named))
    return {
        "embedding, labels": label_scores(words, named).argmax(1).tolist(),
        "scorer, labels": shares.argmax(1).tolist(),
        "embedding, true k": _k_means(words, k),
        "scorer, true k": find_groups(states, words, (k, k))[1].tolist(),
        "embedding, k found": cluster_embeddings(words, None).tolist(),
        "scorer, k found": find_groups(states, words, None)[1].tolist(),
    }


def _k_means(vectors: NDArray[Any], k: int) -> Labels:
    from sklearn.cluster import KMeans

    rows = unit_rows(vectors - vectors.mean(axis=0))
    found: Labels = KMeans(k, n_init=4, random_state=0).fit_predict(rows).tolist()
    return found


def measure(labelled: LabelledSet, count: int, seeds: int, scorer: ScorerModel) -> Iterator[Row]:
    """A record for each attribute and seed."""
    for name, attribute in labelled.attributes.items():
        rows = [row for row in labelled.rows if name in row.labels]
        for seed in range(seeds):
            drawn = [rows[i] for i in np.random.default_rng(seed).permutation(len(rows))[:count]]
            present = sorted({row.labels[name] for row in drawn})
            reference = [row.labels[name] for row in drawn]
            instruction = attribute.instructions[seed % len(attribute.instructions)]
            begun = time.perf_counter()
            names, texts = [attribute.name(label) for label in present], [row.text for row in drawn]
            found = systems(texts, names, len(present), instruction, scorer)
            yield {
                "corpus": labelled.corpus,
                "attribute": name,
                "topical": attribute.topical,
                "seed": seed,
                "instruction": instruction,
                "texts": len(drawn),
                "k": len(present),
                "seconds": round(time.perf_counter() - begun, 1),
                "ami": {
                    system: round(adjusted_mutual_info(reference, labels), 4)
                    for system, labels in found.items()
                },
                **{
                    measure: {system: round(of(found[f"{system}, k found"]), 4) for system in _SYSTEMS}
                    for measure, of in _beside(labelled, name, drawn, reference)
                },
            }


def _beside(
    labelled: LabelledSet, asked: str, drawn: list[LabelledText], reference: list[str]
) -> Iterator[tuple[str, Callable[[Labels], float]]]:
    """What is measured besides AMI of a partition whose k was found."""
    others = [
        [row.labels[name] for row in drawn]
        for name in labelled.attributes
        if name != asked and all(name in row.labels for row in drawn)
    ]
    yield "k_error", lambda found: k_error(reference, found)
    yield (
        "gap",
        lambda found: (
            adjusted_mutual_info(reference, found) - max(adjusted_mutual_info(o, found) for o in others)
        ),
    )


def interval(values: list[float]) -> str:
    """Mean and the bounds of its 95 % bootstrap interval."""
    drawn = np.random.default_rng(0).choice(values, size=(2000, len(values))).mean(axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return f"{np.mean(values):.2f} [{low:.2f}, {high:.2f}]"


def print_tables(records: list[Row]) -> None:
    """By attribute, means over attributes of topics and of what is none, and by corpus."""
    by_attribute: defaultdict[tuple[str, str], list[Row]] = defaultdict(list)
    for record in records:
        by_attribute[record["corpus"], record["attribute"]].append(record)
    columns = list(records[0]["ami"])
    print(f"| attribute | topic | k | {' | '.join(columns)} |\n|{' --- |' * (len(columns) + 3)}")
    for (corpus, attribute), rows in by_attribute.items():
        cells = [f"{np.mean([row['ami'][column] for row in rows]):.2f}" for column in columns]
        topic = "yes" if rows[0]["topical"] else "no"
        print(f"| {corpus} {attribute} | {topic} | {rows[0]['k']} | {' | '.join(cells)} |")
    held_out = {key: rows for key, rows in by_attribute.items() if key[0] not in _DEVELOPMENT}
    print("\n| mean AMI [95 % interval over attributes] | not a topic | topic |\n| --- | --- | --- |")
    for column in columns:
        _print_row(column, held_out, "ami", column)
    for system in _SYSTEMS:
        _print_row(f"{system}: relative error of k", held_out, "k_error", system)
        _print_row(f"{system}: instruction gap", held_out, "gap", system)
    print("\n| corpus | instruction gap, embedding | instruction gap, scorer |\n| --- | --- | --- |")
    for corpus in dict.fromkeys(record["corpus"] for record in records):
        gaps = [
            np.mean([record["gap"][system] for record in records if record["corpus"] == corpus])
            for system in _SYSTEMS
        ]
        print(f"| {corpus} | {' | '.join(f'{gap:.2f}' for gap in gaps)} |")


def _print_row(
    title: str, by_attribute: Mapping[tuple[str, str], list[Row]], measure: str, system: str
) -> None:
    cells = []
    for topical in (False, True):
        chosen = [rows for rows in by_attribute.values() if rows[0]["topical"] is topical]
        cells.append(interval([float(np.mean([row[measure][system] for row in rows])) for rows in chosen]))
    print(f"| {title} | {' | '.join(cells)} |")


def main() -> None:
    """Measure, telling each attribute as it is done, and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--adapter", type=Path, default=scorer_folder() / ADAPTER, help="of the scorer")
    parser.add_argument("--untrained", action="store_true", help="the base without an adapter answers")
    parser.add_argument("--texts", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--out", type=Path, help="add the records to this file (JSONL)")
    parser.add_argument("--from", dest="source", type=Path, help="print the tables of such a file")
    asked = parser.parse_args()
    if asked.source:
        print_tables([row for _, row in read_json_lines(asked.source)])
        return
    scorer = ScorerModel(local_server.find_weights(), None if asked.untrained else asked.adapter)
    records: list[Row] = []
    for path in sorted(asked.folder.glob("*.jsonl")):
        for record in measure(read_labelled(path), asked.texts, asked.seeds, scorer):
            print(f"{record['corpus']} {record['attribute']}: {record['seconds']} s", flush=True)
            records.append(record)
            if asked.out:
                append_json_lines(asked.out, [record])
    print_tables(records)


if __name__ == "__main__":
    main()
