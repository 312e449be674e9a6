"""Episodes: tasks drawn from labelled sets, each a handful of texts, one attribute and one wording of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from pydantic import Field

from cluster_r1.errors import InputError
from cluster_r1.task import Task
from cluster_r1.training.labelled import LabelledSet, LabelledText
from cluster_r1.types import Record, Text

_TRIES = 100  # draws that may fail in a row before the settings count as impossible


class EpisodeSettings(Record):
    """What is drawn.

    Attributes:
        texts: fewest and most texts; log-uniform between, since small tasks are learnt first and cost less.
        k: fewest and most clusters; uniform between, as far as texts and labels allow.
        skew: concentration of the Dirichlet distribution of cluster sizes; small values make uneven clusters.
        again: share of the episodes that ask for another attribute of the texts just drawn, so that only the
            instruction tells the two apart.
        attributes: `corpus/attribute` to draw from; empty means all.
        seed: equal seeds draw equal episodes.
    """

    texts: tuple[int, int] = (8, 32)
    k: tuple[int, int] = (2, 8)
    skew: float = Field(default=2.0, gt=0)
    again: float = Field(default=0.3, ge=0, le=1)
    attributes: tuple[str, ...] = ()
    seed: int = 0

    def model_post_init(self, _: object) -> None:
        """Refuse ranges in which no informative reference exists."""
        if not 3 <= self.texts[0] <= self.texts[1]:
            raise ValueError(f"texts is {self.texts}: at least 3, and the lower bound first")
        if not 2 <= self.k[0] <= self.k[1]:
            raise ValueError(f"k is {self.k}: at least 2, and the lower bound first")


def draw_episodes(sets: Sequence[LabelledSet], count: int, settings: EpisodeSettings) -> Iterator[Task]:
    """So many episodes, each with an informative reference: 2 <= k < n.

    Raises:
        InputError: no attribute is left to draw from, or none has enough labels for the settings.
    """
    generator = np.random.default_rng(settings.seed)
    sources = _sources(sets, settings)
    drawn = failures = 0
    last: _Drawn | None = None
    while drawn < count:
        if last is not None and generator.random() < settings.again:
            last = _ask_again(last, settings, generator)
        else:
            last = _draw(sources[generator.integers(len(sources))], settings, generator)
        if last is None:
            failures += 1
            if failures == _TRIES:
                raise InputError(
                    f"no episode of {settings.texts} texts and {settings.k} clusters can be drawn: "
                    "the sets have too few texts or labels. Widen the ranges"
                )
            continue
        failures = 0
        drawn += 1
        yield _task(last, f"episode-{settings.seed}-{drawn:06d}", generator)


class _Source(Record):
    """An attribute of a set, with the set's rows by label."""

    labelled: LabelledSet
    attribute: str
    by_label: dict[str, tuple[LabelledText, ...]]


class _Drawn(Record):
    """Rows, and the attribute by which they are to be grouped."""

    labelled: LabelledSet
    attribute: str
    rows: tuple[LabelledText, ...]


def _sources(sets: Sequence[LabelledSet], settings: EpisodeSettings) -> list[_Source]:
    found = [
        _Source.model_construct(labelled=labelled, attribute=name, by_label=_by_label(labelled, name))
        for labelled in sets
        for name in labelled.attributes
        if _wanted(labelled, name, settings)
    ]
    known = {f"{labelled.corpus}/{name}" for labelled in sets for name in labelled.attributes}
    if unknown := [name for name in settings.attributes if name not in known]:
        raise InputError(f"no attribute {unknown[0]!r}. There are: {', '.join(sorted(known))}")
    if not found:
        raise InputError("the labelled sets have no attributes to draw from")
    return found


def _by_label(labelled: LabelledSet, attribute: str) -> dict[str, tuple[LabelledText, ...]]:
    groups: defaultdict[str, list[LabelledText]] = defaultdict(list)
    for row in labelled.rows:
        if attribute in row.labels:
            groups[row.labels[attribute]].append(row)
    return {label: tuple(rows) for label, rows in groups.items()}


def _draw(source: _Source, settings: EpisodeSettings, generator: np.random.Generator) -> _Drawn | None:
    low, high = np.log(settings.texts[0]), np.log(settings.texts[1] + 1)
    wanted = int(np.exp(generator.uniform(low, high)))
    most = min(settings.k[1], len(source.by_label), wanted - 1)
    if most < settings.k[0]:
        return None
    k = int(generator.integers(settings.k[0], most + 1))
    labels = generator.choice(sorted(source.by_label), size=k, replace=False)
    shares = generator.dirichlet([settings.skew] * k)
    sizes = 1 + generator.multinomial(wanted - k, shares)
    rows: list[LabelledText] = []
    for label, size in zip(labels, sizes, strict=True):
        there = source.by_label[label]
        chosen = generator.choice(len(there), size=min(int(size), len(there)), replace=False)
        rows += [there[position] for position in chosen]
    if not k < len(rows):
        return None
    shuffled = tuple(rows[position] for position in generator.permutation(len(rows)))
    return _Drawn.model_construct(labelled=source.labelled, attribute=source.attribute, rows=shuffled)


def _ask_again(drawn: _Drawn, settings: EpisodeSettings, generator: np.random.Generator) -> _Drawn | None:
    """The same texts by another attribute, if one divides them."""
    others = [
        name
        for name in drawn.labelled.attributes
        if name != drawn.attribute
        and _wanted(drawn.labelled, name, settings)
        and _divides(name, drawn.rows, settings.k)
    ]
    if not others:
        return None
    chosen = others[generator.integers(len(others))]
    return _Drawn.model_construct(labelled=drawn.labelled, attribute=chosen, rows=drawn.rows)


def _wanted(labelled: LabelledSet, attribute: str, settings: EpisodeSettings) -> bool:
    return not settings.attributes or f"{labelled.corpus}/{attribute}" in settings.attributes


def _divides(attribute: str, rows: Sequence[LabelledText], k: tuple[int, int]) -> bool:
    labels = [row.labels.get(attribute) for row in rows]
    return None not in labels and k[0] <= len(set(labels)) <= min(k[1], len(rows) - 1)


def _task(drawn: _Drawn, id: str, generator: np.random.Generator) -> Task:
    attribute = drawn.labelled.attributes[drawn.attribute]
    wording = int(generator.integers(len(attribute.instructions)))
    return Task(
        id=id,
        corpus=drawn.labelled.corpus,
        instruction=attribute.instructions[wording],
        paraphrases=tuple(w for position, w in enumerate(attribute.instructions) if position != wording),
        texts=tuple(Text(id=row.id, text=row.text) for row in drawn.rows),
        reference={row.id: attribute.name(row.labels[drawn.attribute]) for row in drawn.rows},
        split="train",
        meta={
            "attribute": drawn.attribute,
            "criterion": attribute.criterion,
            "topical": attribute.topical,
            "licence": drawn.labelled.licence,
        },
    )
