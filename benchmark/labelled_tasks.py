"""Benchmark tasks of a labelled set: one for each attribute, over the same texts where that can be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random

from cluster_r1.errors import InputError
from cluster_r1.task import Task
from cluster_r1.training.labelled import LabelledSet, LabelledText
from cluster_r1.types import Text

_PARAPHRASES = 4  # other wordings that a task asks with


def labelled_tasks(labelled: LabelledSet, *, texts: int = 100, seed: int = 0) -> list[Task]:
    """One task for each attribute, named `<corpus>/<attribute>`: equal sets and seeds give equal tasks.

    Where at least half of the rows carry every attribute, all tasks have the same texts, so that what an
    instruction changes can be measured; else each task takes the first rows of one random order that carry
    its attribute. A label that occurs once in a sample is dropped with its text, and an attribute with fewer
    than two labels then is left out.

    Args:
        labelled: texts with labels, and how each attribute is asked for.
        texts: how many texts a task has at most.
        seed: which rows are drawn.

    Raises:
        InputError: two rows have the same id.
    """
    _refuse_equal_ids(labelled)
    pool = list(labelled.rows)
    Random(seed).shuffle(pool)
    shared = _shared(labelled, pool, texts)
    tasks = []
    for name in labelled.attributes:
        rows = shared or _repeated(
            [row for row in pool if _label(labelled, row, name)][:texts], labelled, [name]
        )
        if len({_label(labelled, row, name) for row in rows}) >= 2:
            tasks.append(_task(labelled, name, rows))
    return tasks


def _refuse_equal_ids(labelled: LabelledSet) -> None:
    ids = Counter(row.id for row in labelled.rows)
    if again := [id for id, count in ids.items() if count > 1]:
        raise InputError(f"{labelled.corpus}: two rows have the id {again[0]!r}: give each its own")


def _shared(labelled: LabelledSet, pool: Sequence[LabelledText], texts: int) -> list[LabelledText]:
    """Rows that serve all attributes; none where too few carry them all, or would be left."""
    names = list(labelled.attributes)
    complete = [row for row in pool if all(_label(labelled, row, name) for name in names)]
    if 2 * len(complete) < len(pool):
        return []
    sample = complete[:texts]
    kept = _repeated(sample, labelled, names)
    return kept if 2 * len(kept) >= len(sample) else []


def _repeated(
    rows: Sequence[LabelledText], labelled: LabelledSet, names: Sequence[str]
) -> list[LabelledText]:
    """The rows whose labels for these attributes all occur with another row too."""
    kept = list(rows)
    while True:
        sizes = {name: Counter(_label(labelled, row, name) for row in kept) for name in names}
        left = [row for row in kept if all(sizes[name][_label(labelled, row, name)] > 1 for name in names)]
        if len(left) == len(kept):
            return kept
        kept = left


def _label(labelled: LabelledSet, row: LabelledText, name: str) -> str:
    """The label as a person would write it, empty where the row has none."""
    label = row.labels.get(name, "").strip()
    return labelled.attributes[name].name(label) if label else ""


def _task(labelled: LabelledSet, name: str, rows: Sequence[LabelledText]) -> Task:
    attribute = labelled.attributes[name]
    return Task(
        id=f"{labelled.corpus}/{name}",
        corpus=labelled.corpus,
        instruction=attribute.instructions[0],
        paraphrases=attribute.instructions[1 : 1 + _PARAPHRASES],
        texts=tuple(Text(id=row.id, text=row.text) for row in rows),
        reference={row.id: _label(labelled, row, name) for row in rows},
        split="test",
        meta={
            "attribute": name,
            "topical": attribute.topical,
            "licence": labelled.licence,
            "source": labelled.source,
        },
    )
