"""The command that makes tasks and reasoning traces of corpora: synthesize."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cluster_r1.errors import InputError, ShortfallError

if TYPE_CHECKING:
    from cluster_r1.graphs.synthesis.config import SynthesisConfig
    from cluster_r1.synthesis.synthesis_graph import SynthesisResult

_ROLES = ("generator", "verifier", "critic", "teacher")


def synthesize(
    corpora: Annotated[
        list[str] | None,
        typer.Argument(metavar="CORPUS", help="Files of texts: CSV, JSONL, plain lines ..."),
    ] = None,
    tasks: Annotated[int, typer.Option(min=1, help="Accepted tasks that are wanted.")] = 100,
    config: Annotated[
        Path | None, typer.Option(help="YAML: sizes, bars, shares; see docs/synthesis.md.")
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="SPEC for all roles, or generator=SPEC verifier=SPEC critic=SPEC teacher=SPEC."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder; a run in it is continued.")] = Path("out/synthesis"),
    domain: Annotated[
        list[str] | None, typer.Option(help="Kind of texts, in words, that are to be written; repeat.")
    ] = None,
    text: Annotated[str | None, typer.Option("--text", help="Column of the texts.")] = None,
    id: Annotated[str | None, typer.Option("--id", help="Column of the ids.")] = None,
    licence: Annotated[str, typer.Option(help="Of the texts, where no file beside them says.")] = "",
    budget_tokens: Annotated[
        int | None, typer.Option(min=1, help="Spend at most this many tokens now.")
    ] = None,
    attempts: Annotated[
        int | None, typer.Option(min=1, help="Give up after so many.  [default: 20 a task]")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Calls under way at once, at each endpoint.")] = 64,
    temperature: Annotated[float | None, typer.Option(min=0, help="Sent to the models.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Instead of the configuration's.")] = None,
    sequential: Annotated[
        bool, typer.Option("--sequential", help="One call after the other, every step shown.")
    ] = False,
    trace: Annotated[
        bool, typer.Option("--trace", help="Write all prompts and answers to trace.jsonl.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace another run in the folder.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent, and stop.")] = False,
) -> None:
    """Make clustering tasks with trusted labels, and reasoning traces, of CORPUS files."""
    from cluster_r1.graphs.synthesis.config import read_config

    files, named = _files_and_models(corpora or [], model or [])
    if not files and not domain:
        raise InputError(
            "there is nothing to make tasks of: name a file of texts, or a kind of texts with --domain"
        )
    settings = read_config(config)
    if seed is not None:
        settings = settings.model_copy(update={"seed": seed})
    corpus: dict[str, Any] = {
        "domains": domain or [],
        "text_column": text,
        "id_column": id,
        "licence": licence,
    }
    if dry_run:
        _estimate(files, named, settings, tasks, corpus)
        return
    from cluster_r1.synthesis.synthesis_graph import SynthesisGraph
    from cluster_r1.synthesis_display import show_event, show_synthesis, synthesis_progress

    _tell_default(named)
    graph = SynthesisGraph(
        named.pop("", ""),
        models=named,
        config=settings,
        budget_tokens=budget_tokens,
        concurrency=concurrency,
        temperature=temperature,
    )
    options: dict[str, Any] = {
        **corpus,
        "tasks": tasks,
        "out": out,
        "most_attempts": attempts,
        "sequential": sequential,
        "overwrite": overwrite,
        "trace": trace,
    }
    if sequential:
        result = graph.run(files, **options, on_event=show_event)
    else:
        with synthesis_progress(tasks) as shown:
            result = graph.run(files, **options, on_tally=shown.on_tally, on_wait=shown.on_wait)
    for note in result.notes:
        typer.echo(f"note: {note}", err=True)
    show_synthesis(result)
    _end(result)


def _tell_default(named: Mapping[str, str]) -> None:
    """Whoever named no model for a role should know what plays it instead."""
    from cluster_r1.agents.opening import default_spec

    unnamed = [] if "" in named else [role for role in _ROLES if role not in named]
    if not unnamed:
        return
    spec = default_spec()
    poor = ", the small local model, whose tasks are nearly all rejected" if spec == "local" else ""
    which = "any role" if len(unnamed) == len(_ROLES) else ", ".join(unnamed)
    typer.echo(
        f"cluster-r1: no model named for {which}: using {spec}{poor}. `cluster-r1 models` lists others",
        err=True,
    )


def _files_and_models(positional: Sequence[str], models: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Files, and spec strings by role; that of all roles is under the empty name.

    A shell hands `--model generator=A verifier=B` over as one option and an argument, so arguments of that
    form are models.
    """
    for each in (*models, *positional):
        _refuse_unknown_role(each)
    files = [each for each in positional if _role_of(each) is None]
    named: dict[str, str] = {}
    for each in (*models, *(each for each in positional if _role_of(each))):
        role = _role_of(each) or ""
        spec = each.partition("=")[2] if role else each
        if named.setdefault(role, spec) != spec:
            raise InputError(f"--model names {role or 'all roles'} twice: {named[role]} and {spec}")
    return files, named


def _refuse_unknown_role(text: str) -> None:
    """Raise an InputError for `verifer=SPEC` and the like; a file may be called so."""
    role, equals, _ = text.partition("=")
    if equals and role.isidentifier() and not Path(text).exists() and _role_of(text) is None:
        raise InputError(f"{text!r} names no role and its model. Form: {'=SPEC '.join(_ROLES)}=SPEC")


def _role_of(text: str) -> str | None:
    role, equals, spec = text.partition("=")
    return role if equals and spec and role in _ROLES else None


def _estimate(
    files: Sequence[str], named: dict[str, str], settings: SynthesisConfig, tasks: int, corpus: dict[str, Any]
) -> None:
    from cluster_r1.agents.synthesis.panel import choose_specs
    from cluster_r1.graphs.synthesis.slicing import SliceStore
    from cluster_r1.synthesis.estimate import estimate_synthesis
    from cluster_r1.synthesis.sources import all_sources
    from cluster_r1.synthesis_display import show_estimate

    specs = choose_specs(named.get("", ""), {role: spec for role, spec in named.items() if role})
    store = SliceStore(all_sources(list(files), **corpus), settings)
    for note in store.notes:
        typer.echo(f"note: {note}", err=True)
    _tell_default(named)
    distinct = dict.fromkeys(map(str, specs.values()))
    show_estimate(estimate_synthesis(store, settings, tasks), ", ".join(distinct))


def _end(result: SynthesisResult) -> None:
    """With an error, if tasks are missing."""
    if result.complete:
        return
    reason = next(iter(result.rejected), "")
    again = ", the same question again (novelty: {tasks_a_family: 5})" if reason == "duplicate" else ""
    worst = f" Most were rejected as {reason.replace('_', ' ')}." if reason else ""
    raise ShortfallError(
        f"{result.accepted} of {result.asked} tasks after {result.attempts} attempts.{worst} "
        f"rejected.jsonl has every reason. Remedies: another model, more corpora{again}, lower bars "
        "(--config), more --attempts"
    )
