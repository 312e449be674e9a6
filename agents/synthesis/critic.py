"""The critic: decides whether a draft is fit to train and measure models with."""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import Field

from cluster_r1.agents.parsing import AnswerError, as_list, as_number, as_string, read_object
from cluster_r1.agents.role import INTEGER, Role, Schema, list_of, object_of, one_of, string
from cluster_r1.agents.synthesis.draft import Category
from cluster_r1.prompts import Message
from cluster_r1.types import Record

Aspect = Literal["clarity", "ambiguity", "leakage", "triviality", "usefulness"]
Verdict = Literal["accept", "revise", "reject"]

ASPECTS: tuple[Aspect, ...] = get_args(Aspect)
_VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
_RATINGS = range(1, 6)


class LabelledText(Record):
    """A text as the critic sees it."""

    text: str
    label: str


class CriticInput(Record):
    """What the critic sees; `remarks` are what checks and blind readers found, in words.

    `asked` are instructions that are taken, to which `Judgement.same_as` refers by position, from 1.
    """

    instruction: str
    criterion: str
    categories: tuple[Category, ...]
    texts: tuple[LabelledText, ...]
    asked: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


class Judgement(Record):
    """What the critic says. Ratings are from 1 to 5, 5 best, whatever the aspect is called.

    `same_as` is the position of the taken instruction that asks for the same, from 1; None for none.
    """

    ratings: dict[Aspect, int] = Field(min_length=1)
    same_as: int | None = None
    harmful: bool = False
    personal: bool = False
    findings: tuple[str, ...] = ()
    verdict: Verdict


class TaskCritic(Role[CriticInput, Judgement]):
    """Judges a draft by aspects, and what should be changed about it."""

    name = "critic"
    template_id = "synthesis/critic"
    tokens_per_text = 2

    def schema(self, given: CriticInput, *, bounded: bool) -> Schema:
        """Findings, ratings, flags, verdict."""
        finding = string(100 if bounded else None)
        rating = one_of(_RATINGS)
        taken = one_of(range(len(given.asked) + 1)) if bounded else INTEGER
        return object_of(
            findings=list_of(finding, at_most=3 if bounded else None),
            **dict.fromkeys(ASPECTS, rating),
            same_as=taken,
            harmful={"type": "boolean"},
            personal={"type": "boolean"},
            verdict=one_of(_VERDICTS),
        )

    def render(self, given: CriticInput) -> tuple[Message, ...]:
        """The prompt."""
        return self.template.render(**dict(given))

    def parse(self, answer: str, given: CriticInput) -> Judgement:
        """Read the judgement."""
        found = read_object(answer, "verdict")
        verdict = as_string(found["verdict"]).casefold()
        if verdict not in _VERDICTS:
            raise AnswerError(f'"verdict" is none of {", ".join(_VERDICTS)}')
        same_as = as_number(found.get("same_as"))
        return Judgement(
            ratings={aspect: _rating(found, aspect) for aspect in ASPECTS},
            same_as=same_as if same_as in range(1, len(given.asked) + 1) else None,
            harmful=found.get("harmful") is True,
            personal=found.get("personal") is True,
            findings=tuple(filter(None, map(as_string, as_list(found.get("findings"))))),
            verdict=verdict,
        )


def _rating(found: dict[str, Any], aspect: Aspect) -> int:
    rating = as_number(found.get(aspect))
    if rating is None or rating not in _RATINGS:
        raise AnswerError(f'"{aspect}" is no whole number from 1 to 5')
    return rating
