"""What a system under test is asked and what it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from cluster_r1.types import Text

Panel = Literal["given", "discover"]
"""Whether a system is told the number of clusters or has to find it."""

PANELS: tuple[Panel, ...] = ("given", "discover")


@dataclass(frozen=True, slots=True)
class Question:
    """A task as a system sees it, without its reference.

    Attributes:
        texts: what is to be grouped.
        instruction: what decides the grouping.
        k: the number of clusters, where the panel gives it.
        seed: of whatever is random.
        budget_tokens: the most that may be spent on it; None for no limit.
    """

    texts: Sequence[Text]
    instruction: str
    k: int | None = None
    seed: int = 0
    budget_tokens: int | None = None

    @property
    def wordings(self) -> list[str]:
        """The texts without their ids."""
        return [text.text for text in self.texts]


@dataclass(frozen=True, slots=True)
class Answer:
    """A partition of the question's texts, and what it took.

    Attributes:
        labels: of each text, in the texts' order; None where a text is in no cluster.
        names: readable names of labels.
        reasons: of each text's place, in the texts' order; empty if none are given.
        calls: of a model, those answered from a cache included.
        tokens: in and out, likewise.
        spent_tokens: those of calls that were made now.
        fresh: whether all calls were made now, so that the time it took says something.
        stop_reason: why the system stopped, in its own words.
        cut_short: by the budget, or by a failure; such an answer is not counted, though its cost is.
    """

    labels: Sequence[int | None]
    names: Mapping[int, str] = field(default_factory=dict)
    reasons: Sequence[str] = ()
    calls: int = 0
    tokens: int = 0
    spent_tokens: int = 0
    fresh: bool = True
    stop_reason: str = ""
    cut_short: Literal["", "budget", "failure"] = ""


class System(Protocol):
    """Groups texts.

    Attributes:
        name: as in tables; unique among the systems of a run.
        identity: changes whenever the answers may, so that stored answers are not taken for its own.
        panels: those that it can take part in.
        reads_instruction: whether the instruction can change its answer.
        orders_matter: whether the order of the texts can.
        spends_tokens: whether a budget concerns it.
    """

    name: str
    identity: str
    panels: frozenset[Panel]
    reads_instruction: bool
    orders_matter: bool
    spends_tokens: bool

    def answer(self, question: Question) -> Answer:
        """Group the question's texts.

        Raises:
            ModelError: a model or program failed.
            BudgetError: the budget does not cover the first call.
        """
        ...
