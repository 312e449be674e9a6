"""What SFT and GRPO share before they train: the run's folder, the model to start from, its rows."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from cluster_r1.errors import InputError
from cluster_r1.training.examples import Example, RlExample, SftExample, read_examples
from cluster_r1.training.recipe import GrpoRecipe, RunSettings, SftRecipe
from cluster_r1.training.row_filters import LengthReport, by_growing_size, within_length
from cluster_r1.training.sizes import weights_dtype

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

RECIPE, TRAINER = "recipe.yaml", "trainer"
THINK = ("<think>", "</think>")

AnyRow = TypeVar("AnyRow", bound=Example)
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Rows:
    """Training and held-out rows, and what the length filter did to the former."""

    train: Sequence[Example]
    validation: Sequence[RlExample]
    lengths: LengthReport


def claim_folder(recipe: RunSettings) -> None:
    """Make the run's folder and store the recipe, unless it holds the run of another.

    Raises:
        InputError: it does, or it cannot be made.
    """
    text = recipe_text(recipe)
    stored = recipe.out / RECIPE
    if stored.exists() and _lasting(stored.read_text(encoding="utf-8")) != _lasting(text):
        raise InputError(
            f"{recipe.out} holds the run of another recipe ({stored}). Choose another out=..., or delete it"
        )
    try:
        recipe.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{recipe.out} cannot be made: {error.strerror}. Choose another out=...") from error
    stored.write_text(text, encoding="utf-8")


def _lasting(recipe: str) -> dict[str, Any]:
    """What may not change while a run is continued: all but how long and with how many threads it may run."""
    values = yaml.safe_load(recipe)
    return {key: value for key, value in values.items() if key not in ("minutes", "threads")}


def recipe_text(recipe: RunSettings) -> str:
    """The resolved recipe as YAML."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def read_rows(recipe: SftRecipe | GrpoRecipe) -> tuple[Sequence[Example], Sequence[RlExample]]:
    """Training and held-out rows of a recipe.

    Raises:
        InputError: a file cannot be used.
    """
    kind: type[Example] = SftExample if isinstance(recipe, SftRecipe) else RlExample
    train = read_examples(recipe.data.train, kind)[: recipe.data.limit]
    validation = read_examples(recipe.data.validation, RlExample) if recipe.data.validation else []
    return train, validation


def choose_rows(
    recipe: SftRecipe | GrpoRecipe,
    train: Sequence[Example],
    validation: Sequence[RlExample],
    tokenizer: PreTrainedTokenizerBase,
) -> Rows:
    """The rows that fit, in the order of training.

    Raises:
        InputError: none fits.
    """
    kept, report = within_length(train, lambda row: len(row_tokens(row, tokenizer)), recipe.data.max_tokens)
    if not kept:
        raise InputError(
            f"{recipe.data.train}: no row has at most {recipe.data.max_tokens} tokens "
            f"(median {report.median}). Raise data.max_tokens, or draw smaller episodes"
        )
    if recipe.data.curriculum:
        kept = by_growing_size(kept, recipe.data.curriculum_stages, recipe.seed)
    return Rows(kept, validation, report)


def row_tokens(row: Example, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens of a row as the trainer will see them: the prompt, and the completion if it has one."""
    chat = [turn.model_dump() for turn in row.prompt]
    if isinstance(row, SftExample):
        chat += [turn.model_dump() for turn in row.completion]
    tokens = tokenizer.apply_chat_template(
        chat, add_generation_prompt=not isinstance(row, SftExample), tokenize=True, return_dict=True
    )
    return list(tokens["input_ids"])


def open_model(
    recipe: SftRecipe | GrpoRecipe, train: Sequence[Example], say: Say
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model to train, with its adapter if there is to be one, and its tokenizer.

    Raises:
        InputError: the base cannot be used: not found, without a chat template, or without `<think>` where
            that is required.
    """
    settings = recipe.model
    said = (turn.content for row in train for turn in (*row.prompt, *getattr(row, "completion", ())))
    model, tokenizer = open_base(recipe, said)
    if tokenizer.chat_template is None:
        raise InputError(
            f"{settings.base} has no chat template, so it cannot be asked in messages: "
            "name an instruction-tuned model"
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    _care_for_think_tokens(recipe, model, tokenizer, say)
    if settings.lora and not hasattr(model, "peft_config"):
        model = with_adapter(recipe, model)
    if recipe.gradient_checkpointing and hasattr(model, "enable_input_require_grads"):
        model.enable_input_require_grads()
    return model, tokenizer


def open_base(recipe: RunSettings, said: Iterable[str]) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model that a recipe starts from, an adapter of an earlier stage included, and its tokenizer.

    Args:
        recipe: names the base.
        said: what the tokenizer of `tiny` is made from.

    Raises:
        InputError: the base cannot be found.
        MissingDependencyError: something it needs is not installed.
    """
    import torch

    settings = recipe.model
    if settings.base == "tiny":
        from cluster_r1.training.tiny_model import tiny_model, tiny_tokenizer

        torch.manual_seed(recipe.seed)
        tiny = settings.tiny
        tokenizer = tiny_tokenizer(said, tiny.vocabulary)
        return tiny_model(tokenizer, tiny.hidden, tiny.layers, tiny.context_tokens), tokenizer
    from cluster_r1.agents.models.base_weights import base_folder, load_model, load_tokenizer

    dtype = getattr(torch, weights_dtype(settings))
    folder = base_folder(settings.base)
    if not (folder / "adapter_config.json").exists():
        return load_model(folder, dtype), load_tokenizer(folder)
    from peft import PeftConfig, PeftModel

    name = PeftConfig.from_pretrained(str(folder)).base_model_name_or_path
    base = load_model(base_folder(str(name)), dtype)
    adapted = PeftModel.from_pretrained(base, str(folder), is_trainable=True)
    tokenizer = load_tokenizer(folder)
    return (adapted if settings.lora else adapted.merge_and_unload()), tokenizer


def _care_for_think_tokens(
    recipe: SftRecipe | GrpoRecipe, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, say: Say
) -> None:
    vocabulary = tokenizer.get_vocab()
    if all(token in vocabulary for token in THINK):
        return
    match recipe.model.think_tokens:
        case "require":
            raise InputError(
                f"{recipe.model.base} has no <think> and </think> in its vocabulary. "
                "Set model.think_tokens=text (ordinary text) or add (new tokens)"
            )
        case "add":
            if recipe.model.lora:
                raise InputError(
                    "model.think_tokens=add needs trained embeddings, which adapters leave alone: "
                    "set model.lora=null, or think_tokens=text"
                )
            tokenizer.add_tokens(list(THINK))
            model.resize_token_embeddings(len(tokenizer))
        case "text":
            say(
                f"{recipe.model.base} has no <think> token: the tags are written as ordinary text. The agent "
                "reads them all the same; vLLM's reasoning parsers do not"
            )


def with_adapter(recipe: RunSettings, model: PreTrainedModel) -> Any:
    from peft import LoraConfig, get_peft_model

    lora = recipe.model.lora
    assert lora is not None
    adapted = get_peft_model(
        model,
        LoraConfig(
            r=lora.r,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules=lora.targets,
            task_type="CAUSAL_LM",
        ),
    )
    for config in adapted.peft_config.values():
        config.base_model_name_or_path = recipe.model.base
    return adapted


def trainer_arguments(recipe: RunSettings) -> dict[str, Any]:
    """What both stages pass to TRL."""
    import torch

    on_gpu = torch.cuda.is_available()
    return {
        "output_dir": str(recipe.out / TRAINER),
        "max_steps": recipe.steps or -1,
        "num_train_epochs": recipe.epochs,
        "per_device_train_batch_size": recipe.batch,
        "gradient_accumulation_steps": recipe.accumulate,
        "learning_rate": recipe.learning_rate,
        "lr_scheduler_type": recipe.schedule,
        "warmup_steps": recipe.warmup,
        "save_steps": recipe.save_every,
        "save_total_limit": 2,
        "logging_steps": recipe.log_every,
        "seed": recipe.seed,
        "data_seed": recipe.seed,
        "activation_checkpointing": recipe.gradient_checkpointing,
        "bf16": on_gpu and weights_dtype(recipe.model) == "bfloat16",
        "use_cpu": not on_gpu,
        "dataloader_pin_memory": on_gpu,
        "report_to": "none",
        "disable_tqdm": True,
    }


def trl_config(kind: type[Any], recipe: SftRecipe | GrpoRecipe, arguments: dict[str, Any]) -> Any:
    """TRL's configuration, with the recipe's own `trl` arguments last.

    Raises:
        InputError: TRL does not know one of them, or refuses a value.
    """
    known = set(kind.__dataclass_fields__)
    if unknown := [name for name in recipe.trl if name not in known]:
        raise InputError(f"trl.{unknown[0]} is no argument of {kind.__name__}")
    try:
        return kind(**{**arguments, **recipe.trl})
    except (TypeError, ValueError) as error:
        said = " ".join(str(error).split())[:300]
        raise InputError(f"{kind.__name__} refuses the recipe: {said}") from error


def last_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint that was written to its end; unfinished ones are removed."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    whole = [path for path in found if (path / "trainer_state.json").is_file()]
    for path in found:
        if path not in whole:
            shutil.rmtree(path)
    return str(whole[-1]) if whole else None


def prepare_process(recipe: RunSettings) -> None:
    """As many threads as the recipe says, and no progress bars amid the lines that say how it goes."""
    import datasets
    import torch
    import transformers

    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    # Of what the libraries will change about each other, which nobody who trains can do anything about.
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers|trl|peft")
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
