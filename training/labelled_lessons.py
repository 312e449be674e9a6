"""Draws the scorer's lessons from labelled sets: a few texts, asked for all attributes that divide them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from cluster_r1.training.episodes import EpisodeSettings, draw_episodes
from cluster_r1.training.labelled import LabelledSet
from cluster_r1.training.lessons import Lesson

_MOST_LABELS = 8  # that a lesson offers, those of its texts included, as far as these are not more


@dataclass(frozen=True, slots=True)
class _Row:
    text: str
    labels: Mapping[str, str]


def draw_labelled_lessons(
    sets: Sequence[LabelledSet], count: int, texts: int, families: Sequence[str], seed: int
) -> list[Lesson]:
    """So many lessons of so many texts.

    Args:
        sets: the labelled sets.
        count: of lessons; equally many from each attribute, on average.
        texts: in a lesson.
        families: the `corpus/attribute` that may be asked for.
        seed: equal seeds draw equal lessons.

    Raises:
        InputError: no attribute is left, or none divides so many texts.
    """
    rng = random.Random(seed)
    settings = EpisodeSettings(
        texts=(texts, texts), k=(2, max(2, texts // 2)), again=0, attributes=tuple(families), seed=seed
    )
    by_corpus = {
        labelled.corpus: (labelled, {row.id: _Row(row.text, row.labels) for row in labelled.rows})
        for labelled in sets
    }
    lessons = []
    for task in draw_episodes(sets, count, settings):
        labelled, rows = by_corpus[task.corpus]
        asked = [name for name in labelled.attributes if f"{labelled.corpus}/{name}" in families]
        lessons.append(_lesson([rows[text.id] for text in task.texts], labelled, asked, rng))
    return lessons


def _lesson(rows: Sequence[_Row], labelled: LabelledSet, asked: Sequence[str], rng: random.Random) -> Lesson:
    questions, labels, gold = [], [], []
    for name in _dividing(rows, asked):
        attribute = labelled.attributes[name]
        present = sorted({row.labels[name] for row in rows})
        others = sorted({row.labels[name] for row in labelled.rows if name in row.labels} - set(present))
        offered = present + rng.sample(others, min(len(others), max(0, _MOST_LABELS - len(present))))
        questions.append(rng.choice(attribute.instructions))
        labels.append(tuple(attribute.name(label) for label in offered))
        gold.append(tuple(offered.index(row.labels[name]) for row in rows))
    return Lesson(tuple(row.text for row in rows), tuple(questions), tuple(labels), tuple(gold))


def _dividing(rows: Sequence[_Row], asked: Sequence[str]) -> Iterator[str]:
    """The attributes that every text has a label of, and not all the same."""
    for name in asked:
        labels = {row.labels.get(name) for row in rows}
        if None not in labels and len(labels) > 1:
            yield name
