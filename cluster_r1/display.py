"""What the terminal shows: progress, the table of clusters, the models, the tree of a trace."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress as ProgressBar
from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.tree import Tree

from cluster_r1.agents.models import local_server
from cluster_r1.agents.opening import default_spec
from cluster_r1.errors import InputError
from cluster_r1.graphs.tracing import TraceRecord, read_trace
from cluster_r1.run_folder import TRACE

if TYPE_CHECKING:
    from cluster_r1.agent import Progress
    from cluster_r1.result import ClusteringResult

_STOPPED = {
    "accepted": "the critic accepted round {round}",
    "rounds": "all rounds used, round {round} was best",
    "no_critic": "this model does not criticise its work",
    "no_edits": "nothing left to edit, round {round} was best",
    "budget": "the token budget ended the refinement, round {round} was best",
    "critic_failed": "the critic failed, round {round} stands",
    "refiner_failed": "the refiner failed, round {round} was best",
    "proposer_failed": "the model gave no usable answer",
    "trivial": "there was nothing to group",
}


@contextmanager
def progress_line() -> Iterator[Callable[[Progress], None] | None]:
    """A line on standard error that says what happens now; nothing where that is no terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with ProgressBar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def update(progress: Progress) -> None:
            where = f"round {progress.round} · " if progress.round else ""
            bar.update(task, description=f"{where}{progress.stage}: {progress.message}")

        yield update


def show_result(result: ClusteringResult, folder: Path) -> None:
    """The clusters as a table, the largest first, and what a reader should know."""
    console = Console()
    total = max(len(result.texts), 1)
    table = _table(f"“{result.info.instruction}”")
    table.add_column("texts", justify="right")
    table.add_column("share", justify="right")
    table.add_column("cluster", style="bold", ratio=2, overflow="fold")
    table.add_column("what belongs in it, and an example", ratio=5, overflow="fold")
    wording = {text.id: text.text for text in result.texts}
    for cluster in result.clusters:
        example = _clip(wording[_typical(result, cluster.id)], 90)
        shown = f"{escape(cluster.description)}\n" if cluster.description else ""
        size = len(cluster.members)
        table.add_row(
            str(size), f"{size / total:.0%}", escape(cluster.name), f"{shown}[dim]“{escape(example)}”[/dim]"
        )
    if result.unassigned:
        reasons = list(dict.fromkeys(text.reason for text in result.unassigned))
        more = f" and {len(reasons) - 2} other reasons" if len(reasons) > 2 else ""
        size = len(result.unassigned)
        table.add_row(
            str(size),
            f"{size / total:.0%}",
            "[dim]in no cluster[/dim]",
            f"[dim]{escape('; '.join(map(_clip, reasons[:2])))}{more}[/dim]",
        )
    console.print(table)
    for note in result.notes:
        console.print(f"[yellow]note:[/yellow] {escape(note)}", soft_wrap=True)
    console.print(_summary(result), soft_wrap=True)
    console.print(f"results: {escape(str(folder))}", soft_wrap=True, highlight=False)


def show_models() -> None:
    """The kinds of models, whether each can run here, and what is missing otherwise."""
    table = _table("Models")
    table.add_column("--model", style="bold", no_wrap=True)
    table.add_column("what runs", ratio=3)
    table.add_column("here", ratio=3, overflow="fold")
    for spec, what, missing in _models():
        table.add_row(spec, what, "[green]ready[/green]" if not missing else f"needs: {escape(missing)}")
    console = Console()
    console.print(table)
    console.print(
        f"Without --model, {default_spec()} is used. $CLUSTER_R1_MODEL names another.", soft_wrap=True
    )


def show_trace(folder: Path, *, prompts: bool) -> None:
    """The runs of a trace as a tree.

    Raises:
        InputError: the folder holds no trace.
    """
    path = folder / TRACE
    if not path.is_file():
        raise InputError(f"{folder} holds no {TRACE}. Give the folder of a run, as `cluster` printed it")
    records = read_trace(path)
    if not records:
        raise InputError(f"{path} is empty: the run was stopped before its first step ended")
    children: dict[str | None, list[TraceRecord]] = {}
    known = {record["id"] for record in records}
    for record in sorted(records, key=lambda record: record["start"]):
        parent = record["parent"] if record["parent"] in known else None
        children.setdefault(parent, []).append(record)
    console = Console()
    for root in children[None]:
        tree = Tree(_trace_line(root))
        _grow(tree, root, children, prompts)
        console.print(tree)
    console.print(_trace_total(records))


def _table(title: str) -> Table:
    return Table(title=escape(title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)


def _typical(result: ClusteringResult, cluster_id: str) -> str:
    """The text that stands most surely in a cluster: the shortest of the most confident."""
    placed = [assignment for assignment in result.assignments if assignment.cluster_id == cluster_id]
    length = {text.id: len(text.text) for text in result.texts}
    best = max(placed, key=lambda place: (place.confidence or 0, -length[place.text_id]))
    return best.text_id


def _summary(result: ClusteringResult) -> str:
    info, usage = result.info, result.usage
    why = _STOPPED[result.stop_reason].format(round=info.best_round)
    clusters = f"{result.n_clusters} cluster{'' if result.n_clusters == 1 else 's'}"
    parts = [f"{info.model}: {why}"]
    if usage.calls or usage.saved_calls:
        spent = f"{usage.calls} calls, {usage.input_tokens:,} tokens in, {usage.output_tokens:,} out"
        saved = f" ({usage.saved_calls} more from the cache)" if usage.saved_calls else ""
        parts.append(spent + saved)
    first = f"{clusters} of {len(result.texts)} texts · {info.seconds['total']:.1f} s"
    return escape(f"{first}\n{' · '.join(parts)}")


def _models() -> list[tuple[str, str, str]]:
    """Spec, what it is, what is missing for it here (empty: nothing)."""
    local = " && ".join(local_server.missing_commands())
    return [
        ("embedding", "static embedder, k inferred; groups by words, not by the instruction", ""),
        ("local", "SmolLM2-135M-Instruct in this process (llama.cpp, CPU); too small to group well", local),
        (
            "local:<file.gguf>",
            "any GGUF file in this process",
            " && ".join(local_server.missing_commands("named")),
        ),
        ("vllm:<name>@<url>", "a model or checkpoint on a vLLM server", "a server: vllm serve <name>"),
        ("openai:<name>", "hosted by OpenAI, or any server at OPENAI_BASE_URL", _key("OPENAI_API_KEY")),
        (
            "anthropic:<name>",
            "hosted by Anthropic",
            _join(_package("langchain-anthropic"), _key("ANTHROPIC_API_KEY")),
        ),
        (
            "<provider>:<name>",
            "any provider that LangChain's init_chat_model knows",
            "its langchain package and key",
        ),
    ]


def _key(name: str) -> str:
    return "" if os.environ.get(name) else f"the variable {name}"


def _package(name: str) -> str:
    return "" if find_spec(name.replace("-", "_")) else f"pip install {name}"


def _join(*missing: str) -> str:
    return ", ".join(filter(None, missing))


def _grow(
    tree: Tree, record: TraceRecord, children: dict[str | None, list[TraceRecord]], prompts: bool
) -> None:
    for child in children.get(record["id"], ()):
        branch = tree.add(_trace_line(child))
        if prompts and child["type"] == "llm":
            for message in child["inputs"]:
                branch.add(f"[dim]{message['role']}:[/dim] {escape(str(message['content']))}")
            outputs = child["outputs"] or {}
            if outputs.get("reasoning"):
                branch.add(f"[dim]reasoning:[/dim] {escape(outputs['reasoning'])}")
            branch.add(f"[dim]answer:[/dim] {escape(str(outputs.get('answer', '')))}")
        _grow(branch, child, children, prompts)


def _trace_line(record: TraceRecord) -> str:
    parts = [f"[bold]{escape(record['name'])}[/bold]", f"{record['seconds']:.2f} s"]
    if record["type"] == "llm":
        metadata, outputs = record["metadata"], record["outputs"] or {}
        usage = record["usage"]
        parts.append(f"round {metadata.get('round')}")
        if metadata.get("attempt", 1) > 1:
            parts.append(f"attempt {metadata['attempt']}")
        if outputs.get("cached"):
            parts.append(f"from the cache, {outputs.get('saved_tokens', 0):,} tokens saved")
        elif usage:
            reasoning = (usage.get("output_token_details") or {}).get("reasoning") or 0
            thought = f" ({reasoning:,} reasoning)" if reasoning else ""
            parts.append(f"{usage['input_tokens']:,} tokens in, {usage['output_tokens']:,} out{thought}")
        parts.append(f"{metadata.get('model')} · {metadata.get('template')}@{_short(metadata)}")
    else:
        parts += _decisions(record)
    if record["error"]:
        parts.append(f"[red]{escape(_clip(record['error'], 160))}[/red]")
    return " · ".join(parts)


def _decisions(record: TraceRecord) -> Sequence[str]:
    """What a node decided, where it says so."""
    outputs: Any = record["outputs"]
    if not isinstance(outputs, dict):
        return ()
    update = outputs.get("update")
    reason = (update if isinstance(update, dict) else outputs).get("stop_reason")
    return (f"stops: {reason}",) if reason else ()


def _trace_total(records: Sequence[TraceRecord]) -> str:
    calls = [record for record in records if record["type"] == "llm"]
    usages = [record["usage"] for record in calls if record["usage"]]
    tokens_in = sum(usage["input_tokens"] for usage in usages)
    tokens_out = sum(usage["output_tokens"] for usage in usages)
    cached = sum(bool((record["outputs"] or {}).get("cached")) for record in calls)
    return f"{len(calls)} model calls, {cached} of them cached · {tokens_in:,} tokens in, {tokens_out:,} out"


def _short(metadata: dict[str, Any]) -> str:
    return str(metadata.get("template_sha256", ""))[:8]


def _clip(text: str, length: int = 120) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"
