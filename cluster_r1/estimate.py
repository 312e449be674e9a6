"""What a run would send at most, found out without asking anybody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cluster_r1.agents.clustering.critic import Critic
from cluster_r1.agents.clustering.fitting import fit_texts
from cluster_r1.agents.clustering.proposer import Proposer
from cluster_r1.agents.clustering.refiner import Refiner
from cluster_r1.agents.ledger import Ledger
from cluster_r1.agents.models.static_embedder import count_tokens
from cluster_r1.agents.reasoning_node import ReasoningNode
from cluster_r1.graphs.clustering.distinct import distinct_texts
from cluster_r1.graphs.clustering.entry import read_input, refuse_k_beyond
from cluster_r1.graphs.corpus import CorpusContext
from cluster_r1.graphs.corpus.planning import make_plan
from cluster_r1.grouping import Settings
from cluster_r1.types import KRange, Text

_PROMPT_TOKENS = 800  # of a prompt besides the texts


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run would send, at most: nothing is asked to find out.

    `tokens` counts prompts and answers of all calls without reasoning; `calls` assumes that no answer has to
    be asked for again, and is no bound where texts are read in `batches`; `cost_usd` is None where no price
    is known.
    """

    texts: int
    distinct_texts: int
    shortened: int
    calls: int
    tokens: int
    cost_usd: float | None = None
    batches: int = 0


def estimate_corpus(
    texts: Sequence[Text],
    instruction: str,
    k: KRange | None,
    node: ReasoningNode,
    settings: Settings,
) -> Estimate:
    """The estimate for texts that are read in batches.

    Raises:
        InputError: the run would be refused.
    """
    distinct = distinct_texts(read_input(texts, instruction))
    refuse_k_beyond(k, len(distinct.texts))
    wordings = [text.text for text in distinct.texts]
    context = CorpusContext(wordings, instruction, k, node, Ledger(), settings.effort, settings.seed)
    plan = make_plan(context)
    return Estimate(
        texts=len(texts),
        distinct_texts=len(wordings),
        shortened=0,
        calls=plan.calls * settings.consensus,
        tokens=plan.tokens * settings.consensus,
        cost_usd=_cost(plan.tokens_in, plan.tokens - plan.tokens_in, settings),
        batches=len(plan.batches.batches),
    )


def _cost(tokens_in: int, tokens_out: int, settings: Settings) -> float | None:
    if settings.price is None:
        return None
    return round(settings.price.cost(tokens_in, tokens_out) * settings.consensus, 6)


def estimate_run(
    texts: Sequence[Text], instruction: str, k: KRange | None, node: ReasoningNode, settings: Settings
) -> Estimate:
    """The estimate for a node that may refine so many times.

    Raises:
        InputError: the run would be refused.
    """
    distinct = distinct_texts(read_input(texts, instruction))
    refuse_k_beyond(k, len(distinct.texts))
    wordings = [text.text for text in distinct.texts]
    fitted = fit_texts(wordings, instruction, node.context_tokens)
    rounds = settings.rounds
    calls = tokens_in = tokens_out = 0
    if "critic" in node.roles and len(wordings) > 1:
        calls = 1 + (2 * rounds + 1 if rounds else 0)
        reviews, refinements = (rounds + 1, rounds) if rounds else (0, 0)
        asked = ((Proposer, 1), (Critic, reviews), (Refiner, refinements))
        prompt = sum(count_tokens(fitted.shown)) + _PROMPT_TOKENS
        tokens_in = sum(times * prompt for _, times in asked)
        tokens_out = sum(times * role.tokens_per_text * len(wordings) for role, times in asked)
    return Estimate(
        texts=len(texts),
        distinct_texts=len(wordings),
        shortened=fitted.shortened,
        calls=calls * settings.consensus,
        tokens=(tokens_in + tokens_out) * settings.consensus,
        cost_usd=_cost(tokens_in, tokens_out, settings),
    )
