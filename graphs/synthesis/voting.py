"""What blind readings say of a draft's labels: agreement, and a vote on every text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from cluster_r1.agents.synthesis.draft import Draft
from cluster_r1.agents.synthesis.verifier import Reading
from cluster_r1.graphs.synthesis.config import Verifying
from cluster_r1.metrics import adjusted_mutual_info
from cluster_r1.types import Record

_OWN = "\x00"  # begins what is no category


class Verification(Record):
    """What came of the blind readings.

    Attributes:
        ami: AMI of the labels and what most readings say,
        single_ami: and of the labels and a single reading, mean over the readings.
        votes: of each labelled text, share of the readings that put it where its label is.
        kept: positions, from 0, of the texts that stay.
        kept_ami: AMI of the labels and what most readings say over these.
    """

    ami: float
    single_ami: float
    votes: tuple[float, ...]
    kept: tuple[int, ...]
    kept_ami: float


def verify_labels(draft: Draft, readings: Sequence[Reading], bars: Verifying) -> Verification:
    """Compare the labels with blind readings.

    A reading has names of its own, so its groups are matched with the categories one to one, such that most
    texts agree (Kuhn, Naval Research Logistics Quarterly 2, 1955); groups left over keep their own names. A
    reader's own doubt halves that vote. Labels are trusted by what most readings say, since readers err too,
    and three of them seldom in the same way.

    Args:
        draft: with at least one label.
        readings: at least one.
        bars: `least_vote` decides which texts stay; a text without a label never does.
    """
    labelled = [place for place, label in enumerate(draft.labels) if label is not None]
    labels = [label.category for label in draft.labels if label is not None]
    named = [_named(labels, [reading.groups[place] for place in labelled]) for reading in readings]
    weights = [[0.5 if place + 1 in reading.doubtful else 1.0 for place in labelled] for reading in readings]
    shares = [
        sum(w[n] for names, w in zip(named, weights, strict=True) if names[n] == label) / len(readings)
        for n, label in enumerate(labels)
    ]
    consensus = [_most(names) for names in zip(*named, strict=True)]
    stays = [number for number, share in enumerate(shares) if share >= bars.least_vote]
    return Verification(
        ami=_ami(labels, consensus),
        single_ami=round(sum(_ami(labels, names) for names in named) / len(named), 4),
        votes=tuple(round(share, 4) for share in shares),
        kept=tuple(labelled[number] for number in stays),
        kept_ami=_ami([labels[number] for number in stays], [consensus[number] for number in stays]),
    )


def _named(labels: Sequence[str], groups: Sequence[str | None]) -> list[str]:
    """The groups under the names of the categories that they match; others under their own, none as alone."""
    rows, columns = sorted(set(labels)), sorted({group for group in groups if group is not None})
    shared = Counter(zip(labels, groups, strict=True))
    table = np.array([[shared[row, column] for column in columns] for row in rows])
    pairs = zip(*linear_sum_assignment(table, maximize=True), strict=True)
    match = {columns[column]: rows[row] for row, column in pairs if table[row, column]}
    return [
        f"{_OWN}{_OWN}{place}" if group is None else match.get(group, f"{_OWN}{group}")
        for place, group in enumerate(groups)
    ]


def _most(names: Sequence[str]) -> str:
    """What most readings say; of equally many the first reading's."""
    return max(names, key=lambda name: (names.count(name), -names.index(name)))


def _ami(labels: Sequence[str], groups: Sequence[str]) -> float:
    return round(adjusted_mutual_info(labels, groups), 4) if labels else 0.0
