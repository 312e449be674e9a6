"""The accepted tasks of each corpus, as far as new ones must differ from them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cluster_r1.agents.models.static_embedder import DIMENSIONS, embed
from cluster_r1.agents.synthesis.draft import Category
from cluster_r1.graphs.synthesis.config import Novelty, Split
from cluster_r1.types import Record

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


@dataclass(frozen=True, slots=True)
class Taken:
    """An accepted task that another is too much like."""

    task_id: str
    family: str
    similarity: float


@dataclass
class _Corpus:
    """Accepted tasks of a corpus in the order of acceptance; `vectors` has shape (2, room, 256)."""

    ids: list[str] = field(default_factory=list)
    instructions: list[str] = field(default_factory=list)
    families: list[str] = field(default_factory=list)
    splits: list[Split] = field(default_factory=list)
    orders: list[int] = field(default_factory=list)
    vectors: NDArray[np.float32] = field(
        default_factory=lambda: np.zeros((2, 16, DIMENSIONS), dtype=np.float32)
    )


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

    def add(self, corpus: str, task_id: str, signature: Signature, split: Split) -> str:
        """Enter an accepted task; gives the name of its family: that of the task it is like, or its own."""
        like = self.most_similar(corpus, signature)
        kept = self._corpora.setdefault(corpus, _Corpus())
        family = task_id if like is None else like.family
        place = len(kept.ids)
        if place == kept.vectors.shape[1]:
            kept.vectors = np.concatenate([kept.vectors, np.zeros_like(kept.vectors)], axis=1)
        kept.vectors[:, place] = _vectors(signature)
        kept.ids.append(task_id)
        kept.instructions.append(signature.instruction)
        kept.families.append(family)
        kept.splits.append(split)
        kept.orders.append(self._count)
        self._count += 1
        return family

    def instructions(self, corpus: str, visible: int) -> tuple[str, ...]:
        """The latest accepted instructions of a corpus."""
        kept = self._corpora.get(corpus, _Corpus())
        return tuple(kept.instructions[: _seen(kept, visible)][-_MOST_TOLD:])

    def most_similar(self, corpus: str, signature: Signature, visible: int | None = None) -> Taken | None:
        """The accepted task that is most like this, if it is too much like it."""
        kept = self._corpora.get(corpus, _Corpus())
        seen = len(kept.ids) if visible is None else _seen(kept, visible)
        if not seen:
            return None
        cosines = np.einsum("ikd,id->ik", kept.vectors[:, :seen], _vectors(signature)).max(axis=0)
        nearest = int(cosines.argmax())
        similarity = float(cosines[nearest])
        if similarity < self._novelty.most_similarity:
            return None
        return Taken(kept.ids[nearest], kept.families[nearest], round(similarity, 2))

    def refusal(
        self, corpus: str, signature: Signature, split: Split, visible: int | None = None
    ) -> str | None:
        """Why one more task like this may not be accepted; None if it may."""
        like = self.most_similar(corpus, signature, visible)
        if like is None:
            return None
        return self.family_refusal(corpus, like.task_id, split, visible)

    def family_refusal(
        self, corpus: str, task_id: str, split: Split, visible: int | None = None
    ) -> str | None:
        """Why one more task that asks for the same as this one may not be accepted; None if it may."""
        kept = self._corpora[corpus]
        family = kept.families[kept.ids.index(task_id)]
        seen = len(kept.ids) if visible is None else _seen(kept, visible)
        members = [place for place in range(seen) if kept.families[place] == family]
        if any(kept.splits[place] != split for place in members):
            return f"asks for the same as {task_id}, which is in another split"
        if len(members) >= self._novelty.tasks_a_family:
            return f"asks for the same as {task_id}"
        return None

    def id_of(self, corpus: str, instruction: str) -> str | None:
        """The latest accepted task with exactly this instruction."""
        kept = self._corpora.get(corpus, _Corpus())
        places = [place for place, known in enumerate(kept.instructions) if known == instruction]
        return kept.ids[places[-1]] if places else None


def _seen(kept: _Corpus, visible: int) -> int:
    return int(np.searchsorted(kept.orders, visible))


def _vectors(signature: Signature) -> NDArray[np.float32]:
    """Unit vectors of the instruction and of the categories' names, shape (2, 256)."""
    return embed([signature.instruction, ", ".join(signature.categories)])
