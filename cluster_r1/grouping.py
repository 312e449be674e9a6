"""How texts are grouped: in one context or many, in one pass or several."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from langchain_core.runnables import RunnableConfig

from cluster_r1.agents.ledger import MOST_ANSWER_TOKENS, Ledger
from cluster_r1.agents.parsing import AnswerError
from cluster_r1.agents.reasoning_node import ReasoningNode
from cluster_r1.corpus_runs import CorpusRequest, cluster_corpus, in_drawn_order
from cluster_r1.errors import BudgetError
from cluster_r1.graphs.clustering import OpenContext, graph
from cluster_r1.graphs.clustering.state import ClusteringOutput
from cluster_r1.graphs.corpus.planning import needs_batches
from cluster_r1.graphs.corpus.state import Effort
from cluster_r1.passes import in_input_order, merge_passes
from cluster_r1.price import Price
from cluster_r1.types import CorpusReading, KRange, Text

Stage = Literal[
    "propose",
    "check",
    "critique",
    "refine",
    "plan",
    "cluster_batch",
    "reconcile",
    "assign",
    "audit",
    "revise",
    "finalize",
]


@dataclass(frozen=True, slots=True)
class Progress:
    """What the graph begins to do now."""

    stage: Stage
    message: str
    round: int


OnProgress = Callable[[Progress], None] | None


@dataclass(frozen=True, slots=True)
class Settings:
    """How runs are done; see `ClusteringAgent`."""

    rounds: int
    seed: int
    effort: Effort | None
    consensus: int
    budget_tokens: int | None
    budget_usd: float | None
    price: Price | None

    def ledger(self, *, many_calls: bool) -> Ledger:
        """A new ledger, for calls that are under way together or one after the other."""
        return Ledger(
            self.budget_tokens,
            most_answer_tokens=MOST_ANSWER_TOKENS if many_calls else None,
            price=self.price,
            budget_usd=self.budget_usd,
        )


@dataclass(frozen=True, slots=True)
class Grouped:
    """A clustering and how it came about.

    Attributes:
        output: of the graph; of several passes that of the typical one, with the consensus as clustering.
        reading: how a corpus was read that fits no single context.
        passes: that were finished.
        stability: their mean pairwise ARI; None of a single one.
    """

    output: ClusteringOutput
    reading: CorpusReading | None = None
    passes: int = 1
    stability: float | None = None


@dataclass(frozen=True, slots=True)
class Grouping:
    """Groups some texts, by the graph that their number asks for.

    Attributes:
        texts: the input, in order.
        instruction: what decides the grouping.
        k: how many clusters are wanted.
        settings: of the run.
        node: the model.
        config: how the graph's run is named and described in traces.
        on_progress: is told each step.
    """

    texts: Sequence[Text]
    instruction: str
    k: KRange | None
    settings: Settings
    node: ReasoningNode
    config: RunnableConfig
    on_progress: OnProgress = None

    async def group(self) -> Grouped:
        """Group the texts; with `consensus`, several times, each time in another order.

        Raises:
            InputError, ModelError, BudgetError: as `ClusteringAgent.cluster`.
        """
        batches = needs_batches(self.texts, self.instruction, self.node)
        several = self.settings.consensus > 1
        ledger = self.settings.ledger(many_calls=batches or (several and not self._limited))
        if not several:
            return await self._once(0, batches, ledger)
        return self._agreed(await self._passes(batches, ledger), ledger)

    @property
    def _limited(self) -> bool:
        return self.settings.budget_tokens is not None or self.settings.budget_usd is not None

    async def _passes(self, batches: bool, ledger: Ledger) -> list[Grouped]:
        """The passes that came to the end: side by side; under a budget, one after the other.

        Raises:
            ClusterR1Error: none did, or one has found the model gone.
        """
        numbers = range(self.settings.consensus)
        if not self._limited:
            tried = await asyncio.gather(
                *(self._once(number, batches, ledger) for number in numbers), return_exceptions=True
            )
            failed = [one for one in tried if isinstance(one, BaseException)]
            done = [one for one in tried if not isinstance(one, BaseException)]
            serious = [error for error in failed if not isinstance(error, AnswerError)]
            if serious or not done:
                raise (serious or failed)[0]
            return done
        done = []
        for number in numbers:
            try:
                one = await self._once(number, batches, ledger)
            except (BudgetError, AnswerError) as error:
                if not done and (isinstance(error, BudgetError) or number + 1 == self.settings.consensus):
                    raise
                if isinstance(error, BudgetError):
                    break
                continue
            if done and one.reading is not None and one.reading.unread:
                break
            done.append(one)
        return done

    def _agreed(self, passes: list[Grouped], ledger: Ledger) -> Grouped:
        """The consensus of the passes that grouped anything."""
        useful = [one for one in passes if one.output["clustering"].clusters]
        missing = self.settings.consensus - len(useful)
        if len(useful) < 2:
            (one,) = useful or passes[:1]
            return Grouped(self._with(one, [self._too_few(missing)], ledger), one.reading)
        merged = merge_passes([one.output["clustering"] for one in useful], self.texts, self.k)
        typical = useful[merged.typical]
        notes = [*merged.notes, *([self._too_few(missing)] if missing else [])]
        output = self._with(typical, notes, ledger)
        output["clustering"] = merged.clustering
        return Grouped(output, typical.reading, len(useful), merged.stability)

    def _too_few(self, missing: int) -> str:
        want = "the budget did not cover more" if self._limited else "the model gave no usable answer"
        return f"{missing} of the {self.settings.consensus} passes did not come to the end: {want}"

    def _with(self, one: Grouped, notes: list[str], ledger: Ledger) -> ClusteringOutput:
        both = [*one.output["notes"], *notes]
        return cast(ClusteringOutput, {**one.output, "notes": both, "usage": ledger.usage})

    async def _once(self, number: int, batches: bool, ledger: Ledger) -> Grouped:
        """One pass; the first takes the texts as they are, the others in orders of their own."""
        config = self.config
        if number:
            config = cast(RunnableConfig, {**config, "run_name": f"{config['run_name']}/pass-{number + 1}"})
        if batches:
            settings = self.settings
            asked = CorpusRequest(
                self.texts, self.instruction, self.k, settings.effort, settings.seed, ledger, order=number
            )
            return Grouped(*await cluster_corpus(asked, self.node, config, stage_teller(self.on_progress)))
        texts = in_drawn_order(self.texts, number) if number else self.texts
        output = await self._through_graph(texts, config, ledger)
        if number:
            ordered = in_input_order(output["clustering"], [text.id for text in self.texts])
            output = cast(ClusteringOutput, {**output, "clustering": ordered})
        return Grouped(output)

    async def _through_graph(
        self, texts: Sequence[Text], config: RunnableConfig, ledger: Ledger
    ) -> ClusteringOutput:
        given: Any = {
            "texts": list(texts),
            "instruction": self.instruction,
            "k": str(self.k) if self.k else None,
        }
        context = OpenContext(
            model=self.node.spec,
            rounds=self.settings.rounds,
            budget_tokens=self.settings.budget_tokens,
            seed=self.settings.seed,
            node=self.node,
            ledger=ledger,
        )
        if self.on_progress is None:
            return cast(ClusteringOutput, await graph.ainvoke(given, config, context=context))
        output: Any = None
        async for mode, event in graph.astream(
            given, config, context=context, stream_mode=["custom", "values"]
        ):
            if mode == "custom":
                self.on_progress(Progress(**cast(dict[str, Any], event)))
            else:
                output = event
        return cast(ClusteringOutput, output)


def stage_teller(on_progress: OnProgress) -> Callable[[str, str], None]:
    """What the corpus graph tells its progress to."""

    def tell(stage: str, message: str) -> None:
        if on_progress is not None:
            on_progress(Progress(cast(Stage, stage), message, 0))

    return tell
