"""How rounds are scored, compared and recorded."""

from __future__ import annotations

from cluster_r1.agents.clustering.critic import Critique
from cluster_r1.graphs.clustering.state import ClusteringState, ScoredRound
from cluster_r1.types import Round

_PER_CODE_FINDING = 0.05  # what a finding of the check costs a round's score


def judged(state: ClusteringState, judgement: Critique | None) -> ScoredRound:
    """The round with its score: the critic's, less for texts left out and for findings of the check.

    score = critic's * (share of texts in a cluster) - 0.05 * findings of the check, clipped to [0, 1]. The
    paper publishes no such score; this one is ours. It only compares the rounds of one run.
    """
    checked = state["checked"]
    score = None
    if judgement is not None:
        share = len(checked.clustering.assignments) / len(state["distinct"].ids)
        score = judgement.score * share - _PER_CODE_FINDING * len(checked.findings)
        score = round(min(max(score, 0.0), 1.0), 4)
    return ScoredRound(number=state["round"], clustering=checked.clustering, score=score)


def better(state: ClusteringState, scored: ScoredRound) -> ScoredRound:
    """The better of this round and the best so far; of equals the later, whose findings were answered."""
    best = state.get("best")
    if best is None:
        return scored
    return scored if (scored.score or 0.0) >= (best.score or 0.0) and scored.score is not None else best


def round_record(state: ClusteringState, scored: ScoredRound, judgement: Critique | None) -> Round:
    checked = state["checked"]
    return Round(
        number=scored.number,
        clusters=len(checked.clustering.clusters),
        unassigned=len(checked.clustering.unassigned),
        score=scored.score,
        verdict=judgement.verdict if judgement else None,
        findings=(*checked.findings, *(judgement.findings if judgement else ())),
        repairs=checked.repairs,
        edits=state["edits"],
    )
