"""The clustering agent: what Python callers and the command line use."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import platform
import time
from collections.abc import AsyncIterator, Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
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
from cluster_r1.corpus_runs import CorpusRequest, assign_texts, cluster_corpus, refuse_to_assign
from cluster_r1.errors import InputError
from cluster_r1.estimate import Estimate, estimate_corpus, estimate_run
from cluster_r1.graphs.clustering import OpenContext, graph, recursion_limit
from cluster_r1.graphs.clustering.state import DEFAULT_ROUNDS, ClusteringOutput
from cluster_r1.graphs.corpus.planning import needs_batches
from cluster_r1.graphs.corpus.state import Effort
from cluster_r1.graphs.tracing import TraceRecorder, seconds_by_name
from cluster_r1.python_input import texts_from_python
from cluster_r1.result import ClusteringResult, RunInfo
from cluster_r1.types import CorpusReading, KRange, Text

K = int | str | Sequence[int] | KRange | None
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

_log = logging.getLogger(__name__)

_NODES = get_args(Stage)
_PACKAGES = ("langgraph", "langchain", "langchain-openai", "openai", "pydantic", "scikit-learn", "numpy")


@dataclass(frozen=True, slots=True)
class Progress:
    """What the graph begins to do now."""

    stage: Stage
    message: str
    round: int


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
        cache: Path | str | Literal[False] | None = None,
        retries: RetryPolicy | None = None,
    ) -> None:
        if rounds < 0:
            raise InputError(f"rounds is {rounds}: give 0 or more")
        if budget_tokens is not None and budget_tokens < 1:
            raise InputError(f"the budget is {budget_tokens} tokens: give 1 or more")
        if concurrency < 1:
            raise InputError(f"concurrency is {concurrency}: give 1 or more")
        self.rounds = rounds
        self.budget_tokens = budget_tokens
        self.seed = seed
        self.effort = effort
        if isinstance(model, str):
            options = ModelOptions(
                temperature=temperature,
                context_tokens=context_tokens,
                timeout=timeout,
                concurrency=concurrency,
                retries=retries or RetryPolicy(),
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
        earlier = run if isinstance(run, ClusteringResult) else ClusteringResult.load(run)
        return event_loop.run(
            self._assign(earlier, texts, text_column, id_column, on_progress, trace_path, source)
        )

    async def _assign(
        self,
        earlier: ClusteringResult,
        data: Any,
        text_column: str | None,
        id_column: str | None,
        on_progress: Callable[[Progress], None] | None,
        trace_path: Path | None,
        source: str,
    ) -> ClusteringResult:
        refuse_to_assign(earlier.clustering, self._node)
        started = time.perf_counter()
        texts, index = texts_from_python(data, text_column=text_column, id_column=id_column)
        digest = _digest(texts)
        run_id = self.assign_id(earlier, texts)
        recorder = TraceRecorder(trace_path)
        try:
            assigned = await assign_texts(
                texts,
                earlier.info.instruction,
                earlier.clustering.clusters,
                self._node,
                self.budget_tokens,
                self._config(f"assign/{run_id}", run_id, digest, recorder),
                _stage_teller(on_progress),
            )
        finally:
            recorder.close()
        info = earlier.info.model_copy(
            update={
                "run_id": run_id,
                "model": self.model,
                "seed": self.seed,
                "texts": len(texts),
                "input_sha256": digest,
                "source": source,
                "versions": dict(_versions()),
                "templates": dict(self._node.templates),
                "rounds": (),
                "best_round": 0,
                "stop_reason": "assigned",
                "notes": assigned.notes,
                "corpus": None,
                "usage": assigned.usage,
                "seconds": {"total": round(time.perf_counter() - started, 3)},
            }
        )
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
            "recursion_limit": recursion_limit(self.rounds),
        }

    def run_id(self, texts: Sequence[Text], instruction: str, k: K = None) -> str:
        """The id of a run: 12 hex digits, the same for runs that must give the same result."""
        parts = [_digest(texts), instruction, KRange.parse(k), self.model, self.rounds, self.seed]
        return _run_id(*parts, *([self.effort] if self.effort else []))

    def assign_id(self, earlier: ClusteringResult, texts: Sequence[Text]) -> str:
        """The id of an assignment of new texts to an earlier run: 12 hex digits, as `run_id`."""
        return _run_id("assign", earlier.info.run_id, _digest(texts), self.model, self.seed)

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
            return estimate_corpus(read, instruction, wanted, self._node, self.effort, self.seed)
        return estimate_run(read, instruction, wanted, self._node, self.rounds)

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
        digest = _digest(texts)
        run_id = self.run_id(texts, instruction, wanted)
        recorder = TraceRecorder(trace_path)
        config = self._config(f"cluster/{run_id}", run_id, digest, recorder)
        reading: CorpusReading | None = None
        try:
            if needs_batches(texts, instruction, self._node):
                asked = CorpusRequest(texts, instruction, wanted, self.effort, self.seed, self.budget_tokens)
                output, reading = await cluster_corpus(asked, self._node, config, _stage_teller(on_progress))
            else:
                output = await self._through_graph(texts, instruction, wanted, config, on_progress)
        finally:
            recorder.close()
        return ClusteringResult(
            texts=tuple(texts),
            clustering=output["clustering"],
            info=RunInfo(
                run_id=run_id,
                instruction=instruction,
                k=str(wanted) if wanted else None,
                model=self.model,
                max_rounds=self.rounds,
                seed=self.seed,
                texts=len(texts),
                input_sha256=digest,
                source=source,
                versions=dict(_versions()),
                templates=dict(self._node.templates),
                rounds=tuple(output["rounds"]),
                best_round=output["best_round"],
                stop_reason=output["stop_reason"],
                notes=tuple(output["notes"]),
                corpus=reading,
                usage=output["usage"],
                seconds=seconds_by_name(recorder.records, _NODES)
                | {"total": round(time.perf_counter() - started, 3)},
            ),
            trace=recorder.records,
            index=cast(Sequence[Hashable], index),
        )

    async def _through_graph(
        self,
        texts: Sequence[Text],
        instruction: str,
        k: KRange | None,
        config: RunnableConfig,
        on_progress: Callable[[Progress], None] | None,
    ) -> ClusteringOutput:
        given: Any = {"texts": list(texts), "instruction": instruction, "k": str(k) if k else None}
        context = OpenContext(
            model=self.model,
            rounds=self.rounds,
            budget_tokens=self.budget_tokens,
            seed=self.seed,
            node=self._node,
        )
        if on_progress is None:
            return cast(ClusteringOutput, await graph.ainvoke(given, config, context=context))
        output: Any = None
        async for mode, event in graph.astream(
            given, config, context=context, stream_mode=["custom", "values"]
        ):
            if mode == "custom":
                on_progress(Progress(**cast(dict[str, Any], event)))
            else:
                output = event
        return cast(ClusteringOutput, output)


def _stage_teller(on_progress: Callable[[Progress], None] | None) -> Callable[[str, str], None]:
    def tell(stage: str, message: str) -> None:
        if on_progress is not None:
            on_progress(Progress(cast(Stage, stage), message, 0))

    return tell


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


def _digest(texts: Sequence[Text]) -> str:
    content = json.dumps([[text.id, text.text] for text in texts], ensure_ascii=False)
    return hashlib.sha256(content.encode("utf-8", "replace")).hexdigest()


def _run_id(*parts: object) -> str:
    """Runs that must give the same result have the same id."""
    return hashlib.sha256("\x1f".join(map(str, parts)).encode("utf-8", "replace")).hexdigest()[:12]


@cache
def _versions() -> dict[str, str]:
    return {
        "cluster-r1": __version__,
        "python": platform.python_version(),
        **{package: version(package) for package in _PACKAGES},
    }
