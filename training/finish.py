"""How a training stage ends: memory that ran out is explained, or the checkpoint saved with its card."""

from __future__ import annotations

import hashlib
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster_r1.agents.models.checkpoint_folder import CheckpointInfo, write_info
from cluster_r1.errors import InputError
from cluster_r1.training.callbacks import HeldOutCallback
from cluster_r1.training.card import write_card
from cluster_r1.training.curves import plot_curves
from cluster_r1.training.evaluation import Means
from cluster_r1.training.recipe import GrpoRecipe, RunSettings, SftRecipe
from cluster_r1.training.stage import Rows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_ROLES = ("proposer", "assigner")  # what the rows teach, and its near kin that fills gaps


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a stage.

    Attributes:
        folder: the checkpoint, as `checkpoint:<folder>` takes it.
        steps: optimizer steps done in all.
        seconds: of training in this process.
        peak_gb: most memory held, in gigabytes: of the GPU if there is one, else of the process.
        before: held-out means before the first step; None without evaluation, or if the run was resumed.
        after: the same after the last.
        stopped_by_guard: whether singletons rose while V rose.
    """

    folder: Path
    steps: int
    seconds: float
    peak_gb: float
    before: Means | None
    after: Means | None
    stopped_by_guard: bool = False


@contextmanager
def running(recipe: RunSettings) -> Iterator[None]:
    """Explains memory that runs out.

    Raises:
        InputError: it did.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
        shorter = "max_completion" if isinstance(recipe, GrpoRecipe) else "data.max_tokens"
        of_length = f" or {shorter}" if isinstance(recipe, SftRecipe | GrpoRecipe) else ""
        raise InputError(
            f"memory ran out: lower batch (now {recipe.batch}; raise accumulate instead){of_length}, set "
            "gradient_checkpointing=true, or train adapters (model.lora); with another out=..."
        ) from error


def finish(
    recipe: SftRecipe | GrpoRecipe,
    trainer: Any,
    tokenizer: PreTrainedTokenizerBase,
    rows: Rows,
    held_out: HeldOutCallback,
    stopped_by_guard: bool = False,
) -> Outcome:
    """Save model, tokenizer, what it was trained for, curves and card."""
    trainer.save_model(str(recipe.out))
    (recipe.out / "training_args.bin").unlink(missing_ok=True)  # a pickle that nobody reads
    outcome = Outcome(
        folder=recipe.out,
        steps=trainer.state.global_step,
        seconds=training_seconds(trainer),
        peak_gb=peak_gb(),
        before=held_out.first,
        after=held_out.last,
        stopped_by_guard=stopped_by_guard,
    )
    if trainer.is_world_process_zero():
        tokenizer.save_pretrained(str(recipe.out))
        plot_curves(recipe.out, f"{recipe.stage.upper()} of {recipe.model.base}")
        write_info(recipe.out, _info(recipe, rows, trainer.model))
        write_card(recipe, rows, outcome)
    return outcome


def _is_out_of_memory(error: Exception) -> bool:
    """PyTorch says so by a class of its own on GPUs, and by words on the CPU."""
    import torch

    said = str(error)
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in said


def _info(recipe: SftRecipe | GrpoRecipe, rows: Rows, model: Any) -> CheckpointInfo:
    config = getattr(model, "config", None)
    longest = getattr(config, "max_position_embeddings", recipe.data.max_tokens)
    return CheckpointInfo(
        base=_adapter_base(model),
        stage=recipe.stage,
        roles=_ROLES,
        context_tokens=int(longest),
        templates={row.template: row.template_sha256 for row in rows.train},
        weights_sha256=_hash_weights(recipe.out),
    )


def _adapter_base(model: Any) -> str | None:
    """What an adapter belongs to; None where all weights were saved."""
    configs = getattr(model, "peft_config", None)
    return next(iter(configs.values())).base_model_name_or_path if configs else None


def _hash_weights(folder: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def training_seconds(trainer: Any) -> float:
    return next(
        (entry["train_runtime"] for entry in reversed(trainer.state.log_history) if "train_runtime" in entry),
        0.0,
    )


def peak_gb() -> float:
    import torch

    if torch.cuda.is_available():
        return float(torch.cuda.max_memory_allocated()) / 1e9
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kibibytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
