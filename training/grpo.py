"""Reinforcement learning with the clustering reward, with TRL's GRPOTrainer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from cluster_r1.training.callbacks import CurveCallback, Deadline, HeldOutCallback, SingletonGuard
from cluster_r1.training.evaluation import means
from cluster_r1.training.examples import Example, RlExample
from cluster_r1.training.finish import Outcome, finish, running
from cluster_r1.training.recipe import GrpoRecipe
from cluster_r1.training.rewards import RewardSettings, judge
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


def train_grpo(recipe: GrpoRecipe, say: Say = print) -> Outcome:
    """Train to the end, or on from where a killed run was, or until the guard stops it.

    Raises:
        InputError: recipe, data or base cannot be used, or memory does not suffice.
    """
    train, validation = read_rows(recipe)
    claim_folder(recipe)
    prepare_process(recipe)
    with running(recipe):
        return _train(recipe, train, validation, say)


def _train(
    recipe: GrpoRecipe, train: Sequence[Example], validation: Sequence[RlExample], say: Say
) -> Outcome:
    model, tokenizer = open_model(recipe, train, say)
    rows = choose_rows(recipe, train, validation, tokenizer)
    say(str(rows.lengths))

    from datasets import Dataset
    from transformers import PrinterCallback
    from trl import GRPOConfig, GRPOTrainer

    held_out = HeldOutCallback(
        recipe.out, rows.validation, tokenizer, recipe.evaluation, recipe.reward, say=say
    )
    guard = SingletonGuard(recipe.guard, say)
    trainer = GRPOTrainer(
        model=model,
        args=trl_config(GRPOConfig, recipe, trainer_arguments(recipe) | _grpo_arguments(recipe)),
        reward_funcs=[reward_function(recipe.reward)],
        train_dataset=Dataset.from_list(
            [row.model_dump(mode="json", include={"prompt", "reference"}) for row in rows.train]
        ),
        processing_class=tokenizer,
        callbacks=[CurveCallback(recipe.out, f"GRPO of {recipe.model.base}", say), held_out, guard],
    )
    trainer.remove_callback(PrinterCallback)
    if recipe.minutes:
        trainer.add_callback(Deadline(recipe.minutes, say))
    trainer.train(resume_from_checkpoint=last_checkpoint(recipe.out / TRAINER))
    return finish(recipe, trainer, tokenizer, rows, held_out, stopped_by_guard=guard.tripped)


def reward_function(settings: RewardSettings) -> Callable[..., list[float]]:
    """The clustering reward in the form that TRL calls; logs the measures behind it."""

    def clustering_reward(
        completions: Sequence[Sequence[dict[str, str]]],
        reference: Sequence[Sequence[str]],
        completion_ids: Sequence[Sequence[int]],
        log_metric: Callable[[str, float], None],
        **_: Any,
    ) -> list[float]:
        lengths = [len(ids) for ids in completion_ids]
        judgements = [
            judge(turns[-1]["content"], labels, settings, tokens=length)
            for turns, labels, length in zip(completions, reference, lengths, strict=True)
        ]
        for name, value in means(judgements, lengths).named().items():
            if name not in ("reward", "length"):  # which TRL logs itself
                log_metric(name, value)
        return [judgement.reward for judgement in judgements]

    return clustering_reward


def _grpo_arguments(recipe: GrpoRecipe) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "num_generations": recipe.group,
        "max_completion_length": recipe.max_completion,
        "temperature": recipe.temperature,
        "loss_type": recipe.loss,
        "scale_rewards": recipe.scale_rewards,
        "epsilon": recipe.epsilon[0],
        "epsilon_high": recipe.epsilon[1],
        "beta": recipe.beta,
        "mask_truncated_completions": recipe.mask_truncated,
        "shuffle_dataset": not recipe.data.curriculum,
    }
    vllm = recipe.vllm
    if vllm is not None:
        arguments |= {
            "use_vllm": True,
            "vllm_mode": vllm.mode,
            "vllm_gpu_memory_utilization": vllm.memory,
            "vllm_enable_sleep_mode": vllm.sleep,
            "vllm_tensor_parallel_size": vllm.tensor_parallel,
            "vllm_server_host": vllm.host,
            "vllm_server_port": vllm.port,
            "vllm_max_model_length": recipe.data.max_tokens + recipe.max_completion,
        }
    return arguments
