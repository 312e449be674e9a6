"""From the state at its end to what is kept of an attempt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cluster_r1.agents.synthesis.draft import Draft
from cluster_r1.graphs.synthesis.deciding import kept_places, restricted
from cluster_r1.graphs.synthesis.outcome import Outcome, Scores
from cluster_r1.graphs.synthesis.state import SynthesisState
from cluster_r1.graphs.synthesis.telling import id_of
from cluster_r1.task import Task


def accepted_outcome(state: SynthesisState, models: Mapping[str, str]) -> Outcome:
    """The outcome with its task: the texts that stayed, the categories' names as reference labels."""
    places = kept_places(state)
    draft = restricted(state["draft"], places)
    members = [state["members"][place] for place in places]
    labels = [label for label in draft.labels if label is not None]
    wanted, judgement = state["slice"], state["judgement"]
    assert judgement is not None
    task = Task(
        id=id_of(state),
        corpus=wanted.source,
        instruction=draft.instruction,
        texts=tuple(members),
        reference={text.id: label.category for text, label in zip(members, labels, strict=True)},
        split=wanted.split,
        meta={
            "criterion": draft.criterion,
            "licence": wanted.licence,
            "form": wanted.forms[state["attempt"]],
            "texts_written": bool(wanted.domain),
            "categories": [category.model_dump() for category in draft.used],
            "evidence": [label.evidence for label in labels],
            "agreement": _scores(state).model_dump(),
            "ratings": dict(judgement.ratings),
            "models": dict(models),
        },
    )
    return _outcome(state).model_copy(
        update={
            "task": task,
            "traces": state["traces"],
            "ratings": judgement.ratings,
            "same_as": state.get("same_as"),
        }
    )


def rejected_outcome(state: SynthesisState) -> Outcome:
    """The outcome with its reason."""
    judgement = state.get("judgement")
    update: dict[str, Any] = {"rejection": state["rejection"]}
    if judgement is not None:
        update["ratings"] = judgement.ratings
    return _outcome(state).model_copy(update=update)


def _outcome(state: SynthesisState) -> Outcome:
    wanted, attempt = state["slice"], state["attempt"]
    draft: Draft | None = state.get("draft")
    found = state.get("verification")
    if draft is not None and found is not None:
        draft = restricted(draft, found.kept)
    return Outcome(
        id=id_of(state),
        corpus=wanted.source,
        slice=wanted.number,
        attempt=attempt,
        split=wanted.split,
        size=wanted.size,
        k=wanted.k,
        form=wanted.forms[attempt],
        angle=wanted.angles[attempt],
        written=bool(wanted.domain),
        instruction=draft.instruction if draft else "",
        criterion=draft.criterion if draft else "",
        categories=draft.used if draft else (),
        revisions=tuple(state["revisions"]),
        scores=_scores(state),
        need=state["need"],
        trace_faults=state.get("trace_faults", {}),
    )


def _scores(state: SynthesisState) -> Scores:
    found = state.get("verification")
    embedding = state.get("embedding_ami")
    if found is None:
        return Scores(embedding=embedding)
    return Scores(
        embedding=embedding,
        verifier=found.ami,
        single=found.single_ami,
        kept=found.kept_ami,
        vote=round(sum(found.votes) / len(found.votes), 4),
        dropped=len(found.votes) - len(found.kept),
    )
