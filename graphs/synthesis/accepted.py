"""The accepted tasks of each corpus, as far as new ones must differ from them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cluster_r1.agents.models.static_embedder import DIMENSIONS, embed
from cluster_r1.agents.synthesis.draft import Category
from cluster_r1.graphs.synthesis.config import SPLITS, Novelty, Split
from cluster_r1.types import Record

_ROUNDING = 1e-6  # of cosines in single precision
_ROOM = 16  # tasks, at first
_MOST_TOLD = 30  # accepted instructions that a model is told of


class Signature(Record):
    """What two tasks are compared by: the instruction, and the names of the categories.

    Instructions alone tell little: other wordings of one have a cosine of .23 in the median, while one in
    twenty pairs that ask for different things has more than .5. The names of categories tell half of the
    repetitions at a cosine of .7, and hold one in five hundred of the others for one.
    """

    instruction: str
    categories: tuple[str, ...]

    @classmethod
    def of(cls, instruction: str, categories: Iterable[Category]) -> Signature:
        """That of a task with these categories, in whatever order they stand."""
        return cls(instruction=instruction, categories=tuple(sorted(each.name for each in categories)))


@dataclass
class _Corpus:
    """Accepted tasks of a corpus in the order of acceptance; arrays have room for more than there are.

    Attributes:
        ids: of the tasks.
        signatures: of the tasks.
        place_of: where a task stands, by id,
        saying: and where those with an instruction do.
        vectors: shape (2, room, 256), of instructions and of categories.
        families: shape (room,): where the first task of the family stands.
        splits: shape (room,): of the task, as its position in `SPLITS`.
        orders: of acceptance, over all corpora.
    """

    ids: list[str] = field(default_factory=list)
    signatures: list[Signature] = field(default_factory=list)
    place_of: dict[str, int] = field(default_factory=dict)
    saying: dict[str, list[int]] = field(default_factory=dict)
    vectors: NDArray[np.float32] = field(
        default_factory=lambda: np.zeros((2, _ROOM, DIMENSIONS), dtype=np.float32)
    )
    families: NDArray[np.intp] = field(default_factory=lambda: np.zeros(_ROOM, dtype=np.intp))
    splits: NDArray[np.intp] = field(default_factory=lambda: np.zeros(_ROOM, dtype=np.intp))
    orders: list[int] = field(default_factory=list)

    def make_room(self) -> None:
        """Double the arrays if they are full."""
        if len(self.ids) == len(self.families):
            self.vectors = np.concatenate([self.vectors, np.zeros_like(self.vectors)], axis=1)
            self.families = np.concatenate([self.families, np.zeros_like(self.families)])
            self.splits = np.concatenate([self.splits, np.zeros_like(self.splits)])


class AcceptedTasks:
    """Grows in the order in which tasks are decided; readers see it as it was when their work began.

    Not being shown what was accepted meanwhile makes a run's prompts, and so its outcome, independent of
    timing: the same whether calls are quick or slow, and after a crash.
    """

    def __init__(self, novelty: Novelty) -> None:
        self._novelty = novelty
        self._corpora: dict[str, _Corpus] = {}
        self._count = 0

    def __len__(self) -> int:
        """How many tasks were accepted, over all corpora; what a reader passes as `visible`."""
        return self._count

    def add(
        self, corpus: str, task_id: str, signature: Signature, split: Split, like: str | None = None
    ) -> str:
        """Enter an accepted task; gives the name of its family.

        That is the family of the task `like`, which a reader found to ask for the same, else of the task that
        it is most like, else its own.
        """
        kept = self._corpora.setdefault(corpus, _Corpus())
        place, similar = len(kept.ids), self._similar(kept, signature, len(kept.ids))
        same = kept.place_of.get(like or "", similar[0] if len(similar) else place)
        kept.make_room()
        kept.ids.append(task_id)
        kept.signatures.append(signature)
        kept.place_of[task_id] = place
        kept.saying.setdefault(signature.instruction, []).append(place)
        kept.vectors[:, place] = _vectors(signature)
        kept.families[place] = place if same == place else kept.families[same]
        kept.splits[place] = SPLITS.index(split)
        kept.orders.append(self._count)
        self._count += 1
        return kept.ids[int(kept.families[place])]

    def instructions(self, corpus: str, visible: int) -> tuple[str, ...]:
        """The latest accepted instructions of a corpus."""
        kept = self._corpora.get(corpus, _Corpus())
        seen = _seen(kept, visible)
        return tuple(known.instruction for known in kept.signatures[max(0, seen - _MOST_TOLD) : seen])

    def refusal(
        self,
        corpus: str,
        signature: Signature,
        split: Split,
        *,
        like: str | None = None,
        visible: int | None = None,
    ) -> str | None:
        """Why one more task like this may not be accepted; None if it may.

        Args:
            corpus: of the task.
            signature: what it is compared with others by.
            split: where it would go; what asks for the same may be in no other.
            like: the task that a reader found to ask for the same, if any.
            visible: how many tasks are known; None for all.
        """
        kept = self._corpora.get(corpus, _Corpus())
        seen = len(kept.ids) if visible is None else _seen(kept, visible)
        same = self._similar(kept, signature, seen)
        found = kept.place_of.get(like or "", seen)
        if found < seen:
            same = np.append(found, same)
        if not len(same):
            return None
        members = np.flatnonzero(np.isin(kept.families[:seen], kept.families[same]))
        related = np.append(same, members)
        elsewhere = related[kept.splits[related] != SPLITS.index(split)]
        if len(elsewhere):
            return f"asks for the same as {kept.ids[elsewhere[0]]}, which is in another split"
        if len(members) >= self._novelty.tasks_a_family:
            return f"asks for the same as {kept.ids[same[0]]}"
        return None

    def id_of(self, corpus: str, instruction: str, visible: int) -> str | None:
        """The latest accepted task with exactly this instruction."""
        kept = self._corpora.get(corpus, _Corpus())
        seen = _seen(kept, visible)
        places = [place for place in kept.saying.get(instruction, ()) if place < seen]
        return kept.ids[places[-1]] if places else None

    def _similar(self, kept: _Corpus, signature: Signature, seen: int) -> NDArray[np.intp]:
        """Positions of the tasks that are too much like this, the most similar first."""
        cosines = np.einsum("ikd,id->ik", kept.vectors[:, :seen], _vectors(signature)).max(axis=0)
        equal = [place for place in kept.saying.get(signature.instruction, ()) if place < seen]
        cosines[equal] = 1.0  # whatever the last bits say
        alike = np.flatnonzero(cosines >= self._novelty.most_similarity - _ROUNDING)
        most_first: NDArray[np.intp] = alike[np.argsort(-cosines[alike], kind="stable")]
        return most_first


def _seen(kept: _Corpus, visible: int) -> int:
    return int(np.searchsorted(kept.orders, visible))


def _vectors(signature: Signature) -> NDArray[np.float32]:
    """Unit vectors of the instruction and of the categories' names, shape (2, 256)."""
    return embed([signature.instruction, ", ".join(signature.categories)])
