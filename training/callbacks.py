"""What happens while a model trains: curves are written, held-out tasks asked, gaming of V stopped."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from cluster_r1.json_lines import append_json_lines
from cluster_r1.training.curves import VALIDATION, append_values, curve_values, forget_after, plot_curves
from cluster_r1.training.evaluation import Means, answer_rows, means
from cluster_r1.training.examples import Example
from cluster_r1.training.recipe import EvaluationSettings, GuardSettings
from cluster_r1.training.rewards import DEFAULT, RewardSettings

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SAMPLES = "samples.jsonl"

_REPORTS = 10  # lines about its progress that a run says
_REPORTED = ("loss", "reward", "valid", "ami", "length")


class CurveCallback(TrainerCallback):
    """Writes what the trainer logs into the curves, draws them at each checkpoint, and says how far it is."""

    def __init__(self, folder: Path, title: str, say: Callable[[str], None] = print) -> None:
        self._folder = folder
        self._title = title
        self._say = say

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Forget what a resumed run takes again."""
        if state.is_world_process_zero:
            forget_after(self._folder, state.global_step)
            forget_after(self._folder, state.global_step, SAMPLES)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Take over what belongs into the curves."""
        values = curve_values(logs or {})
        if not values or not state.is_world_process_zero:
            return
        append_values(self._folder, state.global_step, values)
        if state.global_step % max(1, state.max_steps // _REPORTS) == 0:
            shown = ", ".join(f"{name} {values[name]:.3g}" for name in _REPORTED if name in values)
            self._say(f"step {state.global_step} of {state.max_steps}: {shown}")

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Draw what there is so far."""
        if state.is_world_process_zero:
            plot_curves(self._folder, self._title)


class HeldOutCallback(TrainerCallback):
    """Asks held-out tasks before, during and after the training; keeps means and answers."""

    def __init__(
        self,
        folder: Path,
        rows: Sequence[Example],
        tokenizer: PreTrainedTokenizerBase,
        settings: EvaluationSettings,
        reward: RewardSettings = DEFAULT,
        say: Callable[[str], None] = print,
    ) -> None:
        self._folder = folder
        self._rows = rows[: settings.prompts]
        self._tokenizer = tokenizer
        self._settings = settings
        self._reward = reward
        self._say = say
        self._asked: int | None = None
        self.first: Means | None = None
        self.last: Means | None = None

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: PreTrainedModel | None = None,
        **_: Any,
    ) -> None:
        """Ask before the first step; a resumed run has done so."""
        if state.global_step == 0:
            self.first = self._ask(model, state)

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: PreTrainedModel | None = None,
        **_: Any,
    ) -> None:
        """Ask every so many steps."""
        if self._settings.every and state.global_step % self._settings.every == 0:
            self._ask(model, state)

    def on_train_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: PreTrainedModel | None = None,
        **_: Any,
    ) -> None:
        """Ask after the last step."""
        if self._asked != state.global_step:
            self._ask(model, state)

    def _ask(self, model: PreTrainedModel | None, state: TrainerState) -> Means | None:
        self._asked = state.global_step
        if model is None or not self._rows:
            return None
        answered = answer_rows(
            model,
            self._tokenizer,
            self._rows,
            batch=self._settings.batch,
            max_new_tokens=self._settings.max_new_tokens,
            reward=self._reward,
        )
        self.last = means([answer.judgement for answer in answered], [answer.tokens for answer in answered])
        if state.is_world_process_zero:
            append_values(self._folder, state.global_step, self.last.named(VALIDATION))
            append_json_lines(
                self._folder / SAMPLES, [answer.sample(state.global_step) for answer in answered]
            )
            self._say(
                f"step {state.global_step}: held out: reward {self.last.reward:.2f}, exact covers "
                f"{self.last.valid:.0%}, AMI {self.last.ami:.2f}, {self.last.length:.0f} tokens an answer"
            )
        return self.last


class Deadline(TrainerCallback):
    """Ends the training in good order when its time is up: on a machine that is lent by the hour."""

    def __init__(self, minutes: float, say: Callable[[str], None] = print) -> None:
        self._end = time.monotonic() + 60 * minutes
        self._say = say

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Stop if it is."""
        if time.monotonic() > self._end and not control.should_training_stop:
            control.should_training_stop = control.should_save = True
            self._say(f"time is up at step {state.global_step} of {state.max_steps}")


class SingletonGuard(TrainerCallback):
    """Stops when singletons rise while V rises: the policy is hiding its doubt, which V-measure pays for."""

    def __init__(self, settings: GuardSettings, say: Callable[[str], None] = print) -> None:
        self._settings = settings
        self._say = say
        self._seen: list[tuple[float, float]] = []
        self.tripped = False

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Compare the last steps with the first."""
        values = curve_values(logs or {})
        if "singleton_rate" not in values or "v" not in values:
            return
        self._seen.append((values["singleton_rate"], values["v"]))
        window = self._settings.window
        if len(self._seen) < 2 * window:
            return
        began, now = self._means(self._seen[:window]), self._means(self._seen[-window:])
        if now[0] - began[0] >= self._settings.rise and now[1] > began[1]:
            self.tripped = True
            control.should_training_stop = control.should_save = True
            self._say(
                f"stopped at step {state.global_step}: singletons rose from {began[0]:.0%} to {now[0]:.0%} "
                f"while V rose from {began[1]:.2f} to {now[1]:.2f}: the reward is being gamed. "
                "Use reward.measure=ami"
            )

    @staticmethod
    def _means(seen: Sequence[tuple[float, float]]) -> tuple[float, float]:
        return statistics.fmean(s for s, _ in seen), statistics.fmean(v for _, v in seen)
