"""What the terminal shows of a trace: its runs as a tree, with times, tokens and decisions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.tree import Tree

from cluster_r1.claims import stopped_traces
from cluster_r1.errors import InputError
from cluster_r1.graphs.tracing import TraceRecord, read_trace
from cluster_r1.run_folder import TRACE


def show_trace(folder: Path, *, prompts: bool) -> None:
    """The runs of a trace as a tree; `folder` is that of a run, or a file of it.

    Raises:
        InputError: the folder holds no trace.
    """
    path = folder if folder.is_file() else folder / TRACE
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
    for earlier in stopped_traces(folder) if folder.is_dir() else ():
        console.print(f"a stopped attempt: cluster-r1 trace {earlier}", soft_wrap=True, highlight=False)


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
        parts.append(f"[red]{escape(_one_line(record['error']))}[/red]")
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


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 160 else f"{line[:159].rstrip()}…"
