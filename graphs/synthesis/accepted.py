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

_ROUNDING = 1e-6  # of cosines in single precision
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
    """Accepted tasks of a corpus in the order of acceptance; `vectors` has shape (2, room, 256)."""

    ids: list[str] = field(default_factory=list)
    signatures: list[Signature] = field(default_factory=list)
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

    def add(
        self, corpus: str, task_id: str, signature: Signature, split: Split, like: str | None = None
    ) -> str:
        """Enter an accepted task; gives the name of its family.

        That is the family of the task `like`, which a reader found to ask for the same, else of the task that
        it is most like, else its own.
        """
        kept = self._corpora.setdefault(corpus, _Corpus())
        similar = self._similar(kept, signature, len(kept.ids))
        same = kept.ids.index(like) if like in kept.ids else (similar[0] if similar else None)
        family = task_id if same is None else kept.families[same]
        place = len(kept.ids)
        if place == kept.vectors.shape[1]:
            kept.vectors = np.concatenate([kept.vectors, np.zeros_like(kept.vectors)], axis=1)
        kept.vectors[:, place] = _vectors(signature)
        kept.ids.append(task_id)
        kept.signatures.append(signature)
        kept.families.append(family)
        kept.splits.append(split)
        kept.orders.append(self._count)
        self._count += 1
        return family

    def instructions(self, corpus: str, visible: int) -> tuple[str, ...]:
        """The latest accepted instructions of a corpus."""
        kept = self._corpora.get(corpus, _Corpus())
        latest = kept.signatures[: _seen(kept, visible)][-_MOST_TOLD:]
        return tuple(signature.instruction for signature in latest)

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
        if like in kept.ids[:seen]:
            same.insert(0, kept.ids.index(like))
        families = {kept.families[place] for place in same}
        members = [place for place in range(seen) if kept.families[place] in families]
        for place in (*same, *members):
            if kept.splits[place] != split:
                return f"asks for the same as {kept.ids[place]}, which is in another split"
        if same and len(members) >= self._novelty.tasks_a_family:
            return f"asks for the same as {kept.ids[same[0]]}"
        return None

    def id_of(self, corpus: str, instruction: str, visible: int) -> str | None:
        """The latest accepted task with exactly this instruction."""
        kept = self._corpora.get(corpus, _Corpus())
        known = kept.signatures[: _seen(kept, visible)]
        places = [place for place, signature in enumerate(known) if signature.instruction == instruction]
        return kept.ids[places[-1]] if places else None

    def _similar(self, kept: _Corpus, signature: Signature, seen: int) -> list[int]:
        """Positions of the tasks that are too much like this, the most similar first."""
        if not seen:
            return []
        cosines = np.einsum("ikd,id->ik", kept.vectors[:, :seen], _vectors(signature)).max(axis=0)
        for place, known in enumerate(kept.signatures[:seen]):
            if known.instruction == signature.instruction:
                cosines[place] = 1.0  # whatever the last bits say
        bar = min(self._novelty.most_similarity, 1.0) - _ROUNDING
        return [int(place) for place in np.argsort(-cosines, kind="stable") if cosines[place] >= bar]


def _seen(kept: _Corpus, visible: int) -> int:
    return int(np.searchsorted(kept.orders, visible))


def _vectors(signature: Signature) -> NDArray[np.float32]:
    """Unit vectors of the instruction and of the categories' names, shape (2, 256)."""
    return embed([signature.instruction, ", ".join(signature.categories)])
