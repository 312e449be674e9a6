"""The command line. Each command reads its options, calls the Python API, and shows what came of it."""

from __future__ import annotations

import json
import logging
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, cast, get_args

import typer

from cluster_r1 import __version__, bench_commands, synthesis_commands, training_commands
from cluster_r1.errors import (
    ClusterR1Error,
    InputError,
    MissingDependencyError,
    MissingKeyError,
    ModelError,
)
from cluster_r1.types import KRange

if TYPE_CHECKING:
    from cluster_r1.agent import ClusteringAgent
    from cluster_r1.reading import Format, ReadTexts
    from cluster_r1.result import ClusteringResult

_EPILOG = "Exit codes: 0 done, 2 bad input, 3 model failure, 4 budget too small, 130 stopped by Ctrl-C."

_INTERRUPTED = 130  # what Typer makes of Ctrl-C

app = typer.Typer(
    name="cluster-r1",
    help="Cluster texts by an instruction.",
    epilog=_EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> NoReturn:
    """Run a command; an error is one line on standard error, and its kind is the exit code."""
    logging.basicConfig(format="cluster-r1: %(message)s", level=logging.WARNING)
    try:
        code = app(standalone_mode=False, prog_name="cluster-r1")
    except ClusterR1Error as error:
        _say(f"error: {error}")
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()  # whoever read the output has left; there is nobody to tell
        sys.exit(0)
    except Exception as error:
        _say_usage(error)
        raise
    if code == _INTERRUPTED:
        _say("stopped. Finished calls are kept: run the same command again to go on")
    sys.exit(code or 0)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(f"cluster-r1 {__version__}")
        raise typer.Exit


@app.command(epilog=_EPILOG)
def cluster(
    file: Annotated[str, typer.Argument(help="CSV, TSV, JSONL, JSON, Parquet or plain lines; - for stdin.")],
    by: Annotated[str, typer.Option("--by", help='What decides the grouping, e.g. "the root cause".')],
    text: Annotated[str | None, typer.Option("--text", help="Column of the texts.")] = None,
    id: Annotated[str | None, typer.Option("--id", help="Column of the ids.")] = None,
    format: Annotated[
        str | None, typer.Option(help="csv, tsv, jsonl, json, parquet or lines, if the name does not say.")
    ] = None,
    model: Annotated[str, typer.Option(help="Which model; see `cluster-r1 models`.")] = "",
    k: Annotated[str | None, typer.Option(help="Number of clusters: 5, or a range such as 4..12.")] = None,
    rounds: Annotated[int, typer.Option(min=0, help="How often the clustering may be refined.")] = 2,
    out: Annotated[Path | None, typer.Option(help="Folder for the results.  [default: out/...]")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace another run in that folder.")
    ] = False,
    budget_tokens: Annotated[int | None, typer.Option(min=1, help="Spend at most this many tokens.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Read only the first N texts.")] = None,
    effort: Annotated[
        Literal["economy", "thorough"] | None,
        typer.Option(help="What the model reads of many texts.  [default: economy above 2,000]"),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent, and stop.")] = False,
    seed: Annotated[int, typer.Option(help="Another number asks the model anew.")] = 0,
    context_tokens: Annotated[int | None, typer.Option(min=512, help="The model's context.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Cluster the texts of a FILE by an instruction."""
    from cluster_r1.reading import read_texts

    wanted = KRange.parse(k)
    if not by.strip():
        raise InputError('--by is empty. Say what the grouping should follow, e.g. --by "the root cause"')
    read = read_texts(file, text_column=text, id_column=id, limit=limit, format=_format(format))
    for warning in read.warnings:
        _say(f"warning: {warning}")

    from cluster_r1.claims import claim, keep_stopped_trace, refuse_taken, release

    options = {
        "rounds": rounds,
        "budget_tokens": budget_tokens,
        "seed": seed,
        "context_tokens": context_tokens,
        "effort": effort,
    }
    folder = out or Path("out") / f"{_slug(Path(file).stem if file != '-' else 'stdin')}-by-{_slug(by)}"
    if dry_run:
        agent, missing = _agent_to_estimate(model, options)
        refuse_taken(folder, agent.run_id(read.texts, by, wanted), overwrite=overwrite)
        _show_estimate(agent, read, by, wanted, missing, as_json)
        return
    agent = _agent(model, options)
    claim(folder, agent.run_id(read.texts, by, wanted), overwrite=overwrite)
    keep_stopped_trace(folder)
    try:
        result = _run(agent, read, by, wanted, folder, file)
    except ClusterR1Error:
        release(folder)  # nothing was finished, so another run may have the folder
        raise
    result.save(folder)
    _show(result, folder, read.text_column, as_json)
    if result.stop_reason == "proposer_failed":
        _say(
            "error: the model placed no text; trace.jsonl holds what it answered. The answers are kept: "
            f"run again with --seed {seed + 1} --overwrite to ask anew"
        )
        raise typer.Exit(3)


@app.command(epilog=_EPILOG)
def assign(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    file: Annotated[str, typer.Argument(help="New texts; forms as for `cluster`.")],
    text: Annotated[str | None, typer.Option("--text", help="Column of the texts.")] = None,
    id: Annotated[str | None, typer.Option("--id", help="Column of the ids.")] = None,
    format: Annotated[
        str | None, typer.Option(help="csv, tsv, jsonl, json, parquet or lines, if the name does not say.")
    ] = None,
    model: Annotated[str, typer.Option(help="Which model.  [default: that of the run]")] = "",
    out: Annotated[Path | None, typer.Option(help="Folder for the results.  [default: out/...]")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace another run in that folder.")
    ] = False,
    budget_tokens: Annotated[int | None, typer.Option(min=1, help="Spend at most this many tokens.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Read only the first N texts.")] = None,
    seed: Annotated[int, typer.Option(help="Another number asks the model anew.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Put new texts of a FILE into the clusters of a RUN, which stay as they are."""
    from cluster_r1.claims import claim, keep_stopped_trace, release
    from cluster_r1.display import progress_line
    from cluster_r1.reading import read_texts
    from cluster_r1.result import ClusteringResult
    from cluster_r1.run_folder import TRACE

    earlier = ClusteringResult.load(run)
    read = read_texts(file, text_column=text, id_column=id, limit=limit, format=_format(format))
    for warning in read.warnings:
        _say(f"warning: {warning}")
    agent = _agent(model or earlier.info.model, {"budget_tokens": budget_tokens, "seed": seed})
    stem = _slug(Path(file).stem if file != "-" else "stdin")
    folder = out or Path("out") / f"{stem}-by-{_slug(earlier.info.instruction)}"
    claim(folder, agent.assign_id(earlier, read.texts), overwrite=overwrite)
    keep_stopped_trace(folder)
    try:
        with progress_line() as on_progress:
            result = agent.assign(
                earlier,
                read.texts,
                on_progress=on_progress,
                trace_path=folder / TRACE,
                source=Path(file).name if file != "-" else "standard input",
            )
    except ClusterR1Error:
        release(folder)  # nothing was finished, so another run may have the folder
        raise
    result.save(folder)
    _show(result, folder, read.text_column, as_json)


@app.command()
def models() -> None:
    """List the models that can run here, and what is missing for the others."""
    from cluster_r1.display import show_models

    show_models()


@app.command()
def trace(
    folder: Annotated[Path, typer.Argument(help="The folder of a run, or one of its trace files.")],
    prompts: Annotated[bool, typer.Option("--prompts", help="Show prompts, reasoning and answers.")] = False,
) -> None:
    """Show the trace of a run as a tree with times and tokens."""
    from cluster_r1.trace_tree import show_trace

    show_trace(folder, prompts=prompts)


app.add_typer(training_commands.data_app, name="data")
app.add_typer(training_commands.train_app, name="train")
app.add_typer(training_commands.checkpoint_app, name="checkpoint")
app.command(epilog=_EPILOG)(training_commands.serve)
app.command(epilog=f"{_EPILOG[:-1]}, 5 fewer tasks than asked for.")(synthesis_commands.synthesize)
app.add_typer(bench_commands.bench_app, name="bench")


def _agent(model: str, options: dict[str, Any]) -> ClusteringAgent:
    from cluster_r1.agent import ClusteringAgent

    return ClusteringAgent(model, **options)


def _agent_to_estimate(model: str, options: dict[str, Any]) -> tuple[ClusteringAgent, str]:
    """An agent, and what it lacks to be run: an estimate is wanted before there is a key or a server."""
    try:
        return _agent(model, options), ""
    except (MissingKeyError, MissingDependencyError, ModelError) as error:
        from cluster_r1.agent import ClusteringAgent
        from cluster_r1.agents.models.specs import ModelSpec
        from cluster_r1.agents.opening import default_spec
        from cluster_r1.agents.unopened_node import UnopenedNode

        node = UnopenedNode(ModelSpec.parse(model or default_spec()), options["context_tokens"])
        return ClusteringAgent(node, **options), str(error)


def _run(
    agent: ClusteringAgent, read: ReadTexts, by: str, k: KRange | None, folder: Path, file: str
) -> ClusteringResult:
    from cluster_r1.display import progress_line
    from cluster_r1.run_folder import TRACE

    with progress_line() as on_progress:
        return agent.cluster(
            read.texts,
            by,
            k,
            on_progress=on_progress,
            trace_path=folder / TRACE,
            source=Path(file).name if file != "-" else "standard input",
        )


def _show(result: ClusteringResult, folder: Path, column: str | None, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(result.to_json(), ensure_ascii=False))
        return
    from cluster_r1.display import show_result

    show_result(result, folder, column)


def _show_estimate(
    agent: ClusteringAgent, read: ReadTexts, by: str, k: KRange | None, missing: str, as_json: bool
) -> None:
    from dataclasses import asdict

    estimate = agent.estimate(read.texts, by, k)
    if as_json:
        typer.echo(json.dumps({"model": agent.model, **asdict(estimate), "missing": missing or None}))
        return
    if missing:
        _say(f"warning: the run itself would fail: {missing}")
    column = f", from column {read.text_column!r}" if read.text_column else ""
    typer.echo(
        f"{estimate.texts} texts ({estimate.distinct_texts} different{column}) for {agent.model}: at most "
        f"{estimate.calls} calls and about {estimate.tokens:,} tokens, reasoning aside. Nothing was sent."
    )


def _format(name: str | None) -> Format | None:
    from cluster_r1.reading import Format

    known = get_args(Format)
    if name is not None and name not in known:
        raise InputError(f"--format is {name!r}: choose one of {', '.join(known)}")
    return cast("Format | None", name)


def _slug(text: str) -> str:
    words = re.findall(r"\w+", text.casefold())
    return "-".join(words)[:48].rstrip("-") or "texts"


def _say(line: str) -> None:
    typer.echo(line if line.startswith(("error", "warning")) else f"cluster-r1: {line}", err=True)


def _say_usage(error: Exception) -> None:
    """Options that Typer refuses: its message in our form."""
    format_message = getattr(error, "format_message", None)
    if format_message is None:
        return
    said = format_message().rstrip(".")
    if said:  # nothing is said where no command was given: then the help is shown already
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "cluster-r1"
        _say(f"error: {said}. `{command} --help` says more")
    sys.exit(getattr(error, "exit_code", 2))
