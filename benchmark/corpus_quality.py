"""How well corpora are grouped that fit no single context, against known labels and a labeller that errs.

    python benchmark/corpus_quality.py DATA [--texts 20000] [--noise 0.05 0.15] > quality.md
    python benchmark/corpus_quality.py DATA --sets clinc150/intent goemotions/ekman --stubborn 0 --stable ""

Run from the repository's root, with the test extras installed; DATA is a folder of labelled sets (or the
variable CLUSTER_R1_DATA): JSON lines of `{"id", "text", "labels": {attribute: label}}`. A scripted model
(tests/fakes/corpus_labeller.py) knows the labels and plays all roles, with a share of wrong answers, half of
which (`--stubborn`) are the same whenever it reads a text. It misreads texts whatever their wording, so that
a classifier can average errors out and come out above it; the errors of a real model can be learnt.

The sets are smaller than what `economy` is for, so the corpora are made of VARIANTS of their texts: each is a
text of which words are left out (one in seven), half of them joined to another such text of equal label. A
classifier that has learnt from a variant of a text has it easier with the others than with texts of their
own: what is said of `economy` here is said of an easier case. `no kin read` counts apart the classified texts
of whose sources the model has read no variant; they are nearer to the real case (and shorter: a joined text
has more kin).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Literal

import httpx
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.stats import binomtest

from cluster_r1 import ClusteringAgent, ClusteringResult
from cluster_r1.benchmark.fake_server import fake_server
from cluster_r1.benchmark.intervals import Interval, compare
from cluster_r1.markdown import table
from cluster_r1.metrics import adjusted_mutual_info, adjusted_rand
from cluster_r1.training.labelled import LabelledText, read_labelled
from cluster_r1.types import CorpusReading

SETS = (
    "clinc150/domain",
    "clinc150/intent",
    "bitext_support/intent",
    "bitext_support/tone",
    "crisislex26/event",
    "crisislex26/information_type",
    "goemotions/ekman",
    "slurp/scenario",
)
STABLE = ("clinc150/domain", "goemotions/ekman")
AIMS = {"k_error": 0.2, "loss": 0.03, "stability": 0.9}

_LEFT_OUT = 1 / 7  # of the words of a variant
_JOINED = 0.5  # of the variants are two texts of equal label
_MOST_TRIES = 50  # for each text, until the wording is new
_CHARACTERS_PER_TOKEN = 4  # as the fake server counts
_BY_CLASSIFIER = "placed by a classifier"  # how the reason of such an assignment begins

Ints = NDArray[np.intp]
Effort = Literal["economy", "thorough"]


@dataclass(frozen=True)
class Corpus:
    """Variants of labelled texts.

    Attributes:
        name: set and attribute.
        instruction: that asks for the attribute.
        texts: the variants.
        labels: theirs, as numbers from 0.
        sources: of each variant, which texts of the set it is made of.
        file: where the labeller reads them.
    """

    name: str
    instruction: str
    texts: Sequence[str]
    labels: Ints
    sources: Sequence[tuple[int, ...]]
    file: Path

    @property
    def attribute(self) -> str:
        """What the labels are about."""
        return self.name.partition("/")[2]

    @property
    def k(self) -> int:
        """How many labels there are."""
        return len(set(self.labels.tolist()))


@dataclass(frozen=True)
class Labeller:
    """How the scripted model errs: see `CorpusLabeller` in the tests."""

    noise: float
    stubborn: float


@dataclass(frozen=True)
class Run:
    """What came of a corpus.

    Attributes:
        result: as it was returned.
        labels: in the corpus's order; -1 is unassigned.
        learnt: whether each text was placed by the classifier.
        reading: how the corpus was read.
        sent: tokens, for each token of the corpus.
        seconds: that it took.
    """

    result: ClusteringResult
    labels: Ints
    learnt: NDArray[np.bool_]
    reading: CorpusReading
    sent: float
    seconds: float

    @property
    def k(self) -> int:
        """How many clusters were found."""
        return self.result.n_clusters


@dataclass(frozen=True)
class Ceiling:
    """What right clusters and one reading of each text would give."""

    ami: float
    ari_of_two: float


@dataclass(frozen=True)
class Quality:
    """Both efforts on one corpus.

    Attributes:
        corpus: the texts.
        labeller: who read them.
        economy: one effort,
        thorough: and the other.
        otherwise: texts that the labeller places otherwise when it reads all under the clusters of economy.
        ceiling: what could be had.
    """

    corpus: Corpus
    labeller: Labeller
    economy: Run
    thorough: Run
    otherwise: NDArray[np.bool_]
    ceiling: Ceiling

    @property
    def k_error(self) -> float:
        """|found - true| / true, of economy."""
        return abs(self.economy.k - self.corpus.k) / self.corpus.k

    def ami(self, run: Run) -> float:
        """With the truth."""
        return adjusted_mutual_info(self.corpus.labels.tolist(), run.labels.tolist())

    @property
    def differing(self) -> NDArray[np.bool_]:
        """Texts that the efforts place otherwise, clusters matched one to one."""
        return differing(self.thorough.labels, self.economy.labels)

    @property
    def contradicted(self) -> float:
        """Share of the texts that are the classifier's and that the model places otherwise."""
        return float((self.otherwise & self.economy.learnt).mean())

    @property
    def covered(self) -> bool | None:
        """Whether the estimate's interval holds that share; None where there is no estimate."""
        estimate = self.economy.reading.disagreement
        return None if estimate is None else estimate.low <= self.contradicted <= estimate.high

    def contradicted_by_kin(self) -> tuple[str, str]:
        """Of the classifier's texts with and without kin that the model has read: which share is so."""
        learnt, sources = self.economy.learnt, self.corpus.sources
        read = {source for own, by_model in zip(sources, ~learnt, strict=True) if by_model for source in own}
        kin = np.array([not read.isdisjoint(own) for own in sources])
        return _share(self.otherwise, learnt & kin), _share(self.otherwise, learnt & ~kin)


@dataclass
class Stability:
    """Labels of the same texts from several runs."""

    corpus: Corpus
    labeller: Labeller
    what: str
    ceiling: Ceiling
    runs: list[Run] = field(default_factory=list)

    @property
    def pairs(self) -> list[float]:
        """ARI of each two runs."""
        return [
            adjusted_rand(one.labels.tolist(), other.labels.tolist())
            for one, other in combinations(self.runs, 2)
        ]


def corpus_of(folder: Path, name: str, count: int, into: Path) -> Corpus:
    """So many variants of the texts of `set/attribute`, in random order; the texts themselves among them.

    Args:
        folder: of the labelled sets.
        name: set and attribute.
        count: of texts; of a set that is larger, so many are taken as they are.
        into: where the labelled variants are written.
    """
    stem, _, attribute = name.partition("/")
    labelled = read_labelled(folder / f"{stem}.jsonl")
    rows = [row for row in labelled.rows if attribute in row.labels]
    made = list(_variants(rows, attribute, count).items())
    random.Random(1).shuffle(made)
    texts = [text for text, _ in made]
    sources = [own for _, own in made]
    labels = [rows[own[0]].labels[attribute] for own in sources]
    numbers = {label: number for number, label in enumerate(sorted(set(labels)))}
    file = into / attribute / f"{stem}.jsonl"
    file.parent.mkdir(exist_ok=True)
    lines = (
        json.dumps({"id": str(number), "text": text, "labels": {attribute: label}})
        for number, (text, label) in enumerate(zip(texts, labels, strict=True))
    )
    file.write_text("\n".join(lines), encoding="utf-8")
    return Corpus(
        name=name,
        instruction=labelled.attributes[attribute].instructions[0],
        texts=texts,
        labels=np.array([numbers[label] for label in labels]),
        sources=sources,
        file=file,
    )


def _variants(rows: Sequence[LabelledText], attribute: str, count: int) -> dict[str, tuple[int, ...]]:
    """Texts, none of them twice, and the rows that each is made of."""
    chance = random.Random(0)
    chosen = chance.sample(range(len(rows)), min(count, len(rows)))
    made: dict[str, tuple[int, ...]] = {" ".join(rows[n].text.split()): (n,) for n in chosen}
    equals: dict[str, list[int]] = {}
    for number in chosen:
        equals.setdefault(rows[number].labels[attribute], []).append(number)
    for _ in range(_MOST_TRIES * count):
        if len(made) >= count:
            break
        sources: tuple[int, ...] = (chance.choice(chosen),)
        if chance.random() < _JOINED:
            sources = (*sources, chance.choice(equals[rows[sources[0]].labels[attribute]]))
        text = " ".join(_thinned(rows[number].text, chance) for number in sources)
        made.setdefault(text, sources)
    return made


def _thinned(text: str, chance: random.Random) -> str:
    words = text.split()
    return " ".join(word for word in words if chance.random() >= _LEFT_OUT) or chance.choice(words)


def differing(one: Ints, other: Ints) -> NDArray[np.bool_]:
    """Where two labellings differ under the one-to-one match of their labels that agrees most."""
    names, first = np.unique(one, return_inverse=True)
    others, second = np.unique(other, return_inverse=True)
    counts = np.zeros((len(names), len(others)), dtype=np.intp)
    np.add.at(counts, (first, second), 1)
    matched = np.full(len(names), -1, dtype=np.intp)
    rows, columns = linear_sum_assignment(-counts)
    matched[rows] = columns
    return np.asarray(matched[first] != second, dtype=np.bool_)


def ceiling_of(labels: Ints, labeller: Labeller) -> Ceiling:
    """From two readings that err as the labeller does."""
    chance = np.random.default_rng(0)
    always = labeller.noise * labeller.stubborn
    fresh = (labeller.noise - always) / (1 - always) if always < 1 else 0.0
    known = _misread(labels, always, chance)
    stubborn = known != labels
    one, other = (np.where(stubborn, known, _misread(labels, fresh, chance)).tolist() for _ in range(2))
    return Ceiling(adjusted_mutual_info(labels.tolist(), one), adjusted_rand(one, other))


def _misread(labels: Ints, share: float, chance: np.random.Generator) -> Ints:
    k = int(labels.max()) + 1
    others = (labels + chance.integers(1, k, len(labels))) % k
    return np.where(chance.random(len(labels)) < share, others, labels)


def cluster(
    corpus: Corpus, labeller: Labeller, url: str, effort: Effort, seed: int = 0, order: int | None = None
) -> Run:
    """Group a corpus with the labeller; `order` is the seed by which its texts are shuffled before."""
    oracle = {
        "file": str(corpus.file),
        "attribute": corpus.attribute,
        "noise": labeller.noise,
        "stubborn": labeller.stubborn,
    }
    httpx.post(url.replace("/v1", "/oracle"), json=oracle, timeout=60).raise_for_status()
    places = np.arange(len(corpus.texts))
    if order is not None:
        places = np.random.default_rng(order).permutation(places)
    agent = ClusteringAgent(f"vllm:fake@{url}", effort=effort, seed=seed, cache=False)
    started = time.perf_counter()
    result = agent.cluster([corpus.texts[place] for place in places.tolist()], corpus.instruction)
    seconds = time.perf_counter() - started
    if result.info.corpus is None:
        raise SystemExit(f"{corpus.name}: {len(corpus.texts)} texts fit one context: give more --texts")
    learnt = {a.text_id for a in result.assignments if a.reason.startswith(_BY_CLASSIFIER)}
    labels, by_classifier = np.empty(len(places), dtype=np.intp), np.zeros(len(places), dtype=bool)
    labels[places] = result.labels
    by_classifier[places] = [text.id in learnt for text in result.texts]
    return Run(
        result=result,
        labels=labels,
        learnt=by_classifier,
        reading=result.info.corpus,
        sent=result.usage.input_tokens * _CHARACTERS_PER_TOKEN / sum(map(len, corpus.texts)),
        seconds=seconds,
    )


def measure_quality(corpus: Corpus, labeller: Labeller, url: str) -> Quality:
    """Run both efforts, and have all texts read under the clusters of economy."""
    economy, thorough = (cluster(corpus, labeller, url, effort) for effort in ("economy", "thorough"))
    otherwise = _placed_otherwise(corpus, economy.result, url)
    return Quality(corpus, labeller, economy, thorough, otherwise, ceiling_of(corpus.labels, labeller))


def _placed_otherwise(corpus: Corpus, result: ClusteringResult, url: str) -> NDArray[np.bool_]:
    """Texts that the model, reading all of them under the clusters of a result, places otherwise."""
    # a run's own texts would be found in it instead of being read again
    bare = result.clustering.model_copy(update={"assignments": (), "unassigned": ()})
    agent = ClusteringAgent(f"vllm:fake@{url}", effort="thorough", cache=False)
    again = agent.assign(replace(result, texts=(), clustering=bare, index=None), list(corpus.texts))
    places = zip(_places(result), _places(again), strict=True)
    return np.array([one != other for one, other in places])


def _places(result: ClusteringResult) -> list[str | None]:
    """The cluster of each text, in order."""
    places = {assignment.text_id: assignment.cluster_id for assignment in result.assignments}
    return [places.get(text.id) for text in result.texts]


def measure_stability(corpus: Corpus, labeller: Labeller, url: str, runs: int) -> list[Stability]:
    """Runs of economy over the texts in other orders, and with other seeds."""
    ceiling = ceiling_of(corpus.labels, labeller)
    shuffled = Stability(corpus, labeller, "texts shuffled", ceiling)
    seeded = Stability(corpus, labeller, "another seed", ceiling)
    for number in range(runs):
        shuffled.runs.append(cluster(corpus, labeller, url, "economy", order=number))
        seeded.runs.append(cluster(corpus, labeller, url, "economy", seed=number))
    return [shuffled, seeded]


def _share(what: NDArray[np.bool_], among: NDArray[np.bool_]) -> str:
    return f"{what[among].mean():.3f} of {among.sum():,}" if among.any() else "-"


def quality_row(found: Quality) -> list[str]:
    """Clusters and agreement."""
    economy, thorough = found.ami(found.economy), found.ami(found.thorough)
    between = adjusted_mutual_info(found.thorough.labels.tolist(), found.economy.labels.tolist())
    return [
        found.corpus.name,
        f"{found.labeller.noise:.0%}",
        str(found.corpus.k),
        f"{found.economy.k} / {found.thorough.k}",
        f"{found.k_error:.2f}",
        f"{economy:.3f}",
        f"{thorough:.3f}",
        f"{economy - thorough:+.3f}",
        f"{found.ceiling.ami:.3f}",
        f"{between:.3f}",
    ]


QUALITY_HEAD = (
    "set",
    "noise",
    "k",
    "found k (economy / thorough)",
    "k error",
    "AMI economy",
    "AMI thorough",
    "difference",
    "AMI of one reading, right clusters",
    "AMI of the two efforts",
)


def reading_row(found: Quality) -> list[str]:
    """What the classifier took, how far it is off, and what was sent."""
    estimate = found.economy.reading.disagreement
    with_kin, without = found.contradicted_by_kin()
    return [
        found.corpus.name,
        f"{found.labeller.noise:.0%}",
        f"{found.economy.reading.by_classifier / len(found.corpus.texts):.0%}",
        f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]" if estimate else "-",
        f"{found.contradicted:.3f}",
        {True: "yes", False: "no", None: "-"}[found.covered],
        with_kin,
        without,
        f"{found.differing.mean():.3f}",
        f"{found.economy.sent:.2f} / {found.thorough.sent:.2f}",
        f"{found.economy.seconds:.0f} / {found.thorough.seconds:.0f}",
    ]


READING_HEAD = (
    "set",
    "noise",
    "by classifier",
    "estimated disagreement",
    "true",
    "covered",
    "of those with kin read",
    "no kin read",
    "efforts differ on",
    "tokens sent / in corpus (economy / thorough)",
    "seconds",
)


def mean_rows(found: Sequence[Quality]) -> list[list[str]]:
    """Means over the sets, with bootstrap intervals over sets, for each noise."""
    rows = []
    for noise in dict.fromkeys(one.labeller.noise for one in found):
        those = {one.corpus.name: one for one in found if one.labeller.noise == noise}
        k_errors = {name: one.k_error for name, one in those.items()}
        lost = compare(
            {name: one.ami(one.thorough) for name, one in those.items()},
            {name: one.ami(one.economy) for name, one in those.items()},
        ).difference
        covered = [one.covered for one in those.values() if one.covered is not None]
        rows.append(
            [
                f"{noise:.0%}",
                str(len(those)),
                _interval(_mean(k_errors)),
                f"{sum(error <= AIMS['k_error'] for error in k_errors.values())} of {len(those)}",
                _interval(lost),
                _proportion(covered),
            ]
        )
    return rows


MEANS_HEAD = (
    "noise",
    "sets",
    f"k error (aim {AIMS['k_error']} at most)",
    "sets within the aim",
    f"AMI lost by economy (aim {AIMS['loss']} at most)",
    "estimates that cover",
)


def _mean(values: Mapping[str, float]) -> Interval:
    return compare(values, dict.fromkeys(values, 0.0)).difference


def _interval(interval: Interval) -> str:
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def _proportion(covered: Sequence[bool]) -> str:
    if not covered:
        return "-"
    interval = binomtest(sum(covered), len(covered)).proportion_ci()  # Clopper & Pearson
    return f"{sum(covered)} of {len(covered)} [{interval.low:.2f}, {interval.high:.2f}]"


def stability_row(found: Stability) -> list[str]:
    """Mean agreement of the runs, and its range."""
    pairs = found.pairs
    counts = [run.k for run in found.runs]
    return [
        found.corpus.name,
        f"{found.labeller.noise:.0%}",
        found.what,
        str(len(found.runs)),
        f"{np.mean(pairs):.3f} ({min(pairs):.3f} .. {max(pairs):.3f})",
        f"{found.ceiling.ari_of_two:.3f}",
        str(found.corpus.k),
        f"{min(counts)} .. {max(counts)}",
    ]


STABILITY_HEAD = (
    "set",
    "noise",
    "what changes",
    "runs",
    f"mean ARI of two runs (aim {AIMS['stability']} at least)",
    "of two readings, right clusters",
    "k",
    "found k",
)


def main() -> None:
    """Print the tables."""
    arguments = _arguments()
    quality: list[Quality] = []
    stability: list[Stability] = []
    stable = [name for name in arguments.stable if name]
    with fake_server(0.0) as url, tempfile.TemporaryDirectory() as folder:
        for name in dict.fromkeys([*arguments.sets, *stable]):
            if name in arguments.sets:
                corpus = corpus_of(arguments.data, name, arguments.texts, Path(folder))
                for noise in arguments.noise:
                    quality.append(measure_quality(corpus, Labeller(noise, arguments.stubborn), url))
                    print(*quality_row(quality[-1]), sep=" | ", file=sys.stderr, flush=True)
            if name in stable:
                corpus = corpus_of(arguments.data, name, arguments.stable_texts, Path(folder))
                for noise in arguments.stable_noise:
                    labeller = Labeller(noise, arguments.stubborn)
                    stability += measure_stability(corpus, labeller, url, arguments.shuffles)
                    print(*stability_row(stability[-2]), sep=" | ", file=sys.stderr, flush=True)
    print(
        f"Corpora of up to {arguments.texts:,} variants of labelled texts (words left out, half of them "
        f"two texts of equal label), which a classifier has easier than texts of their own. A scripted "
        f"labeller errs as often as `noise` says, whatever the wording; of its errors "
        f"{arguments.stubborn:.0%} recur. `true` is the share of all texts that the classifier has placed "
        f"and the labeller, asked to read them all under the same clusters, places otherwise.\n"
    )
    print(table(QUALITY_HEAD, map(quality_row, quality)), end="\n\n")
    print(table(READING_HEAD, map(reading_row, quality)), end="\n\n")
    print(table(MEANS_HEAD, mean_rows(quality)))
    if stability:
        print(f"\nThe same texts again ({arguments.stable_texts:,} at most), `economy`:\n")
        print(table(STABILITY_HEAD, map(stability_row, stability)))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    given = os.environ.get("CLUSTER_R1_DATA")
    data = parser.add_argument("data", nargs="?", type=Path, default=Path(given) if given else None)
    parser.add_argument("--texts", type=int, default=20_000, help="of a corpus at most")
    parser.add_argument("--sets", nargs="+", default=list(SETS), metavar="SET/ATTRIBUTE")
    parser.add_argument("--noise", type=float, nargs="+", default=[0.05, 0.15])
    parser.add_argument("--stubborn", type=float, default=0.5, help="share of the noise that recurs")
    parser.add_argument("--shuffles", type=int, default=5, help="runs that are compared with one another")
    parser.add_argument("--stable", nargs="+", default=list(STABLE), metavar="SET/ATTRIBUTE")
    parser.add_argument("--stable-texts", type=int, default=6_000, help="where runs are compared")
    parser.add_argument("--stable-noise", type=float, nargs="+", default=[0.0, 0.05])
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error(f"{data.dest}: give a folder of labelled sets, or set CLUSTER_R1_DATA")
    return arguments


if __name__ == "__main__":
    main()
