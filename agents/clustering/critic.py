"""The critic: says what about a clustering does not follow the instruction."""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import Field

from cluster_r1.agents.clustering.grouping_view import GroupingView
from cluster_r1.agents.parsing import AnswerError, as_list, as_number, as_string, read_object
from cluster_r1.agents.role import INTEGER, Role, Schema, list_of, object_of, one_of, string
from cluster_r1.prompts import Message
from cluster_r1.types import Finding, FindingKind, KRange, Record

_KINDS = get_args(FindingKind)


class CriticInput(Record):
    """What the critic sees; `remarks` are the findings of the check by code, in words."""

    instruction: str
    view: GroupingView
    k: KRange | None = None
    remarks: tuple[str, ...] = ()


class Critique(Record):
    """The critic's judgement. `score` is in [0, 1], 1 best."""

    findings: tuple[Finding, ...]
    score: float = Field(ge=0, le=1)
    verdict: Literal["accept", "revise"]


class Critic(Role[CriticInput, Critique]):
    """Judges a clustering by typed findings with evidence."""

    name = "critic"
    template_id = "clustering/critic"
    tokens_per_text = 4

    def schema(self, given: CriticInput, *, bounded: bool) -> Schema:
        """Findings, score, verdict."""
        finding = object_of(
            kind=one_of(_KINDS),
            clusters=given.view.clusters_schema(bounded=bounded),
            texts=given.view.texts_schema(bounded=bounded),
            comment=string(80 if bounded else None),
        )
        return object_of(
            findings=list_of(finding, at_most=3 if bounded else None),
            score=one_of(range(0, 101, 10)) if bounded else INTEGER,
            verdict=one_of(("accept", "revise")),
        )

    def render(self, given: CriticInput) -> tuple[Message, ...]:
        """The prompt."""
        return self.template.render(
            instruction=given.instruction, groups=given.view.groups, k=given.k, remarks=given.remarks
        )

    def parse(self, answer: str, given: CriticInput) -> Critique:
        """Read the findings; those that name no existing cluster or text as evidence are left out."""
        found = read_object(answer, "score")
        score = as_number(found["score"])
        if score is None or not 0 <= score <= 100:
            raise AnswerError('"score" is not a whole number from 0 to 100')
        entries = [entry for entry in as_list(found.get("findings")) if isinstance(entry, dict)]
        findings = [finding for entry in entries if (finding := _finding(entry, given.view))]
        wants_change = any(finding.kind != "fine" for finding in findings)
        accepts = as_string(found.get("verdict")).casefold() == "accept" or not wants_change
        return Critique(
            findings=tuple(findings), score=score / 100, verdict="accept" if accepts else "revise"
        )


def _finding(entry: dict[str, Any], view: GroupingView) -> Finding | None:
    kind = as_string(entry.get("kind")).casefold()
    clusters = view.cluster_ids(entry.get("clusters"))
    texts = view.text_ids(entry.get("texts"))
    if kind not in _KINDS or not (clusters or texts):
        return None
    return Finding(kind=kind, clusters=clusters, texts=texts, comment=as_string(entry.get("comment")))
