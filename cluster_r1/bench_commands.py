"""The commands of the benchmark: run, report, tasks, validate, fetch."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cluster_r1.errors import BudgetError, InputError, ModelError

if TYPE_CHECKING:
    from cluster_r1.benchmark.results import Results
    from cluster_r1.benchmark.runner import Outcome, StoredAnswer
    from cluster_r1.benchmark.systems.system import Panel
    from cluster_r1.task import Task
    from cluster_r1.training.labelled import LabelledSet

bench_app = typer.Typer(help="Measure systems on clustering tasks.", no_args_is_help=True)

_FOLDER = Path("out/bench")


@bench_app.command("run")
def run(
    tasks: Annotated[
        list[str] | None,
        typer.Option(help="test, development, a corpus, a task, or a file; repeat.  [default: test]"),
    ] = None,
    systems: Annotated[
        list[str] | None,
        typer.Option(
            help="keyless, agent, one-pass, kmeans@static, name=command ...; repeat, or use commas."
        ),
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="Model of agent, one-pass ...; repeat. See `cluster-r1 models`.")
    ] = None,
    panel: Annotated[
        Literal["given", "discover", "both"], typer.Option(help="Is the number of clusters given?")
    ] = "discover",
    out: Annotated[Path, typer.Option(help="Folder; a run in it is continued.")] = _FOLDER,
    limit: Annotated[int | None, typer.Option(min=2, help="Only the first N texts of each task.")] = None,
    first: Annotated[int | None, typer.Option(min=1, help="Only the first N tasks of each name.")] = None,
    paraphrases: Annotated[
        int | None, typer.Option(min=0, help="Other wordings.  [default: all, 0 where tokens are spent]")
    ] = None,
    shuffles: Annotated[
        int | None, typer.Option(min=0, help="Other orders.  [default: 2, 0 where tokens are spent]")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Answers under way at once.")] = os.cpu_count() or 1,
    budget_tokens: Annotated[int | None, typer.Option(min=1, help="Spend at most this many tokens.")] = None,
    seed: Annotated[int, typer.Option(help="Another number asks models anew.")] = 0,
    card: Annotated[bool, typer.Option("--card", help="Add the table to a checkpoint's card.")] = False,
) -> None:
    """Have systems answer tasks, and write table and page."""
    from cluster_r1.benchmark.markdown import leaderboards
    from cluster_r1.benchmark.report import keep_tasks, write_report
    from cluster_r1.benchmark.runner import plan, refuse_others, run_jobs
    from cluster_r1.benchmark.systems.registry import open_systems

    checkpoint = _carded(model or []) if card else None
    asked = _tasks(_split(tasks), limit, first)
    named = _split(systems) or (["agent"] if model else ["keyless"])
    chosen = open_systems(named, model or [])
    panels: list[Panel] = ["given", "discover"] if panel == "both" else [panel]
    wanted = plan(asked, chosen, panels, paraphrases=paraphrases, shuffles=shuffles, seed=seed)
    if not wanted:
        raise InputError(f"none of these systems takes part with k {panel}: ask for another --panel")
    refuse_others(out, wanted)
    keep_tasks(out, asked)
    outcome = run_jobs(wanted, out, at_once=jobs, budget_tokens=budget_tokens, on_answer=_tell)
    _tell_failures(outcome)
    if outcome.asked + outcome.kept:
        results = write_report(out)
        shown = leaderboards(results)
        _show(results, shown, out)
        if checkpoint is not None:
            from cluster_r1.training.card import append_section

            append_section(checkpoint, "Bench", shown)
    _end(outcome)


@bench_app.command("report")
def report(
    folder: Annotated[Path, typer.Argument(help="As of `bench run --out`.")] = _FOLDER,
) -> None:
    """Write results.json, table.md and index.html of the answers in FOLDER anew."""
    from cluster_r1.benchmark.markdown import leaderboards
    from cluster_r1.benchmark.report import write_report

    results = write_report(folder)
    _show(results, leaderboards(results), folder)


@bench_app.command("tasks")
def tasks(
    names: Annotated[list[str] | None, typer.Argument(help="Splits, corpora, ids or files.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """List tasks: those that are shipped, or NAMES."""
    from cluster_r1.benchmark.task_sets import SPLITS, describe, named_tasks

    described = [describe(task) for task in named_tasks(names or SPLITS)]
    if as_json:
        for row in described:
            typer.echo(json.dumps(row, ensure_ascii=False))
        return
    from cluster_r1.display import show_tasks

    show_tasks(described)


@bench_app.command("validate")
def validate(
    files: Annotated[list[Path], typer.Argument(help="Task files (JSONL, or JSON with one task).")],
) -> None:
    """Check task FILES: what makes them unusable, and what their writer should look at."""
    from cluster_r1.benchmark.task_sets import findings, named_tasks

    for file in files:
        if not file.is_file():
            raise InputError(f"{file} is no file")
        read = named_tasks([str(file)])
        if not read:
            raise InputError(f"{file} holds no task")
        for line in findings(read):
            typer.echo(f"{file}: {line}")
        texts = len({text.id for task in read for text in task.texts})
        typer.echo(f"{file}: {len(read)} tasks, {texts} texts, usable")


@bench_app.command("fetch")
def fetch(
    name: Annotated[str | None, typer.Argument(help="A set of --list, or a labelled JSONL file.")] = None,
    out: Annotated[Path | None, typer.Option(help="Task file to write (JSONL).")] = None,
    texts: Annotated[int, typer.Option(min=2, help="Texts of a task, at most.")] = 100,
    rows: Annotated[int, typer.Option(min=1, help="Rows to read of a set.")] = 2000,
    seed: Annotated[int, typer.Option(help="Another number draws other texts.")] = 0,
    source: Annotated[
        Path | None, typer.Option("--from", help="A downloaded copy of the set; the network is left alone.")
    ] = None,
    show_list: Annotated[bool, typer.Option("--list", help="List the named sets, and stop.")] = False,
) -> None:
    """Write tasks from a public labelled set, or from a labelled file."""
    from cluster_r1.benchmark.labelled_tasks import labelled_tasks
    from cluster_r1.json_lines import write_json_lines

    if show_list:
        _list_sets()
        return
    if name is None or out is None:
        raise InputError("name a set and where to write: `cluster-r1 bench fetch NAME --out FILE.jsonl`")
    labelled = _labelled(name, rows, source, seed)
    made = labelled_tasks(labelled, texts=texts, seed=seed)
    if left := sorted(labelled.attributes.keys() - {task.meta["attribute"] for task in made}):
        typer.echo(f"left out, with fewer than two labels in the sample: {', '.join(left)}", err=True)
    if not made:
        raise InputError(f"{name}: no attribute has two labels in the sample: raise --texts or --rows")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_json_lines(out, made)
    except OSError as error:
        raise InputError(f"{out} cannot be written: {error}") from error
    distinct = len({text.id for task in made for text in task.texts})
    typer.echo(
        f"{out}: {len(made)} task{'s' * (len(made) > 1)}, {distinct} texts; to run: "
        f"cluster-r1 bench run --tasks {shlex.quote(str(out))}"
    )


def _labelled(name: str, rows: int, source: Path | None, seed: int) -> LabelledSet:
    from cluster_r1.benchmark.hub_sets import hub_sets, read_hub_set
    from cluster_r1.training.labelled import read_labelled

    known = hub_sets()
    if name in known:
        return read_hub_set(known[name], rows=rows, source=source, seed=seed)
    if not Path(name).is_file():
        raise InputError(
            f"{name!r} is neither a labelled file nor a named set: name one of {', '.join(known)}"
        )
    if source is not None:
        raise InputError(f"{name} is a file already: leave out --from")
    return read_labelled(Path(name))


def _list_sets() -> None:
    from cluster_r1.benchmark.hub_sets import hub_sets

    sets = list(hub_sets().values())
    cells = [(each.name, each.path, each.licence, ", ".join(each.attributes)) for each in sets]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for each, row in zip(sets, cells, strict=True):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        typer.echo(f"{line} (login needed)" if each.gated else line)


def _split(names: Sequence[str] | None) -> list[str]:
    """Names given one by one; commas part them too, but in a command."""
    parts = [part for name in names or () for part in ([name] if "=" in name else name.split(","))]
    return [part.strip() for part in parts if part.strip()]


def _tasks(names: Sequence[str], limit: int | None, first: int | None) -> list[Task]:
    from cluster_r1.benchmark.task_sets import distinct_tasks, named_tasks

    chosen = distinct_tasks(task for name in names or ("test",) for task in named_tasks([name])[:first])
    return [task.first(limit) if limit else task for task in chosen]


def _carded(models: Sequence[str]) -> Path:
    folder = Path(models[0].removeprefix("checkpoint:")) if len(models) == 1 else Path()
    if len(models) != 1 or not models[0].startswith("checkpoint:") or not (folder / "README.md").is_file():
        raise InputError("--card adds to the card of a checkpoint: name one with --model checkpoint:<folder>")
    return folder


def _tell(answer: StoredAnswer, done: int, wanted: int) -> None:
    varied = f", paraphrase {answer.wording}" if answer.wording else ""
    varied += f", order {answer.shuffle}" if answer.shuffle else ""
    what = f"{answer.system} on {answer.task}, k {answer.panel}{varied}"
    took = "from the cache" if answer.seconds is None else f"{answer.seconds:.1f} s"
    typer.echo(f"{done} of {wanted}: {what}: {took}", err=True)


def _show(results: Results, shown: str, folder: Path) -> None:
    from cluster_r1.benchmark.report import PAGE, RESULTS, TABLE
    from cluster_r1.display import show_leaderboards

    show_leaderboards(results, shown)
    typer.echo(f"results: {folder / RESULTS}, {folder / TABLE}; to look at: {folder / PAGE}")


def _tell_failures(outcome: Outcome) -> None:
    if outcome.kept:
        typer.echo(f"{outcome.kept} answers were there already", err=True)
    for job, said in outcome.failed.items():
        typer.echo(f"failed: {job}: {said}", err=True)


def _end(outcome: Outcome) -> None:
    """With an error, if anything is missing."""
    if outcome.left:
        raise BudgetError(
            f"the budget left {outcome.left} answers unfinished or unasked (at most {outcome.spent_tokens:,} "
            "tokens spent). What is finished is kept: run the same command with a further --budget-tokens"
        )
    if outcome.failed:
        raise ModelError(f"{len(outcome.failed)} answers failed: run the same command to ask for them again")
