"""The nodes of the clustering graph, each one step of the drawing in `graph.py`."""

from __future__ import annotations

import asyncio
from functools import lru_cache
from typing import Any, Literal

from langgraph.config import get_stream_writer
from langgraph.runtime import Runtime
from langgraph.types import Command

from cluster_r1.agents.clustering.critic import Critic, CriticInput, Critique
from cluster_r1.agents.clustering.fitting import fit_texts
from cluster_r1.agents.clustering.grouping_view import GroupingView, view_of
from cluster_r1.agents.clustering.proposer import ProposerInput
from cluster_r1.agents.clustering.refiner import Refiner, RefinerInput
from cluster_r1.agents.ledger import Ledger
from cluster_r1.agents.models.cache import ResponseCache, default_cache_path
from cluster_r1.agents.models.opening import ModelOptions
from cluster_r1.agents.models.retries import tell_wait
from cluster_r1.agents.opening import open_node
from cluster_r1.agents.parsing import AnswerError
from cluster_r1.agents.reasoning_node import ReasoningNode
from cluster_r1.edits import apply_edits
from cluster_r1.errors import BudgetError, ModelError
from cluster_r1.graphs.clustering.checking import check_clustering, check_proposal, k_finding
from cluster_r1.graphs.clustering.distinct import distinct_texts, spread
from cluster_r1.graphs.clustering.entry import read_input, refuse_k_beyond, trivial_proposal
from cluster_r1.graphs.clustering.gaps import propose_all
from cluster_r1.graphs.clustering.limits import enforce_k
from cluster_r1.graphs.clustering.rounds import better, judged, round_record
from cluster_r1.graphs.clustering.state import (
    ClusteringContext,
    ClusteringState,
    OpenContext,
    ScoredRound,
)
from cluster_r1.types import Finding, KRange, StopReason, Usage


async def propose(state: ClusteringState, runtime: Runtime[ClusteringContext]) -> ClusteringState:
    """Read the texts and have them grouped."""
    node = await _node(runtime, "propose", 0)
    distinct = distinct_texts(read_input(state["texts"], state.get("instruction", "")))
    ids = distinct.ids
    k = KRange.parse(state.get("k"))
    refuse_k_beyond(k, len(ids))
    common: ClusteringState = {"distinct": distinct, "round": 0, "rounds": [], "edits": ()}
    if len(ids) <= 1:
        shown = tuple(text.text for text in distinct.texts)
        return {
            **common,
            "shown": shown,
            "proposal": trivial_proposal(shown),
            "notes": [],
            "usage": Ledger().usage,
        }
    fitted = fit_texts([text.text for text in distinct.texts], state["instruction"], node.context_tokens)
    _tell("propose", f"reading {len(ids)} texts", 0)
    ledger = _ledger(runtime)
    given = ProposerInput(instruction=state["instruction"], texts=fitted.shown, k=k)
    filled = await propose_all(node, given, ledger)
    notes = list(filled.notes)
    if fitted.shortened:
        notes.append(f"{fitted.shortened} long texts were shortened to fit the model's context")
    return {
        **common,
        "shown": fitted.shown,
        "proposal": filled.proposal,
        "notes": notes,
        "usage": ledger.usage,
    }


async def check(state: ClusteringState) -> ClusteringState:
    """Make an exact cover of the proposal, or look again at what the refiner made of it."""
    ids = state["distinct"].ids
    wording = dict(zip(ids, state["shown"], strict=True))
    proposal = state.get("proposal")
    if proposal is not None:
        checked = check_proposal(proposal, ids, wording)
    else:
        checked = check_clustering(state["clustering"], ids, wording)
    beyond = k_finding(checked.clustering, KRange.parse(state.get("k")))
    findings = (*((beyond,) if beyond else ()), *checked.findings)
    _tell("check", f"{len(checked.clustering.clusters)} clusters", state["round"])
    return {
        "proposal": None,
        "checked": checked.model_copy(update={"findings": findings}),
        "clustering": checked.clustering,
    }


async def critique(
    state: ClusteringState, runtime: Runtime[ClusteringContext]
) -> Command[Literal["refine", "finalize"]]:
    """Judge the round, keep the best one, and decide whether another is worth it."""
    checked, number = state["checked"], state["round"]
    node = await _node(runtime, "critique", number)
    limit = _context(runtime).rounds
    if reason := _no_need_for_critic(state, node, limit):
        return _stop(state, reason, judged(state, None), None)
    _tell("critique", "reviewing", number)
    ledger = _ledger(runtime, state["usage"])
    given = CriticInput(
        instruction=state["instruction"],
        view=_view(state),
        k=KRange.parse(state.get("k")),
        remarks=tuple(_in_words(finding) for finding in checked.findings),
    )
    try:
        texts = len(state["distinct"].ids)
        judgement = await node.ask(Critic(), given, texts=texts, round=number, ledger=ledger)
    except (BudgetError, ModelError) as error:
        return _stop(state, _why(error, "critic_failed"), judged(state, None), ledger, note=_noted(error))
    scored = judged(state, judgement)
    findings = (*checked.findings, *(f for f in judgement.findings if f.kind != "fine"))
    keeps_k = k_finding(checked.clustering, given.k) is None
    if judgement.verdict == "accept" and keeps_k:
        return _stop(state, "accepted", scored, ledger, judgement)
    if number >= limit:
        return _stop(state, "rounds", scored, ledger, judgement)
    update: ClusteringState = {
        "findings": findings,
        "rounds": [round_record(state, scored, judgement)],
        "best": better(state, scored),
        "usage": ledger.usage,
    }
    return Command(goto="refine", update=update)


async def refine(
    state: ClusteringState, runtime: Runtime[ClusteringContext]
) -> Command[Literal["check", "finalize"]]:
    """Have the findings answered with edits, and carry them out."""
    number = state["round"] + 1
    node = await _node(runtime, "refine", number)
    _tell("refine", f"answering {len(state['findings'])} findings", number)
    ledger = _ledger(runtime, state["usage"])
    given = RefinerInput(
        instruction=state["instruction"],
        view=_view(state),
        findings=state["findings"],
        k=KRange.parse(state.get("k")),
    )
    ids = state["distinct"].ids
    try:
        refinement = await node.ask(Refiner(), given, texts=len(ids), round=number, ledger=ledger)
    except (BudgetError, ModelError) as error:
        stopped: ClusteringState = {
            "stop_reason": _why(error, "refiner_failed"),
            "notes": [_noted(error)],
            "usage": ledger.usage,
        }
        return Command(goto="finalize", update=stopped)
    edited = apply_edits(state["clustering"], refinement.edits, ids)
    if not edited.applied:
        nothing: ClusteringState = {"stop_reason": "no_edits", "usage": ledger.usage}
        return Command(goto="finalize", update=nothing)
    update: ClusteringState = {
        "clustering": edited.clustering,
        "edits": (*edited.applied, *edited.refused),
        "round": number,
        "usage": ledger.usage,
    }
    return Command(goto="check", update=update)


async def finalize(state: ClusteringState) -> ClusteringState:
    """Take the best round, keep the limits of k, and give every input text its place."""
    distinct, best = state["distinct"], state["best"]
    wording = {text.id: text.text for text in distinct.texts}
    k = KRange.parse(state.get("k"))
    clustering, notes = enforce_k(best.clustering, k, distinct.ids, wording)
    _tell("finalize", f"{len(clustering.clusters)} clusters", best.number)
    return {"clustering": spread(clustering, distinct), "best_round": best.number, "notes": list(notes)}


def _no_need_for_critic(state: ClusteringState, node: ReasoningNode, limit: int) -> StopReason | None:
    if len(state["distinct"].ids) <= 1:
        return "trivial"
    if not state["checked"].clustering.clusters:
        return "proposer_failed"
    if "critic" not in node.roles:
        return "no_critic"
    return "rounds" if limit == 0 else None


def _stop(
    state: ClusteringState,
    reason: StopReason,
    scored: ScoredRound,
    ledger: Ledger | None,
    judgement: Critique | None = None,
    note: str = "",
) -> Command[Any]:
    update: ClusteringState = {
        "stop_reason": reason,
        "rounds": [round_record(state, scored, judgement)],
        "best": better(state, scored),
        "notes": [note] if note else [],
        "usage": ledger.usage if ledger else state["usage"],
    }
    return Command(goto="finalize", update=update)


def _why(error: Exception, otherwise: StopReason) -> StopReason:
    return "budget" if isinstance(error, BudgetError) else otherwise


def _noted(error: Exception) -> str:
    anew = ". Answers are kept: another seed (--seed) asks anew" if isinstance(error, AnswerError) else ""
    return f"{error}{anew}"


def _view(state: ClusteringState) -> GroupingView:
    return view_of(state["clustering"], state["distinct"].ids, state["shown"])


def _in_words(finding: Finding) -> str:
    return f"{finding.kind} {', '.join(finding.clusters)}: {finding.comment}"


def _tell(stage: str, message: str, round: int) -> None:
    """Tell whoever streams the graph what happens now."""
    get_stream_writer()({"stage": stage, "message": message, "round": round})


def _context(runtime: Runtime[ClusteringContext]) -> ClusteringContext:
    return runtime.context or ClusteringContext()


def _ledger(runtime: Runtime[ClusteringContext], usage: Usage | None = None) -> Ledger:
    """That of the larger run this one is part of, or one that goes on from what the run has used."""
    context = _context(runtime)
    if isinstance(context, OpenContext) and context.ledger is not None:
        return context.ledger
    return Ledger(context.budget_tokens, usage)


async def _node(runtime: Runtime[ClusteringContext], stage: str, round: int) -> ReasoningNode:
    """The open node of the context, or one opened from its spec (in a thread: it may start a server).

    Its waits between attempts are told as progress of the stage.
    """
    write = get_stream_writer()
    tell_wait.set(lambda message: write({"stage": stage, "message": message, "round": round}))
    context = _context(runtime)
    if isinstance(context, OpenContext) and context.node is not None:
        return context.node
    return await asyncio.to_thread(_open, context.model, context.seed)


@lru_cache(maxsize=8)
def _open(model: str, seed: int) -> ReasoningNode:
    return open_node(model, ModelOptions(), ResponseCache(default_cache_path()), sample=seed)
