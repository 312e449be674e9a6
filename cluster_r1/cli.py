"""The command line. Each command reads its options, calls the Python API, and shows what came of it."""

from __future__ import annotations

import json
import logging
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from cluster_r1 import __version__, bench_commands, run_commands, synthesis_commands, training_commands
from cluster_r1.command_parts import (
    EPILOG,
    AsJson,
    BudgetTokens,
    BudgetUsd,
    Concurrency,
    EffortName,
    FormatName,
    IdColumn,
    Limit,
    Out,
    Overwrite,
    PriceOption,
    RequestsPerMinute,
    Seed,
    TextColumn,
    Timeout,
    TokensPerMinute,
    default_folder,
    open_agent,
    read_file,
    say,
    show,
    source_name,
)
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
    from cluster_r1.reading import ReadTexts
    from cluster_r1.result import ClusteringResult

_INTERRUPTED = 130  # what Typer makes of Ctrl-C

app = typer.Typer(
    name="cluster-r1",
    help="Cluster texts by an instruction.",
    epilog=EPILOG,
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
        say(f"error: {error}")
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()  # whoever read the output has left; there is nobody to tell
        sys.exit(0)
    except Exception as error:
        _say_usage(error)
        raise
    if code == _INTERRUPTED:
        say("stopped. Finished calls are kept: run the same command again to go on")
    sys.exit(code or 0)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(f"cluster-r1 {__version__}")
        raise typer.Exit


@app.command(epilog=EPILOG)
def cluster(
    file: Annotated[str, typer.Argument(help="CSV, TSV, JSONL, JSON, Parquet or plain lines; - for stdin.")],
    by: Annotated[str, typer.Option("--by", help='What decides the grouping, e.g. "the root cause".')],
    text: TextColumn = None,
    id: IdColumn = None,
    format: FormatName = None,
    model: Annotated[str, typer.Option(help="Which model; see `cluster-r1 models`.")] = "",
    k: Annotated[str | None, typer.Option(help="Number of clusters: 5, or a range such as 4..12.")] = None,
    rounds: Annotated[int, typer.Option(min=0, help="How often the clustering may be refined.")] = 2,
    out: Out = None,
    overwrite: Overwrite = False,
    limit: Limit = None,
    effort: EffortName = None,
    consensus: Annotated[
        int, typer.Option(min=1, help="Passes in different orders, of which the consensus is taken.")
    ] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent, and stop.")] = False,
    budget_tokens: BudgetTokens = None,
    budget_usd: BudgetUsd = None,
    price: PriceOption = None,
    concurrency: Concurrency = 64,
    requests_per_minute: RequestsPerMinute = None,
    tokens_per_minute: TokensPerMinute = None,
    timeout: Timeout = 600.0,
    seed: Seed = 0,
    context_tokens: Annotated[int | None, typer.Option(min=512, help="The model's context.")] = None,
    as_json: AsJson = False,
) -> None:
    """Cluster the texts of a FILE by an instruction."""
    wanted = KRange.parse(k)
    if not by.strip():
        raise InputError('--by is empty. Say what the grouping should follow, e.g. --by "the root cause"')
    read = read_file(file, text, id, format, limit)

    from cluster_r1.claims import claim, keep_stopped_trace, refuse_taken, release

    options = {
        "rounds": rounds,
        "seed": seed,
        "context_tokens": context_tokens,
        "effort": effort,
        "consensus": consensus,
        "budget_tokens": budget_tokens,
        "budget_usd": budget_usd,
        "price": price,
        "concurrency": concurrency,
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
        "timeout": timeout,
    }
    folder = out or default_folder(file, by)
    if dry_run:
        agent, missing = _agent_to_estimate(model, options)
        refuse_taken(folder, agent.run_id(read.texts, by, wanted), overwrite=overwrite)
        _show_estimate(agent, read, by, wanted, missing, as_json)
        _say_budget(agent, read, by, wanted)
        return
    agent = open_agent(model, options)
    claim(folder, agent.run_id(read.texts, by, wanted), overwrite=overwrite)
    keep_stopped_trace(folder)
    try:
        result = _run(agent, read, by, wanted, folder, file)
    except ClusterR1Error:
        release(folder)  # nothing was finished, so another run may have the folder
        raise
    result.save(folder)
    show(result, folder, read.text_column, as_json)
    if result.stop_reason == "proposer_failed":
        say(
            "error: the model placed no text; trace.jsonl holds what it answered. The answers are kept: "
            f"run again with --seed {seed + 1} --overwrite to ask anew"
        )
        raise typer.Exit(3)


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


app.command("assign", epilog=EPILOG)(run_commands.later_command(may_add=False))
app.command("update", epilog=EPILOG)(run_commands.later_command(may_add=True))
app.add_typer(run_commands.edit_app, name="edit")
app.add_typer(training_commands.data_app, name="data")
app.add_typer(training_commands.train_app, name="train")
app.add_typer(training_commands.checkpoint_app, name="checkpoint")
app.command(epilog=EPILOG)(training_commands.serve)
app.command(epilog=f"{EPILOG[:-1]}, 5 fewer tasks than asked for.")(synthesis_commands.synthesize)
app.add_typer(bench_commands.bench_app, name="bench")


def _agent_to_estimate(model: str, options: dict[str, Any]) -> tuple[ClusteringAgent, str]:
    """An agent, and what it lacks to be run: an estimate is wanted before there is a key or a server."""
    try:
        return open_agent(model, options), ""
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
            source=source_name(file),
        )


def _say_budget(agent: ClusteringAgent, read: ReadTexts, by: str, k: KRange | None) -> None:
    """Warn of a budget that would end the run early."""
    settings = agent.settings
    if settings.budget_tokens is None and settings.budget_usd is None:
        return
    estimate = agent.estimate(read.texts, by, k)
    if settings.budget_tokens is not None and estimate.tokens > settings.budget_tokens:
        say(f"warning: a budget of {settings.budget_tokens:,} tokens may end the run early")
    if settings.budget_usd is not None and (estimate.cost_usd or 0) > settings.budget_usd:
        say(f"warning: a budget of ${settings.budget_usd:,.2f} may end the run early")


def _show_estimate(
    agent: ClusteringAgent, read: ReadTexts, by: str, k: KRange | None, missing: str, as_json: bool
) -> None:
    from dataclasses import asdict

    estimate = agent.estimate(read.texts, by, k)
    if as_json:
        typer.echo(json.dumps({"model": agent.model, **asdict(estimate), "missing": missing or None}))
        return
    if missing:
        say(f"warning: the run itself would fail: {missing}")
    bound = "about" if estimate.batches else "at most"
    cost = "" if estimate.cost_usd is None else f" (${estimate.cost_usd:.2f})"
    column = f", from column {read.text_column!r}" if read.text_column else ""
    typer.echo(
        f"{estimate.texts} texts ({estimate.distinct_texts} different{column}) for {agent.model}: {bound} "
        f"{estimate.calls} calls and about {estimate.tokens:,} tokens{cost}, reasoning aside. "
        "Nothing was sent."
    )


def _say_usage(error: Exception) -> None:
    """Options that Typer refuses: its message in our form."""
    format_message = getattr(error, "format_message", None)
    if format_message is None:
        return
    said = format_message().rstrip(".")
    if said:  # nothing is said where no command was given: then the help is shown already
        context = getattr(error, "ctx", None)
        command = re.sub(r"\{(\w+)\}", r"\1", context.command_path) if context else "cluster-r1"
        say(f"error: {said}. `{command} --help` says more")
    sys.exit(getattr(error, "exit_code", 2))
