"""The nodes of the synthesis graph, each one step of the drawing in `graph.py`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

from langgraph.runtime import Runtime
from langgraph.types import Command

from cluster_r1.agents.clustering.fitting import fit_texts
from cluster_r1.agents.clustering.proposer import ProposerInput
from cluster_r1.agents.synthesis.critic import CriticInput, LabelledText, TaskCritic
from cluster_r1.agents.synthesis.draft import Draft, Label
from cluster_r1.agents.synthesis.generator import Generator, GeneratorInput
from cluster_r1.agents.synthesis.teacher import Teacher
from cluster_r1.agents.synthesis.verifier import Verifier, VerifierInput
from cluster_r1.errors import InputError
from cluster_r1.graphs.synthesis.accounts import RoleLedger
from cluster_r1.graphs.synthesis.calls import UNUSABLE, all_of
from cluster_r1.graphs.synthesis.deciding import (
    kept_places,
    objection,
    reason_of,
    rejected,
    remarks,
    repetition,
    restricted,
    same_task,
    sent_back,
    taken_instructions,
    told,
    triviality,
)
from cluster_r1.graphs.synthesis.distilling import judge_answer
from cluster_r1.graphs.synthesis.opening import DEFAULT_CORPUS, opened, store_of
from cluster_r1.graphs.synthesis.outcome import Need, Trace
from cluster_r1.graphs.synthesis.recording import accepted_outcome, rejected_outcome
from cluster_r1.graphs.synthesis.screening import (
    embedding_ami,
    evidence_fault,
    leakage_fault,
    partition_fault,
)
from cluster_r1.graphs.synthesis.state import OpenContext, SynthesisContext, SynthesisState
from cluster_r1.graphs.synthesis.telling import tell
from cluster_r1.graphs.synthesis.voting import verify_labels
from cluster_r1.graphs.synthesis.writing import write_slice
from cluster_r1.types import Text

_Runtime = Runtime[SynthesisContext]
_KEPT_WHEN_TOO_MANY = 0.75  # share of the texts that are tried again when all do not fit the context


async def sample(state: SynthesisState, runtime: _Runtime) -> Command[Literal["generate", "dead_letter"]]:
    """Draw the slice that the attempt is about."""
    context = await opened(runtime)
    store = store_of(context, state)
    wanted = store.slice(state.get("corpus", DEFAULT_CORPUS), state.get("number", 0))
    begun: SynthesisState = {
        "slice": wanted,
        "corpus": wanted.source,
        "number": wanted.number,
        "attempt": state.get("attempt", 0),
        "visible": state.get("visible", len(context.accepted)),
        "tried": state.get("tried", ()),
        "earlier": state.get("earlier", {}),
        "written": state.get("written"),
        "round": 0,
        "findings": (),
        "revisions": [],
        "need": {},
    }
    tell(context, begun, "sample", f"{wanted.size} texts of {wanted.source}")
    if wanted.domain:
        return Command(goto="generate", update=begun)
    fitted = _fit(wanted.texts, context.context_tokens, least=2 * context.settings.k[0])
    if fitted is None:
        return rejected("sample", "too_long", "the texts do not fit the models' context", begun)
    begun |= {"members": fitted[0], "shown": fitted[1]}
    return Command(goto="generate", update=begun)


async def generate(state: SynthesisState, runtime: _Runtime) -> Command[Literal["screen", "dead_letter"]]:
    """Have a draft made of the slice: its texts labelled, or texts written for labels."""
    context = await opened(runtime)
    tell(context, state, "generate", "again" if state["round"] else state["slice"].angles[state["attempt"]])
    if state["slice"].domain:
        return await _generate_written(state, context)
    wanted, attempt = state["slice"], state["attempt"]
    ledger = RoleLedger(context.ledger)
    given = GeneratorInput(
        texts=state["shown"],
        form=wanted.forms[attempt],
        angle=wanted.angles[attempt],
        k=wanted.k,
        asked=told(state, context),
        previous=state["draft"] if state["round"] else None,
        findings=state["findings"],
    )
    try:
        draft = await context.panel.generator.ask(
            Generator(), given, texts=len(given.texts), round=state["round"], ledger=ledger
        )
    except UNUSABLE as error:
        return rejected("generate", reason_of(error), str(error), {"need": {"generator": ledger.need}})
    return Command(goto="screen", update={"draft": draft, "need": {"generator": ledger.need}})


async def screen(
    state: SynthesisState, runtime: _Runtime
) -> Command[Literal["verify", "generate", "dead_letter"]]:
    """Look for what a program can find before anybody is paid to read the draft."""
    context = await opened(runtime)
    draft, shown, bars = state["draft"], state["shown"], context.settings.screen
    if fault := partition_fault(draft, context.settings.k, bars.most_share):
        return sent_back(state, context, "screen", [fault])
    found = [leakage_fault(draft, shown, bars.most_leakage)]
    if not state["slice"].domain:  # there, labels were there before the texts
        found.append(evidence_fault(draft, shown, bars.least_evidence))
    found.append(repetition(state, context))
    if faults := [fault for fault in found if fault]:
        return sent_back(state, context, "screen", faults)
    ami = embedding_ami(draft, shown)
    update: SynthesisState = {"embedding_ami": round(ami, 4)}
    if fault := triviality(ami, bars.most_embedding_ami):
        return sent_back(state, context, "screen", [fault], update)
    return Command(goto="verify", update=update)


async def verify(state: SynthesisState, runtime: _Runtime) -> Command[Literal["critique", "dead_letter"]]:
    """Have the texts grouped blind, several times, and drop those on which readers differ from the draft."""
    context = await opened(runtime)
    bars, draft = context.settings.verify, state["draft"]
    tell(context, state, "verify", f"{bars.samples} blind readings")
    ledger = RoleLedger(context.ledger)
    given = VerifierInput(instruction=draft.instruction, texts=state["shown"])
    readings, error = await all_of(
        context.panel.verifier.ask_often(
            Verifier(),
            given,
            texts=len(given.texts),
            round=state["round"],
            ledger=ledger,
            samples=bars.samples,
        )
    )
    update: SynthesisState = {"need": {"verifier": ledger.need}}
    usable = [reading for reading in readings if reading is not None]
    if error is not None and 2 * len(usable) <= bars.samples:
        return rejected("verify", reason_of(error), str(error), update)
    found = verify_labels(draft, usable, bars)
    update["verification"] = found
    labelled = len(found.votes)
    dropped = labelled - len(found.kept)
    if found.ami < bars.least_ami:
        said = f"blind readers agree with the labels to an AMI of {found.ami:.2f} only"
        return rejected("verify", "disagreement", said, update)
    if dropped > bars.most_dropped * labelled:
        said = f"{dropped} of {labelled} texts are read otherwise by blind readers"
        return rejected("verify", "ambiguous", said, update)
    if fault := partition_fault(
        restricted(draft, found.kept), context.settings.k, context.settings.screen.most_share
    ):
        said = f"without the {dropped} contested texts, {fault.detail}"
        return rejected("verify", "ambiguous", said, update)
    return Command(goto="critique", update=update)


async def critique(
    state: SynthesisState, runtime: _Runtime
) -> Command[Literal["distill", "generate", "dead_letter"]]:
    """Have the draft judged: accept it, send it back with findings, or reject it."""
    context = await opened(runtime)
    tell(context, state, "critique", "judging")
    kept = kept_places(state)
    draft = restricted(state["draft"], kept)
    ledger = RoleLedger(context.ledger)
    taken = taken_instructions(state, context)
    given = CriticInput(
        instruction=draft.instruction,
        criterion=draft.criterion,
        categories=draft.used,
        texts=tuple(
            LabelledText(text=state["shown"][place], label=label.category)
            for place, label in zip(kept, draft.labels, strict=True)
            if label is not None
        ),
        asked=taken,
        remarks=remarks(state),
    )
    try:
        judgement = await context.panel.critic.ask(
            TaskCritic(), given, texts=len(kept), round=state["round"], ledger=ledger
        )
    except UNUSABLE as error:
        return rejected("critique", reason_of(error), str(error), {"need": {"critic": ledger.need}})
    same = same_task(judgement, taken, state, context)
    update: SynthesisState = {"judgement": judgement, "same_as": same, "need": {"critic": ledger.need}}
    if fault := objection(judgement, same, state, context):
        return sent_back(state, context, "critique", [fault], update)
    return Command(goto="distill", update=update)


async def distill(state: SynthesisState, runtime: _Runtime) -> Command[Literal["write", "dead_letter"]]:
    """Have the teacher do the task several times, and keep the answers that may be learnt from."""
    context = await opened(runtime)
    bars, draft, kept = context.settings.distill, state["draft"], kept_places(state)
    tell(context, state, "distill", f"{bars.samples} answers of the teacher")
    texts = [state["members"][place].text for place in kept]
    try:
        shown = fit_texts(texts, draft.instruction, context.context_tokens).shown
    except InputError as error:
        return rejected("distill", "too_long", str(error), {})
    given = ProposerInput(instruction=draft.instruction, texts=shown)
    reference = [label.category for place in kept if (label := draft.labels[place]) is not None]
    ledger = RoleLedger(context.ledger)
    answers, failure = await all_of(
        context.panel.teacher.sample(Teacher(), given, texts=len(shown), ledger=ledger, samples=bars.samples)
    )
    if failure is not None and not any(answers):
        return rejected("distill", reason_of(failure), str(failure), {"need": {"teacher": ledger.need}})
    judged = [
        judge_answer(answer, given, reference, bars, number)
        for number, answer in enumerate(answers)
        if answer is not None
    ]
    traces = _best([trace for trace in judged if isinstance(trace, Trace)], bars.keep)
    update: SynthesisState = {
        "traces": traces,
        "trace_faults": dict(Counter(fault for fault in judged if not isinstance(fault, Trace))),
        "need": {"teacher": ledger.need},
    }
    if len(traces) < bars.required:
        said = f"{len(traces)} different answers of the teacher can be learnt from"
        return rejected("distill", "no_trace", said, update)
    return Command(goto="write", update=update)


async def write(state: SynthesisState, runtime: _Runtime) -> SynthesisState:
    """Put the accepted task together."""
    context = await opened(runtime)
    outcome = accepted_outcome(state, context.panel.specs)
    assert outcome.task is not None
    said = f"{len(outcome.task.texts)} texts in {outcome.task.k} clusters, {len(outcome.traces)} traces"
    tell(context, state, "write", said, "accepted")
    return {"outcome": outcome}


async def dead_letter(state: SynthesisState, runtime: _Runtime) -> SynthesisState:
    """Keep the reason."""
    context = await opened(runtime)
    rejection = state["rejection"]
    tell(context, state, rejection.stage, f"{rejection.reason}: {rejection.detail}", "rejected")
    return {"outcome": rejected_outcome(state)}


async def _generate_written(
    state: SynthesisState, context: OpenContext
) -> Command[Literal["screen", "dead_letter"]]:
    """The reverse way: the first attempt of a slice has the texts written, each asks for another property."""
    written = state["written"]
    need: dict[str, Need] = {}
    if written is None:
        written, need, error = await write_slice(state, context)
        if written is None:
            assert error is not None
            return rejected("generate", reason_of(error), str(error), {"need": need})
    attempt = state["attempt"]
    update: SynthesisState = {"written": written, "need": need}
    if attempt >= len(written.properties):
        said = f"the designer gave {len(written.properties)} properties only"
        return rejected("generate", "unusable_answer", said, update)
    fitted = _fit(written.texts, context.context_tokens, least=len(written.texts))
    if fitted is None:
        return rejected("generate", "too_long", "the written texts do not fit the models' context", update)
    asked = written.properties[attempt]
    draft = Draft(
        instruction=asked.instruction,
        criterion=asked.criterion,
        categories=asked.categories,
        labels=tuple(Label(category=name) for name in written.labels[attempt]),
    )
    update |= {"draft": draft, "members": fitted[0], "shown": fitted[1]}
    return Command(goto="screen", update=update)


def _fit(
    texts: tuple[Text, ...], context_tokens: int, least: int
) -> tuple[tuple[Text, ...], tuple[str, ...]] | None:
    """The texts, fewer of them if need be, and how prompts show them; None if not even `least` fit."""
    while len(texts) >= least:
        try:
            return texts, fit_texts([text.text for text in texts], "", context_tokens).shown
        except InputError:
            texts = texts[: int(_KEPT_WHEN_TOO_MANY * len(texts))]
    return None


def _best(traces: Sequence[Trace], keep: int) -> tuple[Trace, ...]:
    """The traces that agree best, each wording once; of equals the shorter."""
    different = {trace.completion: trace for trace in reversed(traces)}.values()
    return tuple(
        sorted(different, key=lambda trace: (-trace.ami, len(trace.completion), trace.sample))[:keep]
    )
