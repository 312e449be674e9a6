"""Training curves: a JSONL file that grows with the run, and a picture of it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from cluster_r1.json_lines import append_json_lines, read_json_lines, write_json_lines

CURVES, PICTURE = "curves.jsonl", "curves.png"
VALIDATION = "validation/"

_NAMES = {
    "loss": "loss",
    "reward": "reward",
    "reward_std": "reward_std",
    "frac_reward_zero_std": "groups_without_advantage",
    "completions/mean_length": "length",
    "completions/clipped_ratio": "cut_off",
    "entropy": "entropy",
    "mean_token_accuracy": "token_accuracy",
    "grad_norm": "grad_norm",
    "learning_rate": "learning_rate",
    "valid": "valid",
    "ami": "ami",
    "v": "v",
    "ari": "ari",
    "k_error": "k_error",
    "singleton_rate": "singleton_rate",
    "choice": "choice",
    "question": "question",
    "open": "open",
    "contrast": "contrast",
}
"""What the trainers log, and what it is called here."""

_PANELS = {
    "loss": "loss",
    "reward": "reward",
    "valid": "share of exact covers",
    "ami": "AMI",
    "v": "V-measure",
    "k_error": "k error",
    "singleton_rate": "singleton rate",
    "length": "tokens an answer",
    "entropy": "entropy of a token",
    "choice": "loss: choice of the label",
    "question": "loss: heeding the question",
    "open": "loss: saying the label unasked",
    "contrast": "loss: contrast of states",
    "ami_given": "AMI, labels given",
    "ami_grouped": "AMI, number of groups given",
}


def curve_values(logged: Mapping[str, object]) -> dict[str, float]:
    """The values of a trainer's log that belong into the curves, by their names there."""
    return {
        name: float(value)
        for key, name in _NAMES.items()
        if isinstance(value := logged.get(key), int | float) and math.isfinite(value)
    }


def append_values(folder: Path, step: int, values: Mapping[str, float]) -> None:
    """Add a line to the curves; written at once, so that a killed run keeps it."""
    rounded = {name: round(value, 6) for name, value in values.items()}
    append_json_lines(folder / CURVES, [{"step": step, **rounded}])


def forget_after(folder: Path, step: int, name: str = CURVES) -> None:
    """Drop the lines of steps after this one, which a resumed run takes again."""
    path = folder / name
    if path.exists():
        complete = path.read_text(encoding="utf-8").splitlines(keepends=True)
        if complete and not complete[-1].endswith("\n"):  # killed while it was written
            path.write_text("".join(complete[:-1]), encoding="utf-8")
        write_json_lines(path, [line for _, line in read_json_lines(path) if line["step"] <= step])


def read_curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Each value's course, as (step, value)."""
    courses: defaultdict[str, list[tuple[int, float]]] = defaultdict(list)
    for _, line in read_json_lines(folder / CURVES):
        for name, value in line.items():
            if name != "step":
                courses[name].append((int(line["step"]), float(value)))
    return dict(courses)


def plot_curves(folder: Path, title: str) -> Path | None:
    """Draw the curves beside their file; None if there is nothing to draw."""
    courses = read_curves(folder) if (folder / CURVES).exists() else {}
    panels = [name for name in _PANELS if name in courses or VALIDATION + name in courses]
    if not panels:
        return None
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(4 * columns, 2.6 * rows), squeeze=False, constrained_layout=True
    )
    for axis, name in zip(axes.flat, panels, strict=False):
        _draw(axis, courses, name)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    figure.suptitle(title)
    picture = folder / PICTURE
    figure.savefig(picture, dpi=110)
    plt.close(figure)
    return picture


def _draw(axis: object, courses: Mapping[str, list[tuple[int, float]]], name: str) -> None:
    from matplotlib.axes import Axes

    assert isinstance(axis, Axes)
    if name in courses:
        steps, values = zip(*courses[name], strict=True)
        axis.plot(steps, values, color="#9ecae1", linewidth=1)
        axis.plot(steps, _smoothed(values), color="#08519c", linewidth=1.6, label="training")
    if VALIDATION + name in courses:
        steps, values = zip(*courses[VALIDATION + name], strict=True)
        axis.plot(steps, values, color="#d95f02", marker="o", markersize=3, label="held out")
    axis.set_title(_PANELS[name], fontsize=10)
    axis.set_xlabel("step", fontsize=8)
    axis.tick_params(labelsize=8)
    axis.grid(alpha=0.25)
    axis.legend(fontsize=7, frameon=False)


def _smoothed(values: tuple[float, ...], weight: float = 0.9) -> list[float]:
    """Exponential moving average, begun unbiased."""
    smoothed: list[float] = []
    total = mass = 0.0
    for value in values:
        total = weight * total + (1 - weight) * value
        mass = weight * mass + (1 - weight)
        smoothed.append(total / mass)
    return smoothed
