"""What is done with a run once it is there: `assign`, `update`, `edit`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cluster_r1.command_parts import (
    AsJson,
    BudgetTokens,
    BudgetUsd,
    Concurrency,
    EffortName,
    FormatName,
    IdColumn,
    Limit,
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
    slug,
    source_name,
)
from cluster_r1.errors import ClusterR1Error, InputError

if TYPE_CHECKING:
    from cluster_r1.agent import ClusteringAgent
    from cluster_r1.edits import Edit
    from cluster_r1.reading import ReadTexts
    from cluster_r1.result import ClusteringResult

_Run = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.")]
_File = Annotated[str, typer.Argument(help="New texts; forms as for `cluster`.")]
_Model = Annotated[str, typer.Option(help="Which model.  [default: that of the run]")]
_Reason = Annotated[str, typer.Option(help="Why; recorded, and shown with the texts that move.")]
_Name = Annotated[str, typer.Option(help="Name of the cluster.")]
_Description = Annotated[str, typer.Option(help="What belongs in it.")]


_ASSIGN = "Put new texts of a FILE into the clusters of a RUN, which stay as they are."
_UPDATE = """Add new texts of a FILE to a RUN: its clusters keep their ids and names, new ones may appear.

The RUN's folder stays as it is; the whole goes to RUN-with-FILE or --out, with what changed in changes.json.
"""


def later_command(*, may_add: bool) -> Callable[..., None]:
    """The command that puts later texts into a run: `update` if clusters may be added, else `assign`."""

    def command(
        run: _Run,
        file: _File,
        text: TextColumn = None,
        id: IdColumn = None,
        format: FormatName = None,
        model: _Model = "",
        out: Annotated[Path | None, typer.Option(help="Folder for the results.")] = None,
        overwrite: Overwrite = False,
        limit: Limit = None,
        effort: EffortName = None,
        budget_tokens: BudgetTokens = None,
        budget_usd: BudgetUsd = None,
        price: PriceOption = None,
        concurrency: Concurrency = 64,
        requests_per_minute: RequestsPerMinute = None,
        tokens_per_minute: TokensPerMinute = None,
        timeout: Timeout = 600.0,
        seed: Seed = 0,
        as_json: AsJson = False,
    ) -> None:
        earlier = _load(run)
        read = read_file(file, text, id, format, limit)
        options = {
            "effort": effort,
            "budget_tokens": budget_tokens,
            "budget_usd": budget_usd,
            "price": price,
            "concurrency": concurrency,
            "requests_per_minute": requests_per_minute,
            "tokens_per_minute": tokens_per_minute,
            "timeout": timeout,
            "seed": seed,
        }
        agent = open_agent(model or earlier.info.model, options)
        default = _beside(run, file) if may_add else default_folder(file, earlier.info.instruction)
        folder = out or default
        if may_add and folder.resolve() == run.resolve():
            raise InputError(
                f"update does not write into the run that it goes on from, {run}: choose another --out"
            )
        result = _carry_out(agent, earlier, read, folder, source_name(file), overwrite, may_add=may_add)
        show(result, folder, read.text_column, as_json)

    command.__doc__ = _UPDATE if may_add else _ASSIGN
    return command


def _beside(run: Path, file: str) -> Path:
    """The folder of a run with the texts of a file: RUN-with-FILE."""
    stem = slug(Path(file).stem if file != "-" else "stdin")
    named = run if run.name not in ("", "..") else run.resolve()
    return named.with_name(f"{named.name}-with-{stem}")


edit_app = typer.Typer(
    help="Change a RUN by hand: merge, split, rename, move; each change is recorded and can be undone.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@edit_app.callback()
def _edit(context: typer.Context, run: _Run) -> None:
    context.obj = run


@edit_app.command()
def merge(
    context: typer.Context,
    clusters: Annotated[list[str], typer.Argument(help="Ids or names; the first one stays.")],
    name: _Name = "",
    description: _Description = "",
    reason: _Reason = "",
) -> None:
    """Make several CLUSTERS one."""
    from cluster_r1.edits import Edit

    made = Edit(kind="merge", clusters=tuple(clusters), name=name, description=description, reason=reason)
    _apply(context.obj, [made])


@edit_app.command()
def split(
    context: typer.Context,
    cluster: Annotated[str, typer.Argument(help="Id or name.")],
    texts: Annotated[
        list[str] | None, typer.Argument(help="Ids of the texts that go into a new cluster.")
    ] = None,
    name: _Name = "",
    description: _Description = "",
    reason: _Reason = "",
    k: Annotated[str | None, typer.Option(help="Without TEXTS: into how many.")] = None,
    model: _Model = "",
    seed: Seed = 0,
) -> None:
    """Put TEXTS of a CLUSTER into a new one; without TEXTS, the model divides it by the instruction."""
    from cluster_r1.editing import edited_run
    from cluster_r1.edits import Edit

    if texts:
        if not name:
            raise InputError("the new cluster needs a name (--name)")
        made = Edit(
            kind="split",
            clusters=(cluster,),
            texts=tuple(texts),
            name=name,
            description=description,
            reason=reason or "split off by hand",
        )
        _apply(context.obj, [made])
        return
    from cluster_r1.display import progress_line

    before = edited_run(context.obj)
    agent = open_agent(model or before.info.model, {"seed": seed})
    with progress_line() as on_progress:
        divided = agent.divide(before, cluster, k, on_progress=on_progress)
    _apply(context.obj, divided)


@edit_app.command()
def rename(
    context: typer.Context,
    cluster: Annotated[str, typer.Argument(help="Id or name.")],
    name: _Name = "",
    description: _Description = "",
    reason: _Reason = "",
) -> None:
    """Give a CLUSTER another name or description."""
    from cluster_r1.edits import Edit

    made = Edit(kind="rename", clusters=(cluster,), name=name, description=description, reason=reason)
    _apply(context.obj, [made])


@edit_app.command()
def move(
    context: typer.Context,
    texts: Annotated[list[str], typer.Argument(help="Ids of texts.")],
    to: Annotated[str, typer.Option("--to", help="Id or name of a cluster, or none.")],
    reason: _Reason = "",
) -> None:
    """Put TEXTS into a cluster, or into none."""
    from cluster_r1.edits import Edit

    made = Edit(kind="move", clusters=(to,), texts=tuple(texts), reason=reason or "moved by hand")
    _apply(context.obj, [made])


@edit_app.command()
def undo(context: typer.Context) -> None:
    """Take the last change back."""
    from cluster_r1.display import in_words
    from cluster_r1.editing import undo_edit

    result, undone = undo_edit(context.obj)
    show(result, context.obj, None, as_json=False)
    say(f"undone: {in_words(undone)}")


@edit_app.command()
def log(context: typer.Context) -> None:
    """List the changes, and carry out what a stopped command left undone."""
    from cluster_r1.display import show_edits
    from cluster_r1.editing import mended_run

    show_edits(mended_run(context.obj).info.edits)


@edit_app.command()
def replay(
    context: typer.Context,
    other: Annotated[Path, typer.Argument(help="The folder of a run that was edited.")],
) -> None:
    """Make the changes of an OTHER run on this one as well, e.g. after the same texts were grouped anew."""
    from cluster_r1.editing import edited_run

    edits = edited_run(other).info.edits
    if not edits:
        raise InputError(f"{other} has no edits")
    _apply(context.obj, edits)


def _apply(folder: Path, edits: list[Edit] | tuple[Edit, ...]) -> None:
    from cluster_r1.editing import edit_run
    from cluster_r1.run_folder import EDITS

    result = edit_run(folder, edits)
    show(result, folder, None, as_json=False)
    say(f"recorded in {folder / EDITS}. `cluster-r1 edit {folder} undo` takes the last change back")


def _load(run: Path) -> ClusteringResult:
    """The run as it is after all edits."""
    from cluster_r1.editing import edited_run

    return edited_run(run)


def _carry_out(
    agent: ClusteringAgent,
    earlier: ClusteringResult,
    read: ReadTexts,
    folder: Path,
    source: str,
    overwrite: bool,
    *,
    may_add: bool,
) -> ClusteringResult:
    from cluster_r1.claims import claim, keep_stopped_trace, release
    from cluster_r1.display import progress_line
    from cluster_r1.run_folder import TRACE

    claim(folder, agent.later_id(earlier, read.texts, may_add=may_add), overwrite=overwrite)
    keep_stopped_trace(folder)
    method = agent.update if may_add else agent.assign
    try:
        with progress_line() as on_progress:
            result = method(
                earlier,
                read.texts,
                on_progress=on_progress,
                trace_path=folder / TRACE,
                source=source,
            )
    except ClusterR1Error:
        release(folder)  # nothing was finished, so another run may have the folder
        raise
    result.save(folder)
    return result
