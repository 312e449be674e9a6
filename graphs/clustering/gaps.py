"""When the proposer's answer is unusable or leaves texts out: ask in smaller parts, then give up."""

from __future__ import annotations

from collections.abc import Sequence

from cluster_r1.agents.clustering.assigner import Assigner, AssignerInput
from cluster_r1.agents.clustering.partition import Placement
from cluster_r1.agents.clustering.proposer import Proposal, ProposedCluster, Proposer, ProposerInput
from cluster_r1.agents.distinctive_words import plain_name
from cluster_r1.agents.ledger import Ledger
from cluster_r1.agents.parsing import AnswerError
from cluster_r1.agents.reasoning_node import ReasoningNode
from cluster_r1.errors import BudgetError, ModelError
from cluster_r1.types import NO_CLUSTER, Record

_HALVINGS = 2  # all texts, then a half, then a quarter


class Filled(Record):
    """A proposal that covers as many texts as the model could be brought to place, and what went wrong."""

    proposal: Proposal
    notes: tuple[str, ...] = ()


async def propose_all(node: ReasoningNode, given: ProposerInput, ledger: Ledger) -> Filled:
    """Ask the proposer; where all texts are too much for it, have it group a part and assign the rest.

    Raises:
        ModelError: the model cannot be reached, and nothing is finished yet.
        BudgetError: the budget does not cover the first call.
    """
    notes: list[str] = []
    count = len(given.texts)
    for _ in range(_HALVINGS + 1):
        part = given.model_copy(update={"texts": given.texts[:count]})
        try:
            proposal = await node.ask(Proposer(), part, texts=count, round=0, ledger=ledger)
        except AnswerError as error:
            notes.append(f"{count} texts at once: {error}")
            count = (count + 1) // 2
            continue
        within = tuple(p for p in proposal.placements if p.text <= count)
        filled = await _fill(node, given, proposal.model_copy(update={"placements": within}), ledger)
        return filled.model_copy(update={"notes": (*notes, *filled.notes)})
    return Filled(proposal=Proposal(clusters=(), placements=()), notes=tuple(notes))


async def _fill(node: ReasoningNode, given: ProposerInput, proposal: Proposal, ledger: Ledger) -> Filled:
    """Have the assigner place the texts that the proposal leaves out: all at once, then in halves."""
    placed = {placement.text for placement in proposal.placements}
    missing = [number for number in range(1, len(given.texts) + 1) if number not in placed]
    placements = list(proposal.placements)
    taxonomy = _taxonomy(proposal)
    notes: list[str] = []
    parts = [missing] if missing and taxonomy else []
    for _ in range(_HALVINGS):
        left: list[int] = []
        for part in parts:
            try:
                new = await _assign(node, given, taxonomy, part, ledger)
            except AnswerError as error:
                notes.append(f"{len(part)} texts: {error}")
                new = []
            except (ModelError, BudgetError) as error:  # what is finished stays; the rest is unassigned
                notes.append(f"{len(part)} texts were not placed: {error}")
                return _filled(proposal, placements, notes)
            placements += new
            answered = {placement.text for placement in new}
            left += [number for number in part if number not in answered]
        middle = (len(left) + 1) // 2
        parts = [half for half in (left[:middle], left[middle:]) if half]
    return _filled(proposal, placements, notes)


async def _assign(
    node: ReasoningNode,
    given: ProposerInput,
    taxonomy: tuple[ProposedCluster, ...],
    numbers: Sequence[int],
    ledger: Ledger,
) -> list[Placement]:
    """Placements of these texts, under the numbers they have among all texts."""
    texts = tuple(given.texts[number - 1] for number in numbers)
    asked = AssignerInput(instruction=given.instruction, clusters=taxonomy, texts=texts)
    answer = await node.ask(Assigner(), asked, texts=len(texts), round=0, ledger=ledger)
    known = {plain_name(word) for cluster in taxonomy for word in (cluster.id, cluster.name)} | {NO_CLUSTER}
    return [
        placement.model_copy(update={"text": numbers[placement.text - 1]})
        for placement in answer.placements
        if 1 <= placement.text <= len(numbers) and plain_name(placement.cluster) in known
    ]


def _taxonomy(proposal: Proposal) -> tuple[ProposedCluster, ...]:
    """The listed clusters, and those that are only used."""
    named = {cluster.id for cluster in proposal.clusters} | {cluster.name for cluster in proposal.clusters}
    used = dict.fromkeys(p.cluster for p in proposal.placements if p.cluster not in named | {NO_CLUSTER})
    return (*proposal.clusters, *(ProposedCluster(id=name, name=name) for name in used))


def _filled(proposal: Proposal, placements: Sequence[Placement], notes: Sequence[str]) -> Filled:
    return Filled(proposal=proposal.model_copy(update={"placements": tuple(placements)}), notes=tuple(notes))
