"""Writes the card of the shipped tasks: what they ask, how far a second reader agrees, how lexical they are.

    python benchmark/task_card.py            # prints it
    python benchmark/task_card.py --write    # writes benchmark/tasks/README.md

By task: Cohen's kappa of the design's labels and those of a reader who saw texts, instruction and classes
alone; how often a text says the words of its own label, beside texts of other labels; how much of what a
majority guess leaves a linear probe on TF-IDF gets right (five folds, no text seen in training); AMI of
k-means on the bundled static embedder with k given. The last two say how far words alone carry the labels.
"""

from __future__ import annotations

import argparse
import re
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from cluster_r1.benchmark.systems.registry import open_systems
from cluster_r1.benchmark.systems.system import Question
from cluster_r1.benchmark.task_sets import SPLITS, shipped_tasks, tasks_folder
from cluster_r1.json_lines import read_json_lines
from cluster_r1.markdown import table
from cluster_r1.metrics import adjusted_mutual_info
from cluster_r1.task import Task

_TEXT = """\
# ReasonCluster-Open: the tasks

{tests} tasks to test with and {developments} to develop with, over texts that were written for this project.
Each corpus is asked about in several ways that have nothing to do with each other, so that a system has to
follow the instruction: whoever groups by what the texts are about is right on three of the tasks at most.

- `test.jsonl`, `development.jsonl`: one task a line (instruction, four paraphrases, reference, split, meta
  with the classes and what they mean). The texts are in the file that `texts` names.
- `second_reader/`: the labels of a second reader, and those of them that the reader was in doubt about.
- Licence: [CC0 1.0](https://creativecommons.org/publicdomain/zero/1.0/), texts, labels, instructions.

## How they came about

1. For each corpus a design: attributes, their classes and what these mean, instruction and paraphrases.
2. A label for every attribute of every text was drawn **before** anything was written: uneven class sizes,
   attributes as good as independent.
3. Language models wrote a text for each row of labels, one by one; no program filled in templates. All
   persons, firms, places and states are invented.
4. A second reader, a language model that had seen neither design nor labels, labelled each text
   from instruction and classes. Agreement is Cohen's kappa.
   Of 30 attributes, 29 were read as they had been meant on every text and one on all but two (.98), though
   readers marked some forty labels as doubtful. That one (what figures are compared with, finance) and one
   that is a matter of dates (how long a case had gone on, legal) were left out to come to 28; no system's
   score had a part in it.

What to keep in mind: writer and second reader are language models of one family. Their agreement says that
the labels can be recovered by such a reader who knows the classes, not that people would agree as much. A
few hundred texts are few, so look at the intervals. The scorer that this project ships was trained on scenes
that models of the same family wrote (other texts, other attributes, though some are near kin).

The development corpora have attributes of their own. Tune and train on them, never on the test texts.

## Corpora

{corpora}

## Tasks

`kappa`: agreement with the second reader. `own / other`: share of the texts that say a word of their own
label, and mean share of the texts of other labels that say it. `probe`: share of what a majority guess gets
wrong that a linear model on TF-IDF gets right, in [.., 1], about 0 where words do not tell. `embedding`: AMI
of k-means on the static embedder, k given. *: about a topic. (`python benchmark/task_card.py --write`)

{tasks}
"""


def card() -> str:
    """The card as Markdown."""
    everything = {split: shipped_tasks(split) for split in SPLITS}
    tasks = [task for split in SPLITS for task in everything[split]]
    return _TEXT.format(
        tests=len(everything["test"]),
        developments=len(everything["development"]),
        corpora=table(
            ["corpus", "split", "texts", "words", "tasks", "k", "highest AMI of two tasks"], _corpora(tasks)
        ),
        tasks=table(
            ["task", "k", "smallest, largest", "kappa", "own / other", "probe", "embedding", "instruction"],
            [_row(task) for task in tasks],
        ),
    )


def _corpora(tasks: Sequence[Task]) -> Iterator[list[str]]:
    for corpus in dict.fromkeys(task.corpus for task in tasks):
        own = [task for task in tasks if task.corpus == corpus]
        words = sorted(len(text.text.split()) for text in own[0].texts)
        dependence = max(
            adjusted_mutual_info(one.labels, other.labels) for one, other in combinations(own, 2)
        )
        yield [
            corpus,
            own[0].split,
            str(len(words)),
            f"{words[0]} to {words[-1]}, median {statistics.median(words):.0f}",
            str(len(own)),
            f"{min(task.k for task in own)} to {max(task.k for task in own)}",
            f"{dependence:.3f}",
        ]


def _row(task: Task) -> list[str]:
    sizes = Counter(task.labels).values()
    own, other = label_words(task)
    return [
        f"{task.id}{'*' if task.meta.get('topical') else ''}",
        str(task.k),
        f"{min(sizes)}, {max(sizes)}",
        f"{second_reader_kappa(task):.2f}",
        f"{own:.2f} / {other:.2f}",
        f"{lexical_probe(task):.2f}",
        f"{embedding_ami(task):.2f}",
        task.instruction,
    ]


def second_reader_kappa(task: Task) -> float:
    """Cohen's kappa of reference and second reader, in [-1, 1]."""
    from sklearn.metrics import cohen_kappa_score

    attribute = str(task.meta["attribute"])
    path = tasks_folder() / "second_reader" / f"{task.corpus}.jsonl"
    read = {row["id"]: row["labels"][attribute] for _, row in read_json_lines(path)}
    return float(cohen_kappa_score(task.labels, [read[text.id] for text in task.texts]))


def label_words(task: Task) -> tuple[float, float]:
    """Share of the texts that say a word of their own label, and mean share of others that say it."""
    said = {label: [_says(text.text, label) for text in task.texts] for label in dict.fromkeys(task.labels)}
    own = [said[label][position] for position, label in enumerate(task.labels)]
    other = [
        statistics.fmean(hits[position] for position, true in enumerate(task.labels) if true != label)
        for label, hits in said.items()
    ]
    return statistics.fmean(own), statistics.fmean(other)


def _says(text: str, label: str) -> bool:
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    found = re.findall(r"[a-z]+", label.casefold())
    words = [word for word in found if len(word) > 3 and word not in ENGLISH_STOP_WORDS]
    return any(re.search(rf"\b{word}", text.casefold()) for word in words)


def lexical_probe(task: Task) -> float:
    """Accuracy of a linear model on TF-IDF over five folds, as a share of what a majority guess leaves."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import KFold, cross_val_predict
    from sklearn.pipeline import make_pipeline

    texts, labels = np.array([text.text for text in task.texts]), np.array(task.labels)
    probe = make_pipeline(
        TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2)),
        LogisticRegression(C=10, class_weight="balanced", max_iter=1000),
    )
    folds = KFold(5, shuffle=True, random_state=0)
    accuracy = float((cross_val_predict(probe, texts, labels, cv=folds) == labels).mean())
    majority = max(Counter(task.labels).values()) / len(labels)
    return (accuracy - majority) / (1 - majority)


def embedding_ami(task: Task) -> float:
    """AMI of k-means on the static embedder with the true k."""
    (system,) = open_systems(["kmeans@static"])
    found = system.answer(Question(task.texts, task.instruction, task.k))
    return adjusted_mutual_info(task.labels, found.labels)


def main() -> None:
    """Print the card, or write it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="write benchmark/tasks/README.md")
    written = card()
    if parser.parse_args().write:
        (tasks_folder() / "README.md").write_text(written, encoding="utf-8")
    else:
        print(written)


if __name__ == "__main__":
    main()
