"""What a policy becomes under each reward: V-measure alone drives it into singletons where the task is hard.

    python benchmark/reward_collapse.py [--seeds 3] [--steps 150] [--out docs/figures/reward-collapse.png]

Needs torch and matplotlib; three minutes on one core. Writes the figure, and beside it the numbers as JSONL.

A task is 20 noisy vectors of hidden clusters. The policy, a GRU with 6,000 parameters, reads them in order
and puts each into a cluster that is there or opens a new one. It first learns from the hidden clusters. From
that one start it is trained by policy gradient with the mean of a group of answers as baseline (GRPO without
scaling), once for each reward. Every answer is written as a JSON completion and scored by
`cluster_r1.training.rewards`, as those of a language model are. In hard tasks noise hides most clusters.
"""

from __future__ import annotations

import argparse
import copy
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from cluster_r1.benchmark.reward_table import settings_by_measure, write_completion
from cluster_r1.json_lines import write_json_lines
from cluster_r1.training.rewards import Judgement, RewardSettings, judge

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FIGURE = Path(__file__).parent.parent / "docs" / "figures" / "reward-collapse.png"

TEXTS = 20
FEWEST, MOST = 3, 5  # hidden clusters
WIDTH = 8  # of a text's vector
NOISE: Mapping[str, float] = {"hard tasks": 1.5, "easy tasks": 0.6}
"""Standard deviation of a text around its cluster's centre, whose entries have 1."""
ALONE = 0.1  # share of the texts whose hidden cluster has no other
HIDDEN = 32

TAUGHT = 150  # steps of supervised learning before reinforcement begins, and tasks in each
TASKS = 64
PROMPTS, GROUP = 16, 8  # prompts a step, answers a prompt
EVERY = 5  # steps between two lines of the record, which are means over them


class Style(NamedTuple):
    """How a reward's curve looks: colours of Okabe and Ito, which the colour-blind can tell apart."""

    name: str
    color: str
    line: str


CURVES: Mapping[str, Style] = {
    "v_measure": Style("V-measure", "#D55E00", "-"),
    "ami": Style("AMI", "#0072B2", "--"),
    "ari": Style("ARI", "#009E73", ":"),
}
PANELS: Mapping[str, str] = {"singleton_rate": "share of texts alone", "v": "V-measure", "ami": "AMI"}


@dataclass(frozen=True, slots=True)
class Line:
    """Means over the answers of `EVERY` steps, all of them exact covers.

    Attributes:
        tasks: of `NOISE`.
        reward: what the policy is trained on.
        seed: of start and training.
        step: the last of the steps; 0 is the start.
        singleton_rate: share of the texts that stand alone.
        all_singletons: share of the answers in which all do.
        v: V-measure.
        ami: adjusted mutual information.
        ari: adjusted Rand index.
    """

    tasks: str
    reward: str
    seed: int
    step: int
    singleton_rate: float
    all_singletons: float
    v: float
    ami: float
    ari: float


class Policy(nn.Module):
    """Reads texts in order; a text joins a cluster by its likeness to the members, or opens the next one."""

    def __init__(self) -> None:
        """Untrained."""
        super().__init__()
        self.reader = nn.GRU(WIDTH, HIDDEN, batch_first=True)
        self.query = nn.Linear(WIDTH + HIDDEN, HIDDEN)
        self.key = nn.Linear(WIDTH, HIDDEN)
        self.opening = nn.Linear(WIDTH + HIDDEN, 1)

    def forward(self, texts: Tensor, clusters: Tensor) -> Tensor:
        """Logits [batch, texts, clusters] of each text's cluster, given those of the texts before it.

        Args:
            texts: vectors [batch, texts, width].
            clusters: numbers [batch, texts] in the order of first use.
        """
        likeness, opening = self.read(texts)
        members = one_hot(clusters, TEXTS).float()
        before = members.cumsum(1) - members
        sums = torch.tril(likeness, diagonal=-1) @ members
        return _logits(sums, before, opening)

    def read(self, texts: Tensor) -> tuple[Tensor, Tensor]:
        """Likeness [batch, texts, texts] of each text to each, and the logit [batch, texts] of opening."""
        seen = torch.cat([texts, self.reader(texts)[0]], dim=-1)
        likeness = self.query(seen) @ self.key(texts).transpose(1, 2) / HIDDEN**0.5
        return likeness, self.opening(seen).squeeze(-1)

    @torch.no_grad()
    def sample(self, texts: Tensor, generator: torch.Generator) -> Tensor:
        """Cluster numbers [batch, texts], drawn at temperature 1."""
        likeness, opening = self.read(texts)
        members = torch.zeros(len(texts), TEXTS, TEXTS)
        for position in range(TEXTS):
            sums = likeness[:, position : position + 1] @ members
            logits = _logits(sums, members.sum(1, keepdim=True), opening[:, position : position + 1])
            drawn = torch.multinomial(logits.squeeze(1).softmax(-1), 1, generator=generator).squeeze(1)
            members[torch.arange(len(texts)), position, drawn] = 1
        return members.argmax(-1)


def _logits(sums: Tensor, sizes: Tensor, opening: Tensor) -> Tensor:
    """Mean likeness to the members where there are any, `opening` for the next number, nothing beyond it."""
    used = sizes > 0
    following = one_hot(used.sum(-1), TEXTS + 1)[..., :TEXTS].bool()
    joined = torch.where(used, sums / sizes.clamp(min=1), -torch.inf)
    return torch.where(following, opening.unsqueeze(-1), joined)


def draw_tasks(count: int, noise: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Texts [count, texts, width] and their hidden clusters [count, texts], numbered by first use."""
    k = torch.randint(FEWEST, MOST + 1, (count, 1), generator=generator)
    labels = (torch.rand(count, TEXTS, generator=generator) * k).long()
    alone = torch.rand(count, TEXTS, generator=generator) < ALONE
    labels = torch.where(alone, MOST + torch.arange(TEXTS), labels)
    centres = torch.randn(count, MOST + TEXTS, WIDTH, generator=generator)
    texts = centres.gather(1, labels.unsqueeze(-1).expand(-1, -1, WIDTH))
    texts = texts + noise * torch.randn(texts.shape, generator=generator)
    return texts, torch.tensor([_by_first_use(row) for row in labels.tolist()])


def _by_first_use(labels: Sequence[int]) -> list[int]:
    numbers = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    return [numbers[label] for label in labels]


def log_probabilities(policy: Policy, texts: Tensor, clusters: Tensor) -> Tensor:
    """Of each text's cluster, [batch, texts]."""
    logits = policy(texts, clusters).log_softmax(-1)
    chosen: Tensor = logits.gather(-1, clusters.unsqueeze(-1)).squeeze(-1)
    return chosen


def warm_start(noise: float, seed: int) -> Policy:
    """A policy that has learnt from the hidden clusters themselves."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    policy = Policy()
    optimiser = torch.optim.Adam(policy.parameters(), lr=3e-3)
    for _ in range(TAUGHT):
        texts, labels = draw_tasks(TASKS, noise, generator)
        _learn(optimiser, -log_probabilities(policy, texts, labels).mean())
    return policy


def _learn(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


def reinforce(
    start: Policy, noise: float, settings: RewardSettings, seed: int, steps: int
) -> Iterator[tuple[int, list[Judgement]]]:
    """Train a copy of a policy; yields each step, from 0, and what its answers were worth before it."""
    policy = copy.deepcopy(start)
    generator = torch.Generator().manual_seed(1_000 + seed)
    optimiser = torch.optim.Adam(policy.parameters(), lr=3e-3)
    for step in range(steps + 1):
        texts, labels = draw_tasks(PROMPTS, noise, generator)
        texts, labels = texts.repeat_interleave(GROUP, 0), labels.repeat_interleave(GROUP, 0)
        answers = policy.sample(texts, generator)
        judgements = [
            judge(write_completion(answer), reference, settings)
            for answer, reference in zip(answers.tolist(), labels.tolist(), strict=True)
        ]
        yield step, judgements
        worth = torch.tensor([judgement.reward for judgement in judgements]).view(PROMPTS, GROUP)
        advantage = (worth - worth.mean(1, keepdim=True)).view(-1, 1)
        _learn(optimiser, -(advantage * log_probabilities(policy, texts, answers)).sum(1).mean())


def record(seeds: int, steps: int) -> Iterator[Line]:
    """The course of every training: tasks x seeds x rewards."""
    for (tasks, noise), seed in product(NOISE.items(), range(seeds)):
        start = warm_start(noise, seed)
        for measure, settings in settings_by_measure().items():
            recent: list[Judgement] = []
            for step, judgements in reinforce(start, noise, settings, seed, steps):
                recent += judgements
                if step % EVERY == 0:
                    yield _line(tasks, measure, seed, step, recent)
                    recent = []


def _line(tasks: str, measure: str, seed: int, step: int, judgements: Sequence[Judgement]) -> Line:
    found = [judgement.agreement for judgement in judgements if judgement.agreement]
    return Line(
        tasks=tasks,
        reward=measure,
        seed=seed,
        step=step,
        singleton_rate=statistics.fmean(one.singleton_rate for one in found),
        all_singletons=statistics.fmean(one.singleton_rate == 1 for one in found),
        v=statistics.fmean(one.v for one in found),
        ami=statistics.fmean(one.ami for one in found),
        ari=statistics.fmean(one.ari for one in found),
    )


def draw(lines: Sequence[Line], path: Path) -> None:
    """The figure: a row for each kind of task, a column for each of `PANELS`, a curve for each reward."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5.6), layout="constrained")
    grid = figure.subplots(len(NOISE), len(PANELS), sharex=True, sharey="col", squeeze=False)
    for axes_row, tasks in zip(grid, NOISE, strict=True):
        for axes, (field, title) in zip(axes_row, PANELS.items(), strict=True):
            for measure in CURVES:
                _draw_curve(
                    axes, [line for line in lines if (line.tasks, line.reward) == (tasks, measure)], field
                )
            axes.set_ylim(-0.02, 1.02 if field != "ami" else 0.82)
            axes.grid(alpha=0.3)
            axes.spines[["top", "right"]].set_visible(False)
            axes.set_title(f"{tasks.capitalize()}: {title}", fontsize=10, loc="left")
    for axes in grid[-1]:
        axes.set_xlabel("training step")
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(CURVES), frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def _draw_curve(axes: Axes, lines: Sequence[Line], field: str) -> None:
    """Mean over the seeds, and their range."""
    style = CURVES[lines[0].reward]
    by_step: dict[int, list[float]] = {}
    for line in lines:
        by_step.setdefault(line.step, []).append(getattr(line, field))
    steps, values = list(by_step), list(by_step.values())
    axes.fill_between(
        steps, list(map(min, values)), list(map(max, values)), color=style.color, alpha=0.2, linewidth=0
    )
    axes.plot(
        steps,
        list(map(statistics.fmean, values)),
        color=style.color,
        linestyle=style.line,
        linewidth=2,
        label=f"reward: {style.name}",
    )


def print_table(lines: Sequence[Line]) -> None:
    """Start and end of each training: mean over the seeds, and their range."""
    print("| tasks | reward | when | share of texts alone | all-singleton answers | V | AMI | ARI |")
    print("| --- " * 8 + "|")
    last = max(line.step for line in lines)
    for tasks in NOISE:
        for measure, step in [("ami", 0), *((measure, last) for measure in CURVES)]:
            chosen = [
                line for line in lines if (line.tasks, line.reward, line.step) == (tasks, measure, step)
            ]
            cells = (
                _mean_and_range([getattr(line, field) for line in chosen])
                for field in ("singleton_rate", "all_singletons", "v", "ami", "ari")
            )
            name, when = (CURVES[measure].name, f"step {step}") if step else ("–", "start")
            print(f"| {tasks} | {name} | {when} | {' | '.join(cells)} |")


def _mean_and_range(values: Sequence[float]) -> str:
    return f"{statistics.fmean(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main() -> None:
    """Train, write figure and numbers, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--out", type=Path, default=FIGURE, help="the figure; the numbers go beside it")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    lines = list(record(arguments.seeds, arguments.steps))
    draw(lines, arguments.out)
    write_json_lines(arguments.out.with_suffix(".jsonl"), map(_rounded, lines))
    print_table(lines)


def _rounded(line: Line) -> dict[str, object]:
    values = asdict(line)
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in values.items()}


if __name__ == "__main__":
    main()
