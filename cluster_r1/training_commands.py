"""The commands of whoever trains and measures: data, train, checkpoint, serve."""

from __future__ import annotations

import os
import shlex
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cluster_r1.errors import InputError, MissingDependencyError

if TYPE_CHECKING:
    from cluster_r1.training.finish import Outcome
    from cluster_r1.training.recipe import GrpoRecipe, SftRecipe

_INSTALL = 'pip install "cluster-r1[train]"'
_RECIPE = typer.Argument(help="A YAML file, or a shipped recipe such as tiny/sft.")
_OVERRIDES = typer.Argument(help="key=value, e.g. steps=100 model.lora.r=16")
_DRY_RUN = typer.Option("--dry-run", help="Print sizes, memory and the resolved recipe, and stop.")

data_app = typer.Typer(help="Make and check training data.", no_args_is_help=True)
train_app = typer.Typer(help="Train a reasoning model.", no_args_is_help=True)
checkpoint_app = typer.Typer(help="Write a checkpoint in other forms.", no_args_is_help=True)


@data_app.command("episodes")
def episodes(
    files: Annotated[list[Path], typer.Argument(help="Labelled JSONL files: id, text, labels by attribute.")],
    out: Annotated[Path, typer.Option(help="Folder for train/ and validation/.")],
    train: Annotated[int, typer.Option(min=1, help="Episodes to train on.")] = 1000,
    validation: Annotated[int, typer.Option(min=1, help="Episodes of held-out instructions.")] = 64,
    texts: Annotated[str, typer.Option(help="Fewest and most texts of an episode.")] = "8..32",
    k: Annotated[str, typer.Option(help="Fewest and most clusters.")] = "2..8",
    hold_out: Annotated[
        list[str] | None, typer.Option(help="Corpus, or corpus/attribute; repeat.  [default: a fifth]")
    ] = None,
    context_tokens: Annotated[int, typer.Option(min=512, help="Shorten long texts for this context.")] = 8192,
    seed: Annotated[int, typer.Option(help="Equal seeds draw equal episodes.")] = 0,
) -> None:
    """Draw clustering tasks from labelled FILES, with reasoning written from the labels."""
    from cluster_r1.training.episode_files import write_episodes
    from cluster_r1.training.episodes import EpisodeSettings
    from cluster_r1.training.labelled import read_labelled

    split = write_episodes(
        [read_labelled(file) for file in files],
        out,
        train=train,
        validation=validation,
        settings=EpisodeSettings(texts=_range("--texts", texts, 3), k=_range("--k", k, 2), seed=seed),
        hold_out=hold_out or [],
        context_tokens=context_tokens,
    )
    typer.echo(f"{train} episodes to train on, of {len(split.train)} instruction families")
    typer.echo(f"{validation} held out: {', '.join(split.held_out)}")
    typer.echo(f"files: {out / 'train'}, {out / 'validation'}; what is in them: {out / 'card.md'}")


@data_app.command("rows")
def rows(
    files: Annotated[list[Path], typer.Argument(help="Task files (tasks.jsonl).")],
    out: Annotated[Path, typer.Option(help="Folder for sft.jsonl and rl.jsonl.")],
    context_tokens: Annotated[int, typer.Option(min=512, help="Shorten long texts for this context.")] = 8192,
) -> None:
    """Make training rows of task FILES, one for each wording, with reasoning written from the labels."""
    from cluster_r1.task import read_tasks
    from cluster_r1.training.episode_files import write_rows_of_tasks

    tasks = [task for file in files for task in read_tasks(file)]
    count = write_rows_of_tasks(tasks, out, context_tokens)
    typer.echo(f"{count} rows of {len(tasks)} tasks: {out / 'sft.jsonl'}, {out / 'rl.jsonl'}")


@data_app.command("toy")
def toy(out: Annotated[Path, typer.Argument(help="The file to write.")]) -> None:
    """Write a labelled file of made-up phrases, for first runs with the tiny model."""
    from cluster_r1.json_lines import write_json_lines
    from cluster_r1.training.toy_set import toy_set

    out.parent.mkdir(parents=True, exist_ok=True)
    write_json_lines(out, toy_set().rows)
    typer.echo(f"144 labelled phrases: {out}")


@data_app.command("check")
def check(
    files: Annotated[list[Path], typer.Argument(help="sft.jsonl, rl.jsonl or tasks.jsonl files.")],
) -> None:
    """Check training and task FILES: form, prompt templates, references."""
    from cluster_r1.training.data_check import check_file

    for file in files:
        typer.echo(f"{file}: {check_file(file)}")


@data_app.command("difficulty")
def difficulty(
    file: Annotated[Path, typer.Argument(help="rl.jsonl")],
    model: Annotated[str, typer.Option(help="Who tries: the checkpoint that reinforcement starts from.")],
    out: Annotated[Path, typer.Option(help="The rows that are kept.")],
    rollouts: Annotated[int, typer.Option(min=2, help="Answers to each row.")] = 8,
    least_std: Annotated[float, typer.Option(min=0, help="Least spread of a row's rewards.")] = 0.05,
) -> None:
    """Keep the RL rows of a FILE whose answers differ in reward: the others teach nothing."""
    from cluster_r1.agents.models.cache import ResponseCache, default_cache_path
    from cluster_r1.json_lines import write_json_lines
    from cluster_r1.training.difficulty import rollout_rewards
    from cluster_r1.training.examples import RlExample, read_examples
    from cluster_r1.training.row_filters import within_difficulty

    rows = read_examples(file, RlExample)
    rewards = rollout_rewards(rows, model, rollouts=rollouts, cache=ResponseCache(default_cache_path()))
    kept = within_difficulty(rows, rewards, least_std)
    if not kept:
        raise InputError(
            f"no row of {file} is of use to {model}: its answers to each score alike. "
            "Train it further with sft, or draw easier episodes"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json_lines(out, kept)
    typer.echo(f"{len(kept)} of {len(rows)} rows kept: {out}")


@train_app.command("sft")
def sft(
    recipe: Annotated[str, _RECIPE],
    overrides: Annotated[list[str] | None, _OVERRIDES] = None,
    dry_run: Annotated[bool, _DRY_RUN] = False,
) -> None:
    """Fine-tune on reasoning traces (sft.jsonl)."""
    _require_packages()
    from cluster_r1.training.recipe import SftRecipe, load_recipe

    loaded = load_recipe(recipe, overrides or [], stage="sft")
    assert isinstance(loaded, SftRecipe)
    if dry_run:
        _show_sizes(loaded)
        return
    from cluster_r1.training.sft import train_sft

    _show_outcome(train_sft(loaded, _say))


@train_app.command("grpo")
def grpo(
    recipe: Annotated[str, _RECIPE],
    overrides: Annotated[list[str] | None, _OVERRIDES] = None,
    dry_run: Annotated[bool, _DRY_RUN] = False,
) -> None:
    """Reinforce with the clustering reward (rl.jsonl)."""
    _require_packages()
    from cluster_r1.training.recipe import GrpoRecipe, load_recipe

    loaded = load_recipe(recipe, overrides or [], stage="grpo")
    assert isinstance(loaded, GrpoRecipe)
    if dry_run:
        _show_sizes(loaded)
        return
    from cluster_r1.training.grpo import train_grpo

    _show_outcome(train_grpo(loaded, _say))


@train_app.command("scorer")
def scorer(
    recipe: Annotated[str, _RECIPE],
    overrides: Annotated[list[str] | None, _OVERRIDES] = None,
    dry_run: Annotated[bool, _DRY_RUN] = False,
) -> None:
    """Teach a small model to answer an instruction for one text with a label (scenes)."""
    _require_packages()
    from cluster_r1.training.recipe import ScorerRecipe, load_recipe
    from cluster_r1.training.stage import recipe_text

    loaded = load_recipe(recipe, overrides or [], stage="scorer")
    assert isinstance(loaded, ScorerRecipe)
    from cluster_r1.training.scorer import choose_scenes, train_scorer

    if dry_run:
        train, held_out = choose_scenes(loaded)
        typer.echo(f"{len(train)} scenes to train on, {len(held_out)} held out\n\n{recipe_text(loaded)}")
        return
    outcome = train_scorer(loaded, _say)
    typer.echo(f"{outcome.steps} steps in {outcome.seconds:.0f} s, {outcome.peak_gb:.1f} GB at most")
    typer.echo(f"in {outcome.folder}")


@checkpoint_app.command("merge")
def merge(folder: Path, target: Path) -> None:
    """Write an adapter FOLDER and its base as one model into TARGET."""
    _require_packages()
    from cluster_r1.training.export import merge as merge_checkpoint

    typer.echo(f"merged: {merge_checkpoint(folder, target)}")


@checkpoint_app.command("gguf")
def gguf(
    folder: Path,
    file: Path,
    weights: Annotated[str, typer.Option("--type", help="f32, f16, bf16 or q8_0.")] = "q8_0",
) -> None:
    """Write a checkpoint FOLDER as a GGUF FILE for `--model local:FILE`."""
    _require_packages()
    from cluster_r1.training.export import to_gguf

    written = to_gguf(folder, file, weights)
    typer.echo(f"{written} ({written.stat().st_size / 1e6:.0f} MB): use it as --model local:{written}")


def serve(
    checkpoint: Annotated[Path, typer.Argument(help="A folder written by `cluster-r1 train`.")],
    port: Annotated[int, typer.Option(help="Where vLLM listens.")] = 8000,
    only_print: Annotated[bool, typer.Option("--print", help="Print the command, do not run it.")] = False,
) -> None:
    """Serve a CHECKPOINT with vLLM."""
    from cluster_r1.training.export import serve_command, served_name

    command = serve_command(checkpoint, port)
    if only_print:
        typer.echo(shlex.join(command))
        typer.echo(f"# then: --model vllm:{served_name(checkpoint)}@http://localhost:{port}", err=True)
        return
    program = shutil.which("vllm")
    if program is None:
        raise MissingDependencyError('serving needs vLLM: pip install "cluster-r1[serve]"')
    os.execv(program, command)


def _range(option: str, text: str, least: int) -> tuple[int, int]:
    low, dots, high = text.partition("..")
    if not (low.isdigit() and (high.isdigit() or not dots)):
        raise InputError(f"{option} is {text!r}: give a range such as 8..32")
    found = int(low), int(high or low)
    if not least <= found[0] <= found[1]:
        raise InputError(f"{option} is {text!r}: at least {least}, and the lower bound first")
    return found


def _require_packages() -> None:
    needed = ("torch", "transformers", "trl", "peft", "datasets", "accelerate", "matplotlib")
    if missing := [package for package in needed if find_spec(package) is None]:
        raise MissingDependencyError(f"training needs {', '.join(missing)}: {_INSTALL}")


def _show_sizes(recipe: SftRecipe | GrpoRecipe) -> None:
    from cluster_r1.training.sizes import estimate
    from cluster_r1.training.stage import read_rows, recipe_text

    train, validation = read_rows(recipe)
    sizes = estimate(recipe)
    typer.echo(
        f"{sizes.parameters / 1e6:,.1f} M parameters, {sizes.trained / 1e6:,.2f} M of them trained\n"
        f"{len(train)} rows, {len(validation)} held out; at most {sizes.tokens_a_step:,} tokens a step\n"
        f"memory: about {sizes.total_gb:.1f} GB a device (weights {sizes.weights_gb:.1f}, gradients and "
        f"optimizer {sizes.training_gb:.1f}, activations {sizes.activations_gb:.1f}, "
        f"logits {sizes.logits_gb:.1f})"
        f"{', vLLM and its cache aside' if getattr(recipe, 'vllm', None) else ''}\n\n{recipe_text(recipe)}"
    )


def _show_outcome(outcome: Outcome) -> None:
    typer.echo(f"{outcome.steps} steps in {outcome.seconds:.0f} s, {outcome.peak_gb:.1f} GB at most")
    if outcome.before and outcome.after:
        typer.echo(
            f"held out: reward {outcome.before.reward:.2f} → {outcome.after.reward:.2f}, exact covers "
            f"{outcome.before.valid:.0%} → {outcome.after.valid:.0%}, AMI {outcome.before.ami:.2f} → "
            f"{outcome.after.ami:.2f}"
        )
    typer.echo(f"use it as --model checkpoint:{outcome.folder}")


def _say(line: str) -> None:
    typer.echo(line, err=True)
