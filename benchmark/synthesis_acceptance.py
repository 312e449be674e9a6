"""Which drafts the synthesis graph accepts, against a generator that is known to be good or bad.

    python benchmark/synthesis_acceptance.py LABELLED.jsonl ... [--attempts 60]

Run from the repository's root, with the test extras installed. A scripted model knows the labels of the sets
and plays all roles (tests/fakes/synthesis_oracle.py). Its critic accepts everything, so that what is measured
are the checks by program, the blind readings and the graph's rules.

Recall is the share of good drafts that are accepted, precision the share of accepted ones that are good; in
brackets, 95 % Wilson intervals over drafts. `wrong labels` is their share in tasks made of good drafts.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from scipy.stats import binomtest
from sklearn.cluster import KMeans

from cluster_r1 import SynthesisConfig, SynthesisGraph
from cluster_r1.agents.models.static_embedder import embed
from cluster_r1.benchmark.fake_server import fake_server
from cluster_r1.graphs.synthesis.outcome import Outcome
from cluster_r1.graphs.synthesis.slicing import SliceStore
from cluster_r1.markdown import table
from cluster_r1.metrics import adjusted_mutual_info
from cluster_r1.prompts.template import one_line
from cluster_r1.synthesis.journal import JOURNAL, read_slices
from cluster_r1.synthesis.sources import all_sources
from cluster_r1.training.labelled import LabelledSet, read_labelled

_SOLVED = 0.7

_NO_NOVELTY = {"most_ami": 1.0, "most_similarity": 1.0, "tasks_a_family": 10**6}


@dataclass(frozen=True)
class Setting:
    """A row of the table: what is wrong with half of the drafts, and how well labels are known.

    Attributes:
        bad: the bad kind.
        noise: share of wrong labels of the generator,
        reader_noise: and of blind readers.
        written: whether texts are written for labels, instead of the other way round.
    """

    bad: str
    noise: float = 0.0
    reader_noise: float = 0.0
    written: bool = False

    @property
    def novelty(self) -> dict[str, Any]:
        """Repetitions count where they are what is measured."""
        return {} if self.bad == "duplicate" else _NO_NOVELTY


SETTINGS = (
    Setting("mislabelled"),
    Setting("mislabelled", noise=0.1),
    Setting("mislabelled", noise=0.3),
    Setting("mislabelled", reader_noise=0.1),
    Setting("mislabelled", reader_noise=0.3),
    Setting("mislabelled", noise=0.1, reader_noise=0.1),
    Setting("mislabelled", noise=0.3, reader_noise=0.3),
    Setting("leaking"),
    Setting("leaking", written=True),
    Setting("trivial"),
    Setting("duplicate"),
)


@dataclass
class Count:
    """What became of the drafts of a setting."""

    good: int = 0
    bad: int = 0
    good_accepted: int = 0
    bad_accepted: int = 0
    kept: Errors = field(default_factory=lambda: Errors())
    lost: Counter[str] = field(default_factory=Counter)
    caught: Counter[str] = field(default_factory=Counter)


@dataclass
class Errors:
    """Labels, and how many of them are wrong."""

    labels: int = 0
    wrong: int = 0

    def add(self, said: str, truth: str) -> None:
        """Count a label."""
        self.labels += 1
        self.wrong += said != truth

    def __str__(self) -> str:
        return f"{self.wrong / self.labels:.1%}" if self.labels else "-"


def measure(setting: Setting, files: Sequence[Path], attempts: int, url: str) -> Count:
    """Run so many attempts on each set."""
    count = Count()
    for file in files:
        oracle = {
            "file": str(file.resolve()),
            "noise": setting.noise,
            "reader_noise": setting.reader_noise,
            "bad": 0.5,
            "manner": setting.bad,
        }
        httpx.post(url.replace("/v1", "/oracle"), json=oracle).raise_for_status()
        labelled = read_labelled(file)
        truth = _truth(labelled)
        repeated: set[str] = set()
        for outcome, texts in _outcomes(setting, labelled, attempts, url):
            _enter(count, setting, outcome, truth, repeated, texts)
    return count


def _outcomes(
    setting: Setting, labelled: LabelledSet, attempts: int, url: str
) -> Iterator[tuple[Outcome, list[str]]]:
    """Attempts, with the texts of their slices."""
    config = SynthesisConfig.model_validate(
        {
            "texts": [10, 40],
            "k": [2, 12],
            "novelty": setting.novelty,
            "split": {"validation": 0, "test": 0},
            "critique": {"revisions": 0},
            "distill": {"samples": 0},
        }
    )
    corpora = {} if setting.written else {labelled.corpus: [row.text for row in labelled.rows]}
    with tempfile.TemporaryDirectory() as folder:
        SynthesisGraph(f"vllm:fake@{url}", config=config, cache=False).run(
            corpora,
            domains=[f"texts such as those of {labelled.corpus}"] if setting.written else (),
            tasks=10**9,
            out=folder,
            most_attempts=attempts,
        )
        store = SliceStore(all_sources(corpora), config) if corpora else None
        for outcomes in read_slices(Path(folder) / JOURNAL):
            for outcome in outcomes:
                drawn = store.slice(outcome.corpus, outcome.slice).texts if store else ()
                yield outcome, [text.text for text in drawn]


def _truth(labelled: LabelledSet) -> dict[str, dict[str, str]]:
    """Labels of each wording, by attribute."""
    return {
        one_line(row.text): {
            name.replace("_", " "): labelled.attributes[name].name(label)
            for name, label in row.labels.items()
        }
        for row in labelled.rows
    }


def _enter(
    count: Count,
    setting: Setting,
    outcome: Outcome,
    truth: Mapping[str, Mapping[str, str]],
    repeated: set[str],
    texts: Sequence[str],
) -> None:
    """Count an attempt.

    Where repetitions count, those of an accepted task are bad, and the first is good. A draft about what the
    texts are about is bad if k-means, told k, finds its groups (AMI .7); the check itself groups otherwise.
    """
    attribute, _, kind = outcome.criterion.rpartition(" #")
    if not kind:
        return  # there was no draft
    accepted = outcome.task is not None
    if kind == "duplicate" or (kind == "good" and attribute in repeated):
        good = attribute not in repeated
    elif kind == "trivial":
        good = not _solved([truth[one_line(text)][attribute] for text in texts], texts)
    else:
        good = kind == "good"
    if good:
        count.good += 1
        count.good_accepted += accepted
    else:
        count.bad += 1
        count.bad_accepted += accepted
    if outcome.rejection is not None:
        (count.lost if good else count.caught)[outcome.rejection.reason] += 1
    if accepted and setting.bad == "duplicate":
        repeated.add(attribute)
    if outcome.task is not None and kind == "good":
        for text in outcome.task.texts:
            true_label = truth.get(one_line(text.text), {}).get(attribute)
            if true_label is not None:
                count.kept.add(outcome.task.reference[text.id], true_label)


def _solved(labels: Sequence[str], texts: Sequence[str]) -> bool:
    k = len(set(labels))
    found = KMeans(n_clusters=k, n_init=10, random_state=0).fit_predict(embed(texts))
    return adjusted_mutual_info(labels, found.tolist()) >= _SOLVED


def row(setting: Setting, count: Count) -> list[str]:
    """A row of the table."""
    accepted = count.good_accepted + count.bad_accepted
    return [
        f"{setting.bad}{', texts written' if setting.written else ''}",
        f"{setting.noise:.0%}",
        f"{setting.reader_noise:.0%}",
        f"{count.good} + {count.bad}",
        _share(count.good_accepted, accepted),
        _share(count.good_accepted, count.good),
        str(count.kept),
        _listed(count.caught),
        _listed(count.lost),
    ]


def _listed(reasons: Counter[str]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in reasons.most_common(3)) or "-"


def _share(part: int, whole: int) -> str:
    if not whole:
        return "-"
    interval = binomtest(part, whole).proportion_ci(method="wilson")
    return f"{part / whole:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--attempts", type=int, default=60, help="of each set and setting")
    parser.add_argument("--only", help="rows with this bad kind")
    arguments = parser.parse_args()
    head = (
        "bad half",
        "label noise",
        "reader noise",
        "drafts",
        "precision",
        "recall",
        "wrong labels",
        "bad ones caught as",
        "good ones lost as",
    )
    rows = []
    with fake_server(0.0) as url:
        for setting in SETTINGS:
            if arguments.only not in (None, setting.bad):
                continue
            rows.append(row(setting, measure(setting, arguments.files, arguments.attempts, url)))
            print(*rows[-1], sep=" | ", file=sys.stderr, flush=True)
    print(table(head, rows))


if __name__ == "__main__":
    main()
