"""Trains the scorer: a small model that answers an instruction for one text, in states rather than words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from cluster_r1.agents.models.agglomerative import cluster_embeddings
from cluster_r1.checkpoints import ADAPTER, WORDS
from cluster_r1.errors import InputError
from cluster_r1.metrics import adjusted_mutual_info
from cluster_r1.training.adapter_gguf import write_adapter_gguf
from cluster_r1.training.answer_states import AnswerReader
from cluster_r1.training.callbacks import CurveCallback, Deadline
from cluster_r1.training.curves import VALIDATION, append_values, plot_curves
from cluster_r1.training.finish import peak_gb, running, training_seconds
from cluster_r1.training.lessons import Lesson, draw_lessons
from cluster_r1.training.recipe import ScorerRecipe
from cluster_r1.training.scenes import Scene, read_scenes
from cluster_r1.training.scorer_losses import scorer_loss
from cluster_r1.training.stage import (
    TRAINER,
    Say,
    claim_folder,
    last_checkpoint,
    open_base,
    prepare_process,
    trainer_arguments,
    with_adapter,
)

if TYPE_CHECKING:
    from torch import Tensor

_READ_AT_ONCE = 12  # held-out texts
_WORD = re.compile(r"(?<![^\W\d_])[a-z]{3,}(?![^\W\d_])")  # in small letters throughout: no names


@dataclass(frozen=True, slots=True)
class ScorerOutcome:
    """What came of the training.

    Attributes:
        folder: adapter (or weights), tokenizer and curves; with adapters also
            `adapter.gguf` and `words.txt`, the words that it may answer with.
        steps, seconds, peak_gb: optimizer steps in all; time and memory of this process.
        held_out: agreement with the labels of held-out scenes after the last step, by name.
    """

    folder: Path
    steps: int
    seconds: float
    peak_gb: float
    held_out: dict[str, float]


def held_out_agreement(reader: AnswerReader, scenes: Sequence[Scene]) -> dict[str, float]:
    """Mean AMI over the attributes of scenes: `ami_given` their labels, `ami_grouped` only their number."""
    import torch

    given, grouped = [], []
    for scene in scenes:
        texts = [text.text for text in scene.texts]
        questions = [attribute.wordings[0] for attribute in scene.attributes]
        with torch.no_grad():
            states = torch.cat(
                [
                    reader.states(texts[start : start + _READ_AT_ONCE], questions)
                    for start in range(0, len(texts), _READ_AT_ONCE)
                ]
            )
        for number, attribute in enumerate(scene.attributes):
            keys = list(attribute.labels)
            gold = [keys.index(text.labels[number]) for text in scene.texts]
            scores = states[:, number] @ reader.label_vectors(keys).T
            given.append(adjusted_mutual_info(gold, (scores - scores.mean(0)).argmax(1).tolist()))
            k = len(set(gold))
            found = cluster_embeddings(states[:, number].cpu().numpy(), (k, k))
            grouped.append(adjusted_mutual_info(gold, found.tolist()))
    return {"ami_given": fmean(given), "ami_grouped": fmean(grouped)}


def train_scorer(recipe: ScorerRecipe, say: Say = print) -> ScorerOutcome:
    """Train to the end, or on from where a killed run was.

    Raises:
        InputError: recipe, scenes or base cannot be used, or memory does not suffice.
    """
    train, held_out = choose_scenes(recipe)
    claim_folder(recipe)
    prepare_process(recipe)
    with running(recipe):
        return _train(recipe, train, held_out, say)


def choose_scenes(recipe: ScorerRecipe) -> tuple[list[Scene], list[Scene]]:
    """The scenes to train on, and those that are held out.

    Raises:
        InputError: a scene cannot be used, one to be held out is not there, or none is left.
    """
    scenes = read_scenes(recipe.scenes, usual=recipe.usual)
    names = {scene.name for scene in scenes}
    if unknown := [name for name in recipe.hold_out if name not in names]:
        raise InputError(f"hold_out: there is no scene {unknown[0]!r}. There are: {', '.join(sorted(names))}")
    train = [scene for scene in scenes if scene.name not in recipe.hold_out]
    if not train:
        raise InputError("hold_out names every scene: leave some to train on")
    return train, [scene for scene in scenes if scene.name in recipe.hold_out]


def _train(
    recipe: ScorerRecipe, train: Sequence[Scene], held_out: Sequence[Scene], say: Say
) -> ScorerOutcome:
    model, tokenizer = open_base(recipe, (text.text for scene in train for text in scene.texts))
    if recipe.model.lora and not hasattr(model, "peft_config"):
        model = with_adapter(recipe, model)
    model.set_attn_implementation("eager")  # on a CPU a tenth faster, with a mask of our own, than PyTorch's
    reader = AnswerReader(model, tokenizer)
    lessons = draw_lessons(train, recipe)
    say(f"{len(train)} scenes, {sum(len(s.texts) for s in train)} texts, {len(lessons)} lessons")
    watch = _HeldOut(recipe, reader, held_out, say)
    arguments = trainer_arguments(recipe) | {
        "per_device_train_batch_size": 1,  # one lesson
        "num_train_epochs": 1,
        "train_sampling_strategy": "sequential",
        "remove_unused_columns": False,
    }
    trainer = _LessonTrainer(
        reader,
        recipe,
        model=model,
        args=TrainingArguments(**arguments),
        train_dataset=lessons,
        data_collator=_only,
        callbacks=[CurveCallback(recipe.out, f"Scorer from {recipe.model.base}", say), watch],
    )
    trainer.remove_callback(PrinterCallback)
    if recipe.minutes:
        trainer.add_callback(Deadline(recipe.minutes, say))
    trainer.train(resume_from_checkpoint=last_checkpoint(recipe.out / TRAINER))
    trainer.save_model(str(recipe.out))
    (recipe.out / "training_args.bin").unlink(missing_ok=True)  # a pickle that nobody reads
    tokenizer.save_pretrained(str(recipe.out))
    if recipe.model.lora:
        write_adapter_gguf(recipe.out, recipe.out / ADAPTER)
        (recipe.out / WORDS).write_text("\n".join(answer_words(train)) + "\n", encoding="utf-8")
    plot_curves(recipe.out, f"Scorer from {recipe.model.base}")
    return ScorerOutcome(
        recipe.out, trainer.state.global_step, training_seconds(trainer), peak_gb(), watch.last
    )


def answer_words(scenes: Sequence[Scene]) -> list[str]:
    """The words of scenes: what the scorer may answer with, since pieces of words are tokens as well."""
    said = [text.text for scene in scenes for text in scene.texts]
    for attribute in (attribute for scene in scenes for attribute in scene.attributes):
        said += attribute.wordings
        said += (phrasing for listed in attribute.labels.values() for phrasing in listed)
    return sorted({word for text in said for word in _WORD.findall(text)})


def _only(lessons: list[Lesson]) -> dict[str, Lesson]:
    (lesson,) = lessons
    return {"lesson": lesson}


class _LessonTrainer(Trainer):
    """The trainer of transformers with the scorer's loss; a batch is a lesson."""

    def __init__(self, reader: AnswerReader, recipe: ScorerRecipe, **settings: Any) -> None:
        super().__init__(**settings)
        self._reader = reader
        self._weights = recipe.losses
        self._parts: list[dict[str, float]] = []

    def compute_loss(self, model: Any, inputs: dict[str, Lesson], *_: Any, **__: Any) -> Tensor:
        """The loss of a lesson."""
        lesson = inputs["lesson"]
        states = self._reader.states(lesson.texts, lesson.questions)
        loss, parts = scorer_loss(self._reader, states, lesson.labels, lesson.gold, self._weights)
        self._parts.append(parts)
        return loss

    def log(self, logs: dict[str, float], *more: Any, **named: Any) -> None:
        """Adds the parts of the loss since the last time."""
        if "loss" in logs and self._parts:
            logs |= {name: fmean(part[name] for part in self._parts) for name in self._parts[0]}
            self._parts.clear()
        super().log(logs, *more, **named)


class _HeldOut(TrainerCallback):
    """Looks at held-out scenes before, during and after the training."""

    def __init__(self, recipe: ScorerRecipe, reader: AnswerReader, scenes: Sequence[Scene], say: Say) -> None:
        self._recipe = recipe
        self._reader = reader
        self._scenes = scenes
        self._say = say
        self._looked: int | None = None
        self.last: dict[str, float] = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Look before the first step; a resumed run has done so."""
        if state.global_step == 0:
            self._look(state.global_step)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Look every so many steps."""
        if self._recipe.evaluate_every and state.global_step % self._recipe.evaluate_every == 0:
            self._look(state.global_step)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Look after the last step."""
        if self._looked != state.global_step:
            self._look(state.global_step)

    def _look(self, step: int) -> None:
        if not self._scenes:
            return
        self._looked = step
        self.last = held_out_agreement(self._reader, self._scenes)
        append_values(self._recipe.out, step, {VALIDATION + name: v for name, v in self.last.items()})
        shown = ", ".join(
            f"{name.replace('_', ' ').replace('ami', 'AMI')} {v:.2f}" for name, v in self.last.items()
        )
        self._say(f"step {step}: held out: {shown}")
