"""The clustering agent: what Python callers and the command line use."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Hashable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Literal, cast, get_args

from langchain_core.runnables import RunnableConfig

from cluster_r1 import __version__
from cluster_r1.agents.models import event_loop, local_server
from cluster_r1.agents.models.cache import ResponseCache, default_cache_path
from cluster_r1.agents.models.opening import ModelOptions
from cluster_r1.agents.models.retries import RetryPolicy
from cluster_r1.agents.opening import open_node
from cluster_r1.agents.reasoning_node import ReasoningNode
from cluster_r1.columns import without_surrogates
from cluster_r1.edits import Edit, division, taken_out
from cluster_r1.errors import InputError
from cluster_r1.estimate import Estimate, estimate_corpus, estimate_run
from cluster_r1.graphs.clustering import recursion_limit
from cluster_r1.graphs.clustering.state import DEFAULT_ROUNDS
from cluster_r1.graphs.corpus.planning import needs_batches
from cluster_r1.graphs.corpus.state import Effort
from cluster_r1.graphs.tracing import TraceRecorder, seconds_by_name
from cluster_r1.grouping import Grouping, Progress, Settings, Stage, stage_teller
from cluster_r1.growth import changes, grown, with_own_ids
from cluster_r1.later_texts import Assigned, Earlier, LaterRequest, assign_texts, refuse_to_assign
from cluster_r1.price import Price
from cluster_r1.python_input import texts_from_python
from cluster_r1.result import FORMAT, ClusteringResult, RunInfo
from cluster_r1.run_ids import digest_of, run_id_of, versions
from cluster_r1.types import KRange, Text

K = int | str | Sequence[int] | KRange | None

_log = logging.getLogger(__name__)

_NODES = get_args(Stage)


class ClusteringAgent:
    """Clusters texts by an instruction with a reasoning model.

    Args:
        model: a spec string (`openai:<name>`, `vllm:<name>@<url>`, `local`, `embedding`, ...; empty: the
            default of this machine), or any reasoning node.
        rounds: how often the clustering may be refined after a critique; 0 takes the first proposal.
        budget_tokens: the most tokens a run may spend; a run stops before it would spend more.
        seed: another number has models answer anew, past the cache.
        temperature: sent to the model when given.
        context_tokens: overrides what is known of the model's context.
        timeout: seconds that one call may take.
        concurrency: calls under way at once, over all runs of this agent.
        effort: how a corpus is read that fits no single context: `thorough` has the model read every text,
            `economy` a sample, from which a classifier learns; None takes the latter above 2,000 texts.
        consensus: how many passes are made over the texts, each in another order; of several, the result is
            what they have in common, a text's confidence is how far they agree about it, and
            `result.info.stability` says how alike they are.
        budget_usd: the most US dollars a run may spend, at this price.
        price: USD per million tokens as `"input/output"` or `"input/output/cached input"`, e.g. `"0.25/2"`;
            without it, what a run costs is not known.
        requests_per_minute: calls that are begun in a minute at most, over all agents with the same limits at
            the same endpoint.
        tokens_per_minute: of prompts and answers, likewise.
        cache: where answers are kept; None for `$CLUSTER_R1_CACHE` or the user's cache folder, False for
            nowhere.
        retries: how stubbornly failed calls are repeated.

    Raises:
        InputError: the model is not understood, or something that it needs is missing.
        ModelError: its server cannot be reached.
    """

    def __init__(
        self,
        model: str | ReasoningNode = "",
        *,
        rounds: int = DEFAULT_ROUNDS,
        budget_tokens: int | None = None,
        seed: int = 0,
        temperature: float | None = None,
        context_tokens: int | None = None,
        timeout: float = 600.0,
        concurrency: int = 64,
        effort: Effort | None = None,
        consensus: int = 1,
        budget_usd: float | None = None,
        price: Price | str | None = None,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        cache: Path | str | Literal[False] | None = None,
        retries: RetryPolicy | None = None,
    ) -> None:
        if rounds < 0:
            raise InputError(f"rounds is {rounds}: give 0 or more")
        if budget_tokens is not None and budget_tokens < 1:
            raise InputError(f"the budget is {budget_tokens} tokens: give 1 or more")
        if concurrency < 1:
            raise InputError(f"concurrency is {concurrency}: give 1 or more")
        if effort not in (None, *get_args(Effort)):
            raise InputError(f"effort is {effort!r}: give one of {', '.join(get_args(Effort))}, or None")
        if consensus < 1:
            raise InputError(f"consensus is {consensus}: give the number of passes, 1 or more")
        self.settings = Settings(
            rounds=rounds,
            seed=seed,
            effort=effort,
            consensus=consensus,
            budget_tokens=budget_tokens,
            budget_usd=budget_usd,
            price=Price.parse(price) if isinstance(price, str) else price,
        )
        self.settings.ledger(many_calls=False)  # refuses a budget that cannot be kept
        if isinstance(model, str):
            options = ModelOptions(
                temperature=temperature,
                context_tokens=context_tokens,
                timeout=timeout,
                concurrency=concurrency,
                retries=retries or RetryPolicy(),
                requests_per_minute=requests_per_minute,
                tokens_per_minute=tokens_per_minute,
            )
            store = None if cache is False else ResponseCache(Path(cache) if cache else default_cache_path())
            self._node = open_node(model, options, store, sample=seed)
            if not model and not os.environ.get("CLUSTER_R1_MODEL"):
                _tell_default(self._node.spec)
        else:
            self._node = model

    @property
    def model(self) -> str:
        """The spec string of the model."""
        return self._node.spec

    def cluster(
        self,
        texts: Any,
        instruction: str,
        k: K = None,
        *,
        text_column: str | None = None,
        id_column: str | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        trace_path: Path | None = None,
        source: str = "",
    ) -> ClusteringResult:
        """Cluster texts by an instruction. Also works where an event loop is running (Jupyter).

        Args:
            texts: a list of strings or of dicts, a dict of id to text, a pandas Series or DataFrame, `Text`s.
            instruction: what decides the grouping, e.g. `"by root cause"`.
            k: how many clusters: a number, a range (`"4..12"`, `(4, 12)`), or None to leave it to the model.
            text_column: for dicts and DataFrames; found by its name if not given.
            id_column: likewise.
            on_progress: called from another thread with each step.
            trace_path: where the trace is written while the run goes on.
            source: where the texts are from; recorded.

        Raises:
            InputError: the input cannot be used; nothing was spent.
            ModelError: the model could not be reached, or failed before anything was finished.
            BudgetError: the budget does not cover the first call.
        """
        return event_loop.run(
            self._run(texts, instruction, k, text_column, id_column, on_progress, trace_path, source)
        )

    async def acluster(
        self,
        texts: Any,
        instruction: str,
        k: K = None,
        *,
        text_column: str | None = None,
        id_column: str | None = None,
    ) -> ClusteringResult:
        """`cluster` for coroutines; many may run at once, within the agent's `concurrency`."""
        return await event_loop.submit(
            self._run(texts, instruction, k, text_column, id_column, None, None, "")
        )

    async def astream(
        self,
        texts: Any,
        instruction: str,
        k: K = None,
        *,
        text_column: str | None = None,
        id_column: str | None = None,
    ) -> AsyncIterator[Progress | ClusteringResult]:
        """`cluster` as a stream: a `Progress` for each step, then the `ClusteringResult`."""
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[Progress | None] = asyncio.Queue()

        def forward(progress: Progress | None) -> None:
            loop.call_soon_threadsafe(queue.put_nowait, progress)

        running = asyncio.ensure_future(
            event_loop.submit(self._run(texts, instruction, k, text_column, id_column, forward, None, ""))
        )
        running.add_done_callback(lambda _: queue.put_nowait(None))
        try:
            while (progress := await queue.get()) is not None:
                yield progress
            yield await running
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await running  # its error was raised above, or nobody waits for it any more

    def assign(
        self,
        run: ClusteringResult | Path | str,
        texts: Any,
        *,
        text_column: str | None = None,
        id_column: str | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        trace_path: Path | None = None,
        source: str = "",
    ) -> ClusteringResult:
        """Put new texts into the clusters of an earlier run, which stay as they are, ids and names included.

        Args:
            run: a result, or the folder it was saved in.
            texts: as for `cluster`.
            text_column: likewise.
            id_column: likewise.
            on_progress: likewise.
            trace_path: likewise.
            source: likewise.

        Returns:
            The new texts only: in a cluster, or unassigned where the model finds that they fit none.

        Raises:
            InputError: the run or the texts cannot be used; nothing was spent.
            ModelError: the model is gone; finished calls are kept.
        """
        return event_loop.run(
            self._later(run, texts, text_column, id_column, on_progress, trace_path, source, may_add=False)
        )

    def update(
        self,
        run: ClusteringResult | Path | str,
        texts: Any,
        *,
        text_column: str | None = None,
        id_column: str | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        trace_path: Path | None = None,
        source: str = "",
    ) -> ClusteringResult:
        """Add new texts to an earlier run: its clusters keep their ids and names, new ones may appear.

        What the earlier run has placed stays where it is. New texts that fit nowhere are grouped together
        with those that it put nowhere, and what is found is added.

        Args:
            run: a result, or the folder it was saved in.
            texts: as for `cluster`. Ids that only number the texts go on where those of the run end.
            text_column: likewise.
            id_column: likewise.
            on_progress: likewise.
            trace_path: likewise.
            source: likewise.

        Returns:
            All texts, those of the run first; `result.info.changes` says what is new.

        Raises:
            InputError: the run or the texts cannot be used; nothing was spent.
            ModelError: the model is gone; finished calls are kept.
        """
        return event_loop.run(
            self._later(run, texts, text_column, id_column, on_progress, trace_path, source, may_add=True)
        )

    def divide(
        self,
        run: ClusteringResult | Path | str,
        cluster: str,
        k: K = None,
        *,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> tuple[Edit, ...]:
        """Edits that divide a cluster as the model groups its texts by the instruction of the run.

        The largest part keeps the cluster's id. Carry them out with `ClusteringResult.edit`.

        Args:
            run: a result, or the folder it was saved in.
            cluster: its id or name.
            k: into how many, as for `cluster`.
            on_progress: likewise.

        Raises:
            InputError: there is no such cluster, or the model finds that it is one.
            ModelError, BudgetError: as for `cluster`.
        """
        earlier = run if isinstance(run, ClusteringResult) else ClusteringResult.load(run)
        whole = earlier.cluster_named(cluster)
        inside = set(whole.members)
        texts = [text for text in earlier.texts if text.id in inside]
        parts = self.cluster(texts, earlier.info.instruction, k, on_progress=on_progress).clusters
        if len(parts) < 2:
            raise InputError(
                f"the model finds one thing in {whole.name!r}. Say into how many, two or more (--k, k=)"
            )
        return division(whole, parts)

    async def _later(
        self,
        run: ClusteringResult | Path | str,
        data: Any,
        text_column: str | None,
        id_column: str | None,
        on_progress: Callable[[Progress], None] | None,
        trace_path: Path | None,
        source: str,
        *,
        may_add: bool,
    ) -> ClusteringResult:
        started = time.perf_counter()
        earlier = run if isinstance(run, ClusteringResult) else ClusteringResult.load(run)
        refuse_to_assign(earlier.clustering, self._node)
        texts, index = texts_from_python(data, text_column=text_column, id_column=id_column)
        run_id = self.later_id(earlier, texts, may_add=may_add)
        notes: tuple[str, ...] = ()
        if may_add:
            new = with_own_ids(earlier.texts, texts)
            texts, notes = list(new.texts), new.notes
            if earlier.info.edits:
                notes += ("the changes by hand of the earlier run are part of this one; undo them there",)
        settings = self.settings
        ledger = settings.ledger(many_calls=True)
        by_hand = taken_out(earlier.info.edits, earlier.info.taken_out)
        before = Earlier(earlier.texts, earlier.clustering, earlier.info.instruction, by_hand)
        asked = LaterRequest(texts, before, settings.effort, settings.seed, ledger)
        name = f"{'update' if may_add else 'assign'}/{run_id}"
        recorder = TraceRecorder(trace_path)
        try:
            assigned = await assign_texts(
                asked,
                self._node,
                self._config(name, run_id, digest_of(texts), recorder),
                stage_teller(on_progress),
                may_add=may_add,
            )
        finally:
            recorder.close()
        everything = [*earlier.texts, *texts] if may_add else texts
        why: Literal["assigned", "updated"] = "updated" if may_add else "assigned"
        info = _later_info(earlier.info, assigned, everything, why).model_copy(
            update={
                "run_id": run_id,
                "model": self.model,
                "seed": settings.seed,
                "source": source,
                "templates": dict(self._node.templates),
                "notes": (*notes, *assigned.notes),
                "taken_out": tuple(sorted(by_hand)) if may_add else (),
                "usage": ledger.usage,
                "seconds": {"total": round(time.perf_counter() - started, 3)},
            }
        )
        if may_add:
            return _updated(earlier, everything, assigned, info, recorder)
        keys = cast(Sequence[Hashable], index)
        return ClusteringResult(tuple(texts), assigned.clustering, info, recorder.records, keys)

    def _config(self, name: str, run_id: str, digest: str, recorder: TraceRecorder) -> RunnableConfig:
        """How a run is named and described in traces."""
        return {
            "run_name": name,
            "callbacks": [recorder],
            "tags": ["cluster-r1"],
            "metadata": {
                "run_id": run_id,
                "data_sha256": digest,
                "model": self.model,
                "version": __version__,
            },
            "recursion_limit": recursion_limit(self.settings.rounds),
        }

    def run_id(self, texts: Sequence[Text], instruction: str, k: K = None) -> str:
        """The id of a run: 12 hex digits, the same for runs that must give the same result."""
        settings = self.settings
        parts = [digest_of(texts), instruction, KRange.parse(k), self.model, settings.rounds, settings.seed]
        chosen = [settings.effort] if settings.effort else []
        passes = [f"consensus {settings.consensus}"] if settings.consensus > 1 else []
        return run_id_of(*parts, *chosen, *passes)

    def later_id(self, earlier: ClusteringResult, texts: Sequence[Text], *, may_add: bool) -> str:
        """The id of new texts' assignment to an earlier run, or of its update with them; as `run_id`."""
        settings = self.settings
        kind = "update" if may_add else "assign"
        parts = [kind, earlier.info.run_id, digest_of(texts), self.model, settings.seed]
        return run_id_of(*parts, *([settings.effort] if settings.effort else []))

    def estimate(
        self,
        texts: Any,
        instruction: str,
        k: K = None,
        *,
        text_column: str | None = None,
        id_column: str | None = None,
    ) -> Estimate:
        """What a run over these texts would send at most, without asking the model.

        Raises:
            InputError: the run would be refused: the input cannot be used, or does not fit the context.
        """
        read, _ = texts_from_python(texts, text_column=text_column, id_column=id_column)
        wanted = KRange.parse(k)
        if needs_batches(read, instruction, self._node):
            return estimate_corpus(read, instruction, wanted, self._node, self.settings)
        return estimate_run(read, instruction, wanted, self._node, self.settings)

    async def _run(
        self,
        data: Any,
        instruction: str,
        k: K,
        text_column: str | None,
        id_column: str | None,
        on_progress: Callable[[Progress], None] | None,
        trace_path: Path | None,
        source: str,
    ) -> ClusteringResult:
        started = time.perf_counter()
        texts, index = texts_from_python(data, text_column=text_column, id_column=id_column)
        wanted = KRange.parse(k)
        instruction = without_surrogates(instruction)
        digest = digest_of(texts)
        run_id = self.run_id(texts, instruction, wanted)
        recorder = TraceRecorder(trace_path)
        config = self._config(f"cluster/{run_id}", run_id, digest, recorder)
        grouping = Grouping(texts, instruction, wanted, self.settings, self._node, config, on_progress)
        try:
            grouped = await grouping.group()
        finally:
            recorder.close()
        output = grouped.output
        return ClusteringResult(
            texts=tuple(texts),
            clustering=output["clustering"],
            info=RunInfo(
                run_id=run_id,
                instruction=instruction,
                k=str(wanted) if wanted else None,
                model=self.model,
                max_rounds=self.settings.rounds,
                seed=self.settings.seed,
                texts=len(texts),
                input_sha256=digest,
                source=source,
                versions=dict(versions()),
                templates=dict(self._node.templates),
                rounds=tuple(output["rounds"]),
                best_round=output["best_round"],
                stop_reason=output["stop_reason"],
                notes=tuple(output["notes"]),
                corpus=grouped.reading,
                passes=grouped.passes,
                stability=grouped.stability,
                usage=output["usage"],
                seconds=seconds_by_name(recorder.records, _NODES)
                | {"total": round(time.perf_counter() - started, 3)},
            ),
            trace=recorder.records,
            index=cast(Sequence[Hashable], index),
        )


def _later_info(
    earlier: RunInfo, assigned: Assigned, texts: Sequence[Text], why: Literal["assigned", "updated"]
) -> RunInfo:
    """What stays of a run's record when later texts are put into its clusters, and what they decide."""
    return earlier.model_copy(
        update={
            "format": FORMAT,
            "k": None,
            "texts": len(texts),
            "input_sha256": digest_of(texts),
            "versions": dict(versions()),
            "rounds": (),
            "best_round": 0,
            "stop_reason": why,
            "corpus": assigned.reading,
            "passes": 1,
            "stability": None,
            "changes": None,
            "edits": (),
        }
    )


def _updated(
    earlier: ClusteringResult,
    texts: Sequence[Text],
    assigned: Assigned,
    info: RunInfo,
    recorder: TraceRecorder,
) -> ClusteringResult:
    """The earlier run with the new texts, and what that changed."""
    clustering = grown(earlier.clustering, assigned.clustering, [text.id for text in texts])
    said = changes(earlier.info.run_id, earlier.clustering, clustering)
    return ClusteringResult(
        tuple(texts), clustering, info.model_copy(update={"changes": said}), recorder.records
    )


@cache
def _tell_default(spec: str) -> None:
    """Once a process: whoever named no model should know how much to expect of what runs instead."""
    if spec == "embedding":
        _log.warning(
            "no model named and no key set: using the embedding baseline, which groups by similar words and "
            "does not follow the instruction. A small model that does: %s",
            " && ".join(local_server.missing_commands()),
        )
    elif spec == "local":
        _log.warning(
            "no model named and no key set: using the small local model, which follows the instruction "
            "roughly. `cluster-r1 models` lists better ones"
        )
