"""How well the embedding baseline infers the number of clusters, beside other rules, as Markdown tables.

    python benchmark/inferring_k.py path/to/labelled-sets [--held-out] [--seeds 10]

The folder holds a JSONL file for each set below, a text a line: {"id", "text", "labels": {attribute: label}}.
An episode is a batch of about 40, 100, 200 or 500 texts of 3 to 15 classes of uneven sizes, drawn by a seed
from one attribute of one set. Intervals are 95 % bootstraps over episodes. The episodes of a set share texts,
and sets are few, so another set may well fall outside. Differences are paired: positive where the rule that
the column names has the higher AMI.
"""

from __future__ import annotations

import argparse
import json
import os
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from unittest.mock import patch

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # read when numpy is imported

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, ward
from sklearn.metrics import silhouette_score
from sklearn.metrics.pairwise import cosine_distances

from cluster_r1.agents.models import agglomerative
from cluster_r1.agents.models.agglomerative import cluster_embeddings
from cluster_r1.agents.models.static_embedder import embed
from cluster_r1.metrics import adjusted_mutual_info, k_error

Floats = NDArray[np.float64]
Labels = NDArray[np.intp]
Scores = NDArray[np.float64]  # AMI and k error, shape (episodes, 2)
Sets = dict[str, tuple[str, ...]]

# The attributes of each set. GAMMA was chosen on the development sets alone.
DEVELOPMENT: Sets = {
    "clinc150": ("domain", "intent"),
    "bitext_support": ("category", "intent"),
    "cuad_clauses": ("clause_type",),
}
HELD_OUT: Sets = {
    "crisislex26": ("event", "hazard"),
    "sgd_dialogues": ("domain", "final_intent"),
    "slurp": ("scenario", "intent"),
}
SIZES = (40, 100, 200, 500)
GAMMAS = (0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1)
MOST_GROUPS = 30  # of the rules that try every k
RESAMPLES = 2_000


@dataclass(frozen=True)
class LabelledSet:
    """An embedded set with one label, or none, for each text."""

    vectors: Floats
    labels: list[str | None]


@dataclass(frozen=True)
class Episode:
    """A batch to group, with its true classes, and what several rules need of it."""

    vectors: Floats
    classes: list[int]

    @property
    def true_k(self) -> int:
        """How many classes there are."""
        return len(set(self.classes))

    @cached_property
    def tried(self) -> range:
        """The k that are tried by rules that compare cuts."""
        return range(2, min(MOST_GROUPS, len(self.classes) // 2) + 1)

    @cached_property
    def cuts(self) -> list[Labels]:
        """The package's tree (centred, average linkage) cut at every k tried."""
        return [cluster_embeddings(self.vectors, (k, k)) for k in self.tried]

    @cached_property
    def centred_distances(self) -> Floats:
        """Cosine distances after the mean is taken away."""
        distances: Floats = cosine_distances(self.vectors - self.vectors.mean(axis=0))
        return distances


Rule = Callable[[Episode], Labels]


def read(folder: Path, name: str, attribute: str) -> LabelledSet:
    """One set, by one of its attributes."""
    with (folder / f"{name}.jsonl").open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    vectors = embed([row["text"] for row in rows]).astype(np.float64)
    return LabelledSet(vectors, [row["labels"].get(attribute) for row in rows])


def draw(source: LabelledSet, size: int, random: np.random.Generator) -> Episode | None:
    """An episode, or None if the classes drawn hold too few texts for the size."""
    members: dict[str, list[int]] = defaultdict(list)
    for row, label in enumerate(source.labels):
        if label is not None:
            members[label].append(row)
    names = sorted(name for name, rows in members.items() if len(rows) >= 4)
    k = int(random.integers(3, min(15, len(names), size // 4) + 1))
    drawn = random.choice(len(names), k, replace=False)
    shares = random.dirichlet(np.full(k, 3.0))
    rows, classes = [], []
    for number, (name, share) in enumerate(zip(drawn, shares, strict=True)):
        held = members[names[name]]
        count = min(max(2, round(share * size)), len(held))
        rows.extend(random.choice(held, count, replace=False))
        classes.extend([number] * count)
    if len(rows) < 0.6 * size:
        return None
    order = random.permutation(len(rows))
    return Episode(source.vectors[np.array(rows)[order]], [classes[position] for position in order])


def episodes(folder: Path, sets: Sets, seeds: int) -> Iterator[Episode]:
    """`seeds` episodes of every attribute and size, fewer where too many draws fail."""
    for name, attributes in sets.items():
        for attribute in attributes:
            source = read(folder, name, attribute)
            for size in SIZES:
                keys = (f"{name}/{attribute}/{size}/{seed}".encode() for seed in range(6 * seeds))
                draws = (draw(source, size, np.random.default_rng(zlib.crc32(key))) for key in keys)
                yield from islice((episode for episode in draws if episode is not None), seeds)


def with_gamma(gamma: float) -> Rule:
    """The package's rule with another constant."""

    def group(episode: Episode) -> Labels:
        with patch.object(agglomerative, "GAMMA", gamma):
            return cluster_embeddings(episode.vectors, None)

    return group


def best_silhouette(distances: Floats, cuts: list[Labels]) -> Labels:
    """The cut with the highest mean silhouette."""
    return max(cuts, key=lambda labels: float(silhouette_score(distances, labels, metric="precomputed")))


def ward_silhouette(episode: Episode) -> Labels:
    """Ward's tree of the vectors as they are."""
    tree = ward(episode.vectors)
    cuts = [fcluster(tree, k, "maxclust") for k in episode.tried]
    return best_silhouette(cosine_distances(episode.vectors), cuts)


def neighbour_modularity(episode: Episode) -> Labels:
    """The cut of highest modularity in the graph that joins each text to its sqrt(n) nearest."""
    distances = episode.centred_distances + np.diag(np.full(len(episode.classes), np.inf))
    neighbours = max(5, int(len(distances) ** 0.5))
    joined = np.zeros_like(distances)
    np.put_along_axis(joined, np.argpartition(distances, neighbours, axis=1)[:, :neighbours], 1.0, axis=1)
    joined = np.maximum(joined, joined.T)

    def modularity(labels: Labels) -> float:
        members = np.eye(labels.max() + 1)[labels]
        inside = np.trace(members.T @ joined @ members) / joined.sum()
        degrees = members.T @ joined.sum(axis=1) / joined.sum()
        return float(inside - (degrees**2).sum())

    return max(episode.cuts, key=modularity)


CHOSEN = "chosen"
RULES: dict[str, Rule] = {
    CHOSEN: lambda episode: cluster_embeddings(episode.vectors, None),
    "chosen with gamma = 0": with_gamma(0.0),
    "centred, average linkage, silhouette": lambda e: best_silhouette(e.centred_distances, e.cuts),
    "raw, Ward, silhouette": ward_silhouette,
    "centred, average linkage, kNN modularity": neighbour_modularity,
    "always k = 8": lambda episode: cluster_embeddings(episode.vectors, (8, 8)),
    "ceiling: chosen tree, true k": lambda e: cluster_embeddings(e.vectors, (e.true_k, e.true_k)),
}
GAMMA_RULES = {f"gamma = {gamma:.2f}": with_gamma(gamma) for gamma in GAMMAS}


def score(rule: Rule, episode: Episode) -> tuple[float, float]:
    """AMI and relative error of k."""
    labels = rule(episode).tolist()
    return adjusted_mutual_info(episode.classes, labels), k_error(episode.classes, labels)


def interval(values: Floats) -> str:
    """The mean and its 95 % bootstrap interval."""
    random = np.random.default_rng(0)
    means = values[random.integers(0, len(values), (RESAMPLES, len(values)))].mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return f"{values.mean():.3f} [{low:.3f}, {high:.3f}]"


def print_table(scores: dict[str, Scores], reference: str) -> None:
    """A row for each rule; differences are those of the reference to it."""
    print(f"\n| rule | AMI | k error | AMI of {reference} minus this |\n| --- | --- | --- | --- |")
    for name, values in scores.items():
        difference = "" if name == reference else interval(scores[reference][:, 0] - values[:, 0])
        print(f"| {name} | {interval(values[:, 0])} | {interval(values[:, 1])} | {difference} |")


def main() -> None:
    """Print the table of rules and, on the development sets, that of gammas."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="DATA_FOLDER")
    parser.add_argument("--held-out", action="store_true", help="the sets that GAMMA was not chosen on")
    parser.add_argument("--seeds", type=int, default=10, help="episodes of each attribute and size")
    arguments = parser.parse_args()
    sets = HELD_OUT if arguments.held_out else DEVELOPMENT
    rules = RULES if arguments.held_out else RULES | GAMMA_RULES
    rows = [
        [score(rule, episode) for rule in rules.values()]
        for episode in episodes(arguments.folder, sets, arguments.seeds)
    ]
    scores = dict(zip(rules, np.array(rows).swapaxes(0, 1), strict=True))
    print(f"{len(rows)} episodes of {', '.join(sets)}")
    print_table({name: scores[name] for name in RULES}, CHOSEN)
    if not arguments.held_out:
        gammas = {name: scores[name] for name in GAMMA_RULES}
        print_table(gammas, max(gammas, key=lambda name: float(gammas[name][:, 0].mean())))


if __name__ == "__main__":
    main()
