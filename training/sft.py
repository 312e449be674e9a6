"""Supervised fine-tuning on reasoning traces, with TRL's SFTTrainer."""

from __future__ import annotations

from collections.abc import Sequence

from cluster_r1.training.callbacks import CurveCallback, Deadline, HeldOutCallback
from cluster_r1.training.examples import Example, RlExample
from cluster_r1.training.finish import Outcome, finish, running
from cluster_r1.training.recipe import SftRecipe
from cluster_r1.training.stage import (
    TRAINER,
    Say,
    choose_rows,
    claim_folder,
    last_checkpoint,
    open_model,
    prepare_process,
    read_rows,
    trainer_arguments,
    trl_config,
)


def train_sft(recipe: SftRecipe, say: Say = print) -> Outcome:
    """Train to the end, or on from where a killed run was.

    Loss is taken on the completion only: reasoning and answer.

    Raises:
        InputError: recipe, data or base cannot be used, or memory does not suffice.
    """
    train, validation = read_rows(recipe)
    claim_folder(recipe)
    prepare_process(recipe)
    with running(recipe):
        return _train(recipe, train, validation, say)


def _train(recipe: SftRecipe, train: Sequence[Example], validation: Sequence[RlExample], say: Say) -> Outcome:
    model, tokenizer = open_model(recipe, train, say)
    rows = choose_rows(recipe, train, validation, tokenizer)
    say(str(rows.lengths))

    from datasets import Dataset
    from transformers import PrinterCallback
    from trl import SFTConfig, SFTTrainer

    arguments = trainer_arguments(recipe) | {
        "max_length": None,  # longer rows are left out already
        "packing": False,  # wants FlashAttention, and rows are long anyway
        "train_sampling_strategy": "sequential" if recipe.data.curriculum else "random",
    }
    held_out = HeldOutCallback(recipe.out, rows.validation, tokenizer, recipe.evaluation, say=say)
    trainer = SFTTrainer(
        model=model,
        args=trl_config(SFTConfig, recipe, arguments),
        train_dataset=Dataset.from_list(
            [row.model_dump(mode="json", include={"prompt", "completion"}) for row in rows.train]
        ),
        processing_class=tokenizer,
        callbacks=[CurveCallback(recipe.out, f"SFT of {recipe.model.base}", say), held_out],
    )
    trainer.remove_callback(PrinterCallback)
    if recipe.minutes:
        trainer.add_callback(Deadline(recipe.minutes, say))
    trainer.train(resume_from_checkpoint=last_checkpoint(recipe.out / TRAINER))
    return finish(recipe, trainer, tokenizer, rows, held_out)
