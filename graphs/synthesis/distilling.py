"""Rejection sampling: which of a teacher's answers are worth learning from."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from cluster_r1.agents.clustering.proposer import Proposal, ProposerInput
from cluster_r1.agents.distinctive_words import plain_name
from cluster_r1.agents.models.messages import ChatAnswer
from cluster_r1.agents.models.static_embedder import count_tokens
from cluster_r1.agents.parsing import AnswerError
from cluster_r1.agents.synthesis.teacher import Teacher
from cluster_r1.graphs.synthesis.config import Distilling
from cluster_r1.graphs.synthesis.outcome import Trace, TraceFault
from cluster_r1.metrics import adjusted_mutual_info, singleton_rate
from cluster_r1.types import NO_CLUSTER

_NUMBERED = re.compile(r"\[(\d{1,4})\]|^\W{0,3}(\d{1,4})[.:)\]]", re.MULTILINE)
_LISTED = re.compile(
    r"\b(?:texts?|items?|messages?|numbers?|nos?\.?)\s*#?(\d[\d\s,;&#–-]*(?:and \d+)?)", re.IGNORECASE
)
_THINK_TAG = re.compile(r"</?think(?:ing)?>")
_OPENING_WORDS = 4  # of a text that, quoted, are mention enough


def judge_answer(
    answer: ChatAnswer, given: ProposerInput, reference: Sequence[str], bars: Distilling, sample: int
) -> Trace | TraceFault:
    """The trace in a teacher's answer, or what is wrong with it.

    The completion holds the answer in the one form that prompts ask for, whatever form it came in.

    Args:
        answer: as it came, with its reasoning.
        given: what the teacher was given.
        reference: the label of each text.
        bars: what a trace must be.
        sample: which of the teacher's answers it is.
    """
    if answer.truncated:
        return "truncated"
    try:
        proposal = Teacher().parse(answer.text, given)
    except AnswerError:
        return "unusable"
    found = _exact_cover(proposal, len(reference))
    if found is None:
        return "no_cover"
    ami = adjusted_mutual_info(reference, found)
    if ami < bars.least_ami:
        return "low_ami"
    if singleton_rate(found) > bars.most_singletons:
        return "singletons"
    reasoning = answer.reasoning.strip()
    if not all(cluster.name for cluster in proposal.clusters) or _THINK_TAG.search(
        f"{reasoning} {_canonical(proposal)}"
    ):
        return "unusable"  # nameless clusters, or a tag that would end the reasoning somewhere else
    if not reasoning:
        return "no_reasoning"
    if len(mentioned(reasoning, given.texts)) < bars.least_mentioned * len(given.texts):
        return "not_about_texts"
    completion = f"<think>\n{reasoning}\n</think>\n\n{_canonical(proposal)}"
    if _too_short(reasoning, bars.tokens[0]) or _too_long(completion, bars.tokens[1]):
        return "length"
    return Trace(completion=completion, ami=round(ami, 4), sample=sample)


def mentioned(reasoning: str, texts: Sequence[str]) -> set[int]:
    """Positions, from 1, of the texts that a reasoning speaks of: by number, or by their opening words."""
    numbers = {int(one or other) for one, other in _NUMBERED.findall(reasoning)}
    for listed in _LISTED.findall(reasoning):
        numbers |= _numbers_in(listed)
    words = " ".join(reasoning.casefold().split())
    for number, text in enumerate(texts, 1):
        opening = text.casefold().split()[:_OPENING_WORDS]
        if len(opening) == _OPENING_WORDS and " ".join(opening) in words:
            numbers.add(number)
    return {number for number in numbers if 1 <= number <= len(texts)}


def _too_short(text: str, least: int) -> bool:
    """Whether it has fewer tokens; every word is one at least, so most texts need not be counted."""
    return len(text.split()) < least and count_tokens([text])[0] < least


def _too_long(text: str, most: int) -> bool:
    """Whether it has more tokens; none has less than a byte, so most texts need not be counted."""
    return len(text.encode("utf-8", "replace")) > most and count_tokens([text])[0] > most


def _numbers_in(listed: str) -> set[int]:
    """`3, 5-7 and 9` as numbers."""
    found: set[int] = set()
    for low, high in re.findall(r"(\d{1,4})(?:\s*[–-]\s*(\d{1,4}))?", listed):
        found |= set(range(int(low), int(high or low) + 1))
    return found


def _exact_cover(proposal: Proposal, texts: int) -> list[str] | None:
    """The cluster of each text, if every text stands in exactly one that is listed."""
    listed = {cluster.id for cluster in proposal.clusters}
    places = {placement.text: placement.cluster for placement in proposal.placements}
    if len(proposal.placements) != texts or set(places) != set(range(1, texts + 1)):
        return None
    found = [places[number] for number in range(1, texts + 1)]
    if any(plain_name(cluster) == NO_CLUSTER for cluster in found):
        return None
    return found if set(found) <= listed else None


def _canonical(proposal: Proposal) -> str:
    """The answer as prompts ask for it; clusters without texts are left out."""
    used = {placement.cluster for placement in proposal.placements}
    clusters = [cluster.model_dump() for cluster in proposal.clusters if cluster.id in used]
    assignments = [
        {
            "text": place.text,
            "reason": place.reason,
            "cluster": place.cluster,
            **({} if place.confidence is None else {"confidence": place.confidence}),
        }
        for place in sorted(proposal.placements, key=lambda place: place.text)
    ]
    answer = {"criterion": proposal.criterion, "clusters": clusters, "assignments": assignments}
    return json.dumps(answer, ensure_ascii=False)
