"""The two-step job with this project's parts: a graph of two nodes, one model, the response cache on disk.

python benchmark/two_step/own_job.py --url http://127.0.0.1:8123/v1
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypedDict

from job import CHECKER, WRITER, PeakMemory, make_rows, report, run_from_command_line
from langgraph.graph import END, START, StateGraph

from cluster_r1.agents.models import event_loop
from cluster_r1.agents.models.cache import ResponseCache
from cluster_r1.agents.models.opening import ModelOptions, open_model
from cluster_r1.agents.models.reasoning_chat_model import ReasoningChatModel, read_message
from cluster_r1.agents.models.specs import ModelSpec
from cluster_r1.json_lines import append_json_lines

AT_ONCE = 1.5  # rows under way for each slot, so that none waits while answers are read


class State(TypedDict, total=False):
    """A row on its way."""

    row: int
    texts: str
    instruction: str
    verdict: str


def build_graph(model: ReasoningChatModel) -> Any:
    """The job as nodes of a graph."""

    async def ask(system: str, user: str) -> str:
        chat = [{"role": "system", "content": system}, {"role": "user", "content": user}]
        return read_message(await model.ainvoke(chat)).text

    async def write(state: State) -> State:
        return {"instruction": await ask(WRITER, state["texts"])}

    async def check(state: State) -> State:
        asked = f"{state['texts']}\n\nInstruction: {state['instruction']}"
        return {"verdict": await ask(CHECKER, asked)}

    builder = StateGraph(State)
    builder.add_node("write", write)
    builder.add_node("check", check)
    builder.add_edge(START, "write")
    builder.add_edge("write", "check")
    builder.add_edge("check", END)
    return builder.compile()


async def answer_all(graph: Any, rows: list[dict[str, Any]], slots: int, file: Path) -> int:
    """Run all rows and append each to a file; gives how many have both answers."""
    free = asyncio.Semaphore(int(AT_ONCE * slots))

    async def one(row: Mapping[str, Any]) -> bool:
        async with free:
            made = await graph.ainvoke(row)
        append_json_lines(file, [made])
        return bool(made["instruction"] and made["verdict"])

    return sum(await asyncio.gather(*map(one, rows)))


def run_job(url: str, rows: int, slots: int) -> None:
    """Run the job in a folder of its own and measure it."""
    memory = PeakMemory()
    with tempfile.TemporaryDirectory() as folder:
        cache = ResponseCache(Path(folder, "answers.sqlite"))
        model = open_model(ModelSpec.parse(f"vllm:fake@{url}"), ModelOptions(concurrency=slots), cache)
        graph, made = build_graph(model), make_rows(rows)
        started = time.perf_counter()
        with memory.watched():
            complete = event_loop.run(answer_all(graph, made, slots, Path(folder, "rows.jsonl")))
        seconds = time.perf_counter() - started
    report(f"cluster-r1 {version('cluster-r1')}", rows, slots, seconds, memory, complete)


if __name__ == "__main__":
    run_from_command_line(__doc__, run_job)
