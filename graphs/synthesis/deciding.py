"""Where an attempt goes from a verdict: on, back to its generator, or to the dead letters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langgraph.types import Command

from cluster_r1.agents.synthesis.critic import Judgement
from cluster_r1.agents.synthesis.draft import Draft
from cluster_r1.errors import ClusterR1Error, RefusedError
from cluster_r1.graphs.synthesis.accepted import Signature
from cluster_r1.graphs.synthesis.outcome import Fault, Reason, Rejection, Revision, Stage
from cluster_r1.graphs.synthesis.screening import repetition_fault
from cluster_r1.graphs.synthesis.state import OpenContext, SynthesisState
from cluster_r1.graphs.synthesis.telling import tell


def rejected(stage: Stage, reason: Reason, detail: str, update: SynthesisState) -> Command[Any]:
    """To the dead letters."""
    rejection = Rejection(stage=stage, reason=reason, detail=detail)
    return Command(goto="dead_letter", update={**update, "rejection": rejection})


def sent_back(
    state: SynthesisState,
    context: OpenContext,
    stage: Stage,
    faults: Sequence[Fault],
    update: SynthesisState | None = None,
) -> Command[Any]:
    """Back to the generator with what is to be mended; to the dead letters where that is of no use.

    Written texts are not written again: the labels were there first, and stay.
    """
    updated: SynthesisState = update or {}
    hopeless = [fault for fault in faults if not fault.mendable]
    if hopeless or state["slice"].domain or state["round"] >= context.settings.critique.revisions:
        worst = (hopeless or faults)[0]
        return rejected(stage, worst.reason, worst.detail, updated)
    findings = tuple(fault.detail for fault in faults)
    revision = Revision(stage=stage, instruction=state["draft"].instruction, findings=findings)
    tell(context, state, stage, "; ".join(findings), "revised")
    again: SynthesisState = {
        "round": state["round"] + 1,
        "findings": findings,
        "revisions": [revision],
        "embedding_ami": None,  # what was found is about the draft that is sent back
        "verification": None,
        "judgement": None,
    }
    return Command(goto="generate", update={**updated, **again})


def reason_of(error: ClusterR1Error) -> Reason:
    """Whether the endpoint refused, or the answer was of no use."""
    return "refused" if isinstance(error, RefusedError) else "unusable_answer"


def told(state: SynthesisState, context: OpenContext) -> tuple[str, ...]:
    """Instructions that a new one must differ from: accepted ones, and all that were tried on the slice."""
    known = context.accepted.instructions(state["corpus"], state["visible"])
    return tuple(dict.fromkeys((*known, *state["tried"])))


def taken_instructions(state: SynthesisState, context: OpenContext) -> tuple[str, ...]:
    """The accepted instructions on the corpus, as far as the attempt knows of them."""
    known = context.accepted.instructions(state["corpus"], state["visible"])
    return tuple(dict.fromkeys((*known, *(task.instruction for task in state["earlier"].values()))))


def repetition(state: SynthesisState, context: OpenContext) -> Fault | None:
    """Whether the draft repeats an accepted task: divides the same texts alike, or sounds alike."""
    draft = state["draft"]
    labels = {
        text.id: label.category for text, label in zip(state["members"], draft.labels, strict=True) if label
    }
    if fault := repetition_fault(labels, state["earlier"], context.settings.novelty.most_ami):
        return fault
    refusal = context.accepted.refusal(
        state["corpus"],
        Signature.of(draft.instruction, draft.used),
        state["slice"].split,
        visible=state["visible"],
    )
    return Fault(reason="duplicate", detail=refusal, mendable=False) if refusal else None


def triviality(ami: float, most: float) -> Fault | None:
    """Whether embeddings solve the task, so that following the instruction is not needed."""
    if ami <= most:
        return None
    detail = f"grouping by embeddings comes to the same groups (AMI {ami:.2f})"
    return Fault(reason="trivial", detail=detail, mendable=False)


def kept_places(state: SynthesisState) -> tuple[int, ...]:
    """Positions, from 0, of the texts that stayed after verification."""
    found = state["verification"]
    assert found is not None
    return found.kept


def restricted(draft: Draft, places: Sequence[int]) -> Draft:
    """The draft for some of its texts."""
    return draft.model_copy(update={"labels": tuple(draft.labels[place] for place in places)})


def remarks(state: SynthesisState) -> tuple[str, ...]:
    """What checks and readers found, in words for the critic."""
    found, embedding = state["verification"], state["embedding_ami"]
    assert found is not None
    contested = len(found.votes) - len(found.kept)
    said = [
        f"blind readers agree with the labels to an AMI of {found.ami:.2f} (1 is full, 0 is chance)",
        f"grouping by embeddings, without the instruction, agrees to an AMI of {embedding or 0.0:.2f}",
    ]
    if contested:
        said.append(f"{contested} texts on which readers differ are left out already")
    return tuple(said)


def same_task(
    judgement: Judgement, taken: Sequence[str], state: SynthesisState, context: OpenContext
) -> str | None:
    """The accepted task that the critic finds to ask for the same, if any."""
    if judgement.same_as is None:
        return None
    instruction = taken[judgement.same_as - 1]
    for task_id, task in state["earlier"].items():
        if task.instruction == instruction:
            return task_id
    return context.accepted.id_of(state["corpus"], instruction, state["visible"])


def objection(
    judgement: Judgement, same: str | None, state: SynthesisState, context: OpenContext
) -> Fault | None:
    """What the critic's judgement comes to, if it is not acceptance.

    `same` is the task that the critic finds to ask for the same.
    """
    if judgement.harmful or judgement.personal:
        detail = "harmful or degrading" if judgement.harmful else "gives away private persons"
        return Fault(reason="harmful", detail=f"the critic finds it {detail}", mendable=False)
    if refusal := _refusal(same, state, context):
        return Fault(reason="duplicate", detail=refusal, mendable=False)
    least = context.settings.critique.least_rating
    low = [f"{aspect} {rating} of 5" for aspect, rating in judgement.ratings.items() if rating < least]
    if judgement.verdict == "accept" and not low:
        return None
    detail = "; ".join((*judgement.findings, *low)) or f"the critic says: {judgement.verdict}"
    return Fault(reason="critic", detail=detail, mendable=judgement.verdict != "reject")


def _refusal(same: str | None, state: SynthesisState, context: OpenContext) -> str | None:
    """Why one more task that asks for the same as an accepted one may not be accepted."""
    if same is None:
        return None
    if same in state["earlier"]:
        return f"asks for the same as {same}"
    draft = state["draft"]
    return context.accepted.refusal(
        state["corpus"],
        Signature.of(draft.instruction, draft.used),
        state["slice"].split,
        like=same,
        visible=state["visible"],
    )
