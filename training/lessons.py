"""Lessons: what the scorer is asked in one step, a few texts and several questions about each."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cluster_r1.training.recipe import ScorerRecipe
from cluster_r1.training.scenes import Scene


@dataclass(frozen=True, slots=True)
class Lesson:
    """Texts of one scene, asked all its questions once, in words chosen for this time.

    Attributes:
        texts: the texts.
        questions: a wording of each attribute.
        labels: of each attribute its labels, as phrased this time.
        gold: of each attribute: the number of each text's label among them.
    """

    texts: tuple[str, ...]
    questions: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...]
    gold: tuple[tuple[int, ...], ...]


def draw_lessons(scenes: Sequence[Scene], recipe: ScorerRecipe) -> list[Lesson]:
    """All lessons in the order of training; the same seed gives the same.

    Each round goes through all texts once, in lessons of about `batch` texts.
    """
    rng = random.Random(recipe.seed)
    a_round = sum(_parts(scene, recipe.batch) for scene in scenes)
    wanted = (recipe.steps or math.ceil(recipe.epochs * a_round / recipe.accumulate)) * recipe.accumulate
    lessons: list[Lesson] = []
    while len(lessons) < wanted:
        drawn = [lesson for scene in scenes for lesson in _lessons_of(scene, recipe.batch, rng)]
        rng.shuffle(drawn)
        lessons += drawn
    return lessons[:wanted]


def _parts(scene: Scene, batch: int) -> int:
    return max(1, round(len(scene.texts) / batch))


def _lessons_of(scene: Scene, batch: int, rng: random.Random) -> Iterator[Lesson]:
    texts = list(scene.texts)
    rng.shuffle(texts)
    parts = _parts(scene, batch)
    keys = [list(attribute.labels) for attribute in scene.attributes]
    for part in range(parts):
        chosen = texts[part::parts]
        yield Lesson(
            texts=tuple(text.text for text in chosen),
            questions=tuple(rng.choice(attribute.wordings) for attribute in scene.attributes),
            labels=tuple(
                tuple(rng.choice(phrasings) for phrasings in attribute.labels.values())
                for attribute in scene.attributes
            ),
            gold=tuple(
                tuple(keys[number].index(text.labels[number]) for text in chosen)
                for number in range(len(scene.attributes))
            ),
        )
