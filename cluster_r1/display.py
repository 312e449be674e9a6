"""What the terminal shows: progress, the table of clusters, the models."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.progress import Progress as ProgressBar
from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from cluster_r1.agents.clustering.scorer import TEMPLATE_ID as SCORER_TEMPLATE
from cluster_r1.agents.embedding_node import SHARED_WORDS
from cluster_r1.agents.models import base_weights, local_server
from cluster_r1.agents.models.specs import ModelSpec
from cluster_r1.agents.opening import default_spec
from cluster_r1.agents.scorer_node import ANSWERS
from cluster_r1.checkpoints import CARD, scorer_folder
from cluster_r1.edits import changes_of
from cluster_r1.errors import InputError
from cluster_r1.notebook import counted

if TYPE_CHECKING:
    from cluster_r1.benchmark.results import Results
    from cluster_r1.edits import Edit
    from cluster_r1.grouping import Progress
    from cluster_r1.growth import Changes
    from cluster_r1.result import ClusteringResult
    from cluster_r1.types import Cluster, CorpusReading, Usage

_STOPPED = {
    "accepted": "the critic accepted round {round}",
    "rounds": "all rounds used, round {round} was best",
    "no_critic": "no review, this model plays no critic",
    "no_edits": "changes were asked for, but none could be carried out; round {round} was best",
    "budget": "the token budget ended the refinement, round {round} was best",
    "critic_failed": "the critic failed, round {round} stands",
    "refiner_failed": "the refiner failed, round {round} was best",
    "proposer_failed": "the model gave no usable answer",
    "trivial": "there was nothing to group",
    "batches": "grouped in batches, reconciled, and assigned",
    "assigned": "assigned to the clusters of an earlier run",
    "updated": "added to an earlier run",
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
            bar.update(task, description=f"{where}{progress.stage}: {escape(progress.message)}")

        yield update


def show_result(result: ClusteringResult, folder: Path, column: str | None) -> None:
    """The clusters as a table, the largest first, and what a reader should know.

    `column` is the one that the texts were read from, if there are columns.
    """
    console = Console()
    console.print(_cluster_table(result, console.width))
    if result.info.edits:
        console.print(_summary(result, column), soft_wrap=True)
        console.print(f"results: {escape(str(folder))}", soft_wrap=True, highlight=False)
        return
    if result.info.changes is not None:
        console.print(escape(_changes(result.info.changes)), soft_wrap=True, highlight=False)
    for note in result.notes:
        console.print(f"[yellow]note:[/yellow] {escape(note)}", soft_wrap=True)
    console.print(_summary(result, column), soft_wrap=True)
    console.print(f"results: {escape(str(folder))}", soft_wrap=True, highlight=False)


def show_edits(edits: Sequence[Edit]) -> None:
    """The changes that people made, in order, a line each."""
    console = Console()
    if not edits:
        console.print("no changes")
    for number, change in enumerate(changes_of(edits), 1):
        console.print(escape(f"{number}. {in_words(change)}"), soft_wrap=True, highlight=False)


def in_words(change: Sequence[Edit]) -> str:
    """A change that somebody made, in a line."""
    first = change[0]
    clusters = ", ".join(first.clusters)
    texts = f"{len(first.texts)} text{'' if len(first.texts) == 1 else 's'}"
    named = f" as “{first.name}”" if first.name else ""
    said = {
        "merge": f"merge {clusters}{named}",
        "split": f"split {texts} off {clusters}{named}",
        "rename": f"rename {clusters}{named}",
        "move": f"move {texts} to {clusters}",
        "drop": f"move {texts} to none",
    }[first.kind]
    if len(change) > 1:
        parts = sum(edit.kind == "split" for edit in change) + 1
        said = f"divide {clusters} into {parts}"
    return f"{said} ({first.reason})" if first.reason else said


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
        f"The card of local: {escape(str(scorer_folder() / CARD))}", soft_wrap=True, highlight=False
    )
    try:
        ModelSpec.parse(default_spec())
    except InputError as error:
        console.print(f"[red]CLUSTER_R1_MODEL names no model:[/red] {escape(str(error))}", soft_wrap=True)
        return
    console.print(
        f"Without --model, {default_spec()} is used. $CLUSTER_R1_MODEL names another.", soft_wrap=True
    )


def _table(title: str) -> Table:
    return Table(
        title=escape(title),
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )


def _cluster_table(result: ClusteringResult, width: int) -> Table:
    described = any(_description(cluster) for cluster in result.clusters)
    table = _table(f"“{result.info.instruction}”")
    if _shows_ids(result):
        table.add_column("id")
    table.add_column("texts", justify="right")
    table.add_column("share", justify="right")
    table.add_column("cluster", style="bold", max_width=width // 3, overflow="fold")
    table.add_column("what belongs in it, and an example" if described else "an example", overflow="fold")
    wording = {text.id: text.text for text in result.texts}
    typical = _typical(result, wording)
    for cluster in result.clusters:
        if cluster.id in typical:
            example = _example(wording[typical[cluster.id]], "e.g. " if described else "")
        else:
            example = Text("none of these texts", style="dim")
        shown = [Text(_description(cluster))] if _description(cluster) else []
        _add_row(table, result, cluster.id, len(cluster.members), Text(cluster.name), Group(*shown, example))
    if result.unassigned:
        reasons = list(dict.fromkeys(text.reason for text in result.unassigned))
        more = f" and {len(reasons) - 2} other reasons" if len(reasons) > 2 else ""
        why = Text("; ".join(map(_clip, reasons[:2])) + more, style="dim")
        outside = Text("in no cluster", style="not bold dim")
        _add_row(table, result, "none", len(result.unassigned), outside, why)
    return table


def _add_row(
    table: Table,
    result: ClusteringResult,
    id: str,
    size: int,
    name: RenderableType,
    shown: RenderableType,
) -> None:
    cells: list[RenderableType] = [str(size), f"{size / max(len(result.texts), 1):.0%}", name, shown]
    table.add_row(*([id] if _shows_ids(result) else []), *cells)


def _shows_ids(result: ClusteringResult) -> bool:
    """Whether somebody works on the clusters, and names them."""
    return bool(result.info.edits) or result.stop_reason in ("assigned", "updated")


def _description(cluster: Cluster) -> str:
    """What belongs in a cluster, unless that is no more than the words of its name."""
    return "" if cluster.description.startswith((SHARED_WORDS, ANSWERS)) else cluster.description


def _example(text: str, before: str) -> Text:
    """One line, cut off at the edge of the terminal."""
    return Text(f"{before}{_clip(text, 300)}", style="dim", no_wrap=True, overflow="ellipsis")


def _typical(result: ClusteringResult, wording: Mapping[str, str]) -> dict[str, str]:
    """By cluster, the text that stands most surely in it: the shortest of the most confident."""
    best: dict[str, tuple[float, int, str]] = {}
    for place in result.assignments:
        rank = (place.confidence or 0.0, -len(wording[place.text_id]))
        known = best.get(place.cluster_id)
        if known is None or rank > known[:2]:
            best[place.cluster_id] = (*rank, place.text_id)
    return {cluster: text for cluster, (_, _, text) in best.items()}


def _summary(result: ClusteringResult, column: str | None) -> str:
    info, usage = result.info, result.usage
    why = _STOPPED[result.stop_reason].format(round=info.best_round)
    if info.model == "embedding" and result.stop_reason == "no_critic":
        why = "no review, the baseline groups by similar words, whatever the instruction"
    source = f" (column {column})" if column else ""
    if info.edits:
        count = len(changes_of(info.edits))
        return escape(f"{counted(result)} · {count} change{'' if count == 1 else 's'} by hand")
    parts = [f"{info.model}: {why}"]
    if info.corpus is not None and info.corpus.disagreement is not None:
        parts.append(_by_classifier(info.corpus, len(result.texts)))
    if info.stability is not None:
        parts.append(f"consensus of {info.passes} passes, which agree by {info.stability:.2f} (ARI)")
    if usage.calls or usage.saved_calls:
        parts.append(_spent(usage, reads=SCORER_TEMPLATE in info.templates))
    first = f"{counted(result)}{source} · {info.seconds['total']:.1f} s"
    return escape(f"{first}\n{' · '.join(parts)}")


def _changes(changes: Changes) -> str:
    """What new texts did to an earlier run."""
    new = ", ".join(f"“{cluster.name}” ({cluster.after})" for cluster in changes.new_clusters)
    count = len(changes.new_clusters)
    found = f"{count} new cluster{'' if count == 1 else 's'}{f': {new}' if new else ''}"
    outside = changes.unassigned_after - changes.unassigned_before
    return (
        f"{changes.texts_added} texts added: {found}; {len(changes.grown)} grew; {outside:+d} in no cluster"
    )


def _by_classifier(corpus: CorpusReading, texts: int) -> str:
    differs = corpus.disagreement
    assert differs is not None
    return (
        f"a classifier placed {corpus.by_classifier / texts:.0%}, and would be contradicted by the model on "
        f"{differs.value:.1%} of all texts [{differs.low:.1%}, {differs.high:.1%}]"
    )


def _spent(usage: Usage, *, reads: bool) -> str:
    """What the model did: a scorer reads each text by itself and writes nothing."""
    if reads:
        spent = f"{usage.calls} texts read, {usage.input_tokens:,} tokens"
    else:
        calls = f"{usage.calls} call{'' if usage.calls == 1 else 's'}"
        spent = f"{calls}, {usage.input_tokens:,} tokens in, {usage.output_tokens:,} out"
    if usage.cost_usd is not None:
        spent += f", ${usage.cost_usd:,.2f}" if usage.cost_usd >= 0.01 or not usage.calls else ", below $0.01"
    return spent + (f" ({usage.saved_calls} more from the cache)" if usage.saved_calls else "")


def _models() -> list[tuple[str, str, str]]:
    """Spec, what it is, what is missing for it here (empty: nothing)."""
    local = " && ".join(local_server.missing_commands())
    return [
        ("embedding", "static embedder, k inferred; groups by words, not by the instruction", ""),
        (
            "local",
            "small model trained by this project to follow the instruction, in this process on the CPU",
            local,
        ),
        (
            "local:<file.gguf>",
            "any GGUF file in this process, a model or an adapter of the scorer",
            " && ".join(local_server.missing_commands("named")),
        ),
        (
            "checkpoint:<folder>",
            "a trained model or adapter in this process (transformers, CPU or GPU)",
            " && ".join(base_weights.missing_commands()),
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


def _clip(text: str, length: int = 120) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def show_tasks(described: Sequence[Mapping[str, object]]) -> None:
    """Tasks as a table, a line each where the terminal is wide enough."""
    table = _table(f"{len(described)} tasks")
    table.add_column("name", style="bold", overflow="fold")
    table.add_column("split")
    table.add_column("texts", justify="right")
    table.add_column("k", justify="right")
    table.add_column("instruction", ratio=1)
    for task in described:
        values = (task["name"], task["split"], task["n"], task["k"], task["instruction"])
        table.add_row(*(escape(str(value)) for value in values))
    Console().print(table)


def show_leaderboards(results: Results, as_markdown: str) -> None:
    """A leaderboard for each panel; Markdown where the output is no terminal, since it will be kept."""
    from cluster_r1.benchmark.markdown import number

    console = Console()
    if not console.is_terminal:
        console.print(as_markdown, soft_wrap=True, highlight=False, markup=False)
        return
    for panel, systems in results.panels.items():
        table = _table(f"k {'given' if panel == 'given' else 'to be found'}, {len(results.tasks)} tasks")
        table.add_column("system", style="bold", overflow="fold")
        for name in ("tasks", "AMI", "95 %", "no topics", "topics", "k error", "gap", "seconds"):
            table.add_column(name, justify="right")
        for system in systems:
            values = [
                system.not_topical,
                system.topical,
                *map(system.means.get, ("k_error", "gap", "seconds")),
            ]
            table.add_row(
                escape(system.system),
                str(len(system.tasks)),
                number(system.ami),
                f"{number(system.low)} to {number(system.high)}",
                *map(number, values),
            )
        console.print(table)
