"""The card of a synthesized data set: counts, sizes wanted and achieved, agreement, rejections, cost."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, quantiles

from cluster_r1.graphs.synthesis.accounts import add_needs
from cluster_r1.graphs.synthesis.config import SPLITS, SynthesisConfig
from cluster_r1.graphs.synthesis.outcome import Need, Outcome
from cluster_r1.graphs.synthesis.slicing import Source
from cluster_r1.markdown import table
from cluster_r1.prompts.template import one_line

CARD = "card.md"

_LISTED = 40  # instructions that are shown


@dataclass
class Facts:
    """What is remembered of each attempt while the files are written: numbers only, whatever their count."""

    attempts: int = 0
    accepted: int = 0
    revised: int = 0
    mended: int = 0
    traces: int = 0
    need: dict[str, Need] = field(default_factory=dict)
    rejected: Counter[tuple[str, str]] = field(default_factory=Counter)
    examples: dict[tuple[str, str], str] = field(default_factory=dict)
    by_split: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    by_corpus: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    families: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    forms: Counter[str] = field(default_factory=Counter)
    trace_faults: Counter[str] = field(default_factory=Counter)
    listed: list[tuple[str, str, int, int]] = field(default_factory=list)
    wanted_texts: list[int] = field(default_factory=list)
    texts: list[int] = field(default_factory=list)
    wanted_k: list[int] = field(default_factory=list)
    k: list[int] = field(default_factory=list)
    largest: list[float] = field(default_factory=list)
    scores: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    ratings: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    def add(self, outcome: Outcome) -> None:
        """Note one attempt."""
        self.attempts += 1
        self.revised += len(outcome.revisions)
        self.need = add_needs(self.need, outcome.need)
        self.trace_faults.update(outcome.trace_faults)
        self.wanted_texts.append(outcome.size)
        self.wanted_k.append(outcome.k)
        about = self.by_corpus[outcome.corpus]
        about["attempts"] += 1
        if outcome.rejection is not None:
            where = outcome.rejection.reason, outcome.rejection.stage
            self.rejected[where] += 1
            self.examples.setdefault(where, outcome.rejection.detail)
            return
        about["accepted"] += 1
        self._add_task(outcome)

    def rejected_by_reason(self) -> dict[str, int]:
        """How many attempts were rejected for each reason, the most frequent first."""
        found: Counter[str] = Counter()
        for (reason, _), count in self.rejected.items():
            found[reason] += count
        return dict(found.most_common())

    def _add_task(self, outcome: Outcome) -> None:
        assert outcome.task is not None
        labels = Counter(outcome.task.labels)
        self.accepted += 1
        self.mended += bool(outcome.revisions)
        self.traces += len(outcome.traces)
        self.by_split[outcome.split].update(tasks=1, traces=len(outcome.traces))
        self.families[outcome.split].add(f"{outcome.corpus}/{outcome.task.meta['attribute']}")
        self.forms[outcome.form] += 1
        if len(self.listed) < _LISTED:
            task = outcome.task
            self.listed.append((task.corpus, task.instruction, len(task.texts), len(labels)))
        self.texts.append(len(outcome.task.texts))
        self.k.append(len(labels))
        self.largest.append(max(labels.values()) / len(outcome.task.texts))
        for name, score in outcome.scores:
            if score is not None:
                self.scores[name].append(float(score))
        for aspect, rating in outcome.ratings.items():
            self.ratings[aspect].append(rating)


def write_card(
    facts: Facts,
    *,
    asked: int,
    settings: SynthesisConfig,
    sources: Sequence[Source],
    notes: Sequence[str],
    models: Mapping[str, str],
    templates: Mapping[str, str],
    context_tokens: int,
) -> str:
    """The card as Markdown: the same for the same run, in however many pieces it was made."""
    parts = [
        _head(facts, asked),
        "## Before you trust it\n\n" + _trust(facts, models),
        "## Tasks\n\n" + _tasks(facts),
        "## Splits\n\n" + _splits(facts, settings),
        "## Sources\n\n" + _sources(facts, sources, notes),
        "## Sizes\n\n" + _sizes(facts, settings),
        "## Agreement\n\n" + _agreement(facts),
        "## Rejections\n\n" + _rejections(facts),
        "## Traces\n\n" + _traces(facts),
        "## Models and prompts\n\n"
        + table(("role", "model"), models.items())
        + "\n\n"
        + table(("template", "sha256"), ((name, sha[:12]) for name, sha in sorted(templates.items()))),
        "## Cost\n\n" + _cost(facts),
        f"## Settings\n\nContext: {context_tokens} tokens.\n\n"
        f"```json\n{settings.model_dump_json(indent=2)}\n```",
        "## Use\n\n" + _USE,
    ]
    return "\n\n".join(parts) + "\n"


_USE = """```python
from datasets import load_dataset
from cluster_r1.task import read_tasks

sft = load_dataset("json", data_files={"train": "train/sft.jsonl"})
tasks = read_tasks("train/tasks.jsonl")
```

`cluster-r1 data check train/sft.jsonl` checks a file, `cluster-r1 train sft` trains on it, and
`cluster-r1 bench run --tasks test/tasks.jsonl` measures systems on tasks that were held out."""


def _head(facts: Facts, asked: int) -> str:
    missing = "" if facts.accepted >= asked else f" of {asked} that were asked for"
    return (
        "# Synthesized tasks\n\n"
        f"{facts.accepted} tasks{missing}, {facts.traces} reasoning traces, of {facts.attempts} attempts "
        f"({_share(facts.accepted, facts.attempts)} accepted). Drafts were sent back {facts.revised} times; "
        f"{facts.mended} tasks were accepted after that."
    )


def _trust(facts: Facts, models: Mapping[str, str]) -> str:
    """What a reader should know before anything else."""
    said = ["No person has read these tasks: labels are a model's, and models have checked them."]
    if len(set(models.values())) == 1:
        said.append(
            "One model played all roles. It agrees with itself too much, and so do the numbers below."
        )
    if facts.accepted and not facts.traces:
        said.append("There are no reasoning traces; see Traces for why.")
    return "\n".join(f"- {line}" for line in said)


def _tasks(facts: Facts) -> str:
    if not facts.listed:
        return "No task was accepted."
    rest = facts.accepted - len(facts.listed)
    listed = table(("corpus", "instruction", "texts", "clusters"), facts.listed)
    return listed + (f"\n\nAnd {rest} more." if rest else "")


def _splits(facts: Facts, settings: SynthesisConfig) -> str:
    """Shares wanted and achieved; what is small differs by chance, what repeats itself by being rejected."""
    split = settings.split
    wanted = {"train": 1 - split.validation - split.test, "validation": split.validation, "test": split.test}
    rows = (
        (
            name,
            "-" if split.corpora else f"{wanted[name]:.0%}",
            _share(facts.by_split[name]["tasks"], facts.accepted),
            facts.by_split[name]["tasks"],
            len(facts.families[name]),
            facts.by_split[name]["traces"],
        )
        for name in SPLITS
    )
    return (
        "No text is in two splits, nor is a family of instructions that ask the same of a corpus. Wanted are "
        "shares of the slices; what was asked in one split already is rejected in the others.\n\n"
        + table(("split", "wanted", "achieved", "tasks", "families", "traces"), rows)
    )


def _sources(facts: Facts, sources: Sequence[Source], notes: Sequence[str]) -> str:
    rows = (
        (
            source.name,
            f"{len(source.texts):,}" if not source.domain else "written",
            source.licence,
            source.origin,
            facts.by_corpus[source.name]["attempts"],
            facts.by_corpus[source.name]["accepted"],
        )
        for source in sources
    )
    listed = table(("corpus", "texts", "licence", "origin", "attempts", "accepted"), rows)
    return "\n\n".join((listed, *(f"- {one_line(note)}" for note in notes)))


def _sizes(facts: Facts, settings: SynthesisConfig) -> str:
    if not facts.texts:
        return "No task was accepted."
    rows = [
        ("texts, configured", *_spread(_log_uniform(settings.texts))),
        ("texts, drawn", *_spread(facts.wanted_texts)),
        ("texts, of accepted tasks", *_spread(facts.texts)),
        ("clusters, configured", *_spread(_log_uniform(settings.k))),
        ("clusters, asked for", *_spread(facts.wanted_k)),
        ("clusters, of accepted tasks", *_spread(facts.k)),
        ("share of the largest cluster", *_spread(facts.largest, digits=2)),
    ]
    listed = table(("", "least", "10 %", "25 %", "median", "75 %", "90 %", "most"), rows)
    total = sum(settings.forms.values())
    forms = table(
        ("wording", "wanted", "achieved"),
        (
            (form, _share(weight, total), _share(facts.forms[form], facts.accepted))
            for form, weight in settings.forms.items()
        ),
    )
    return (
        f"{listed}\n\nDrawn sizes are smaller where a corpus is; accepted ones where contested texts were "
        f"dropped. The number of clusters asked for is at most half the texts.\n\n{forms}"
    )


def _agreement(facts: Facts) -> str:
    named = {
        "verifier": "AMI of labels and most blind readings",
        "single": "AMI of labels and a single reading",
        "kept": "AMI of labels and most readings, without dropped texts",
        "vote": "share of readings that agree with a label",
        "dropped": "number of texts dropped of a task",
        "embedding": "AMI of labels and embeddings",
    }
    rows = [
        (what, f"{fmean(found):.2f}", *_spread(found, digits=2))
        for name, what in named.items()
        if (found := facts.scores.get(name))
    ]
    rows += [
        (f"critic: {aspect} (1 to 5)", f"{fmean(found):.2f}", *_spread(found))
        for aspect, found in facts.ratings.items()
    ]
    if not rows:
        return "No task was accepted."
    head = ("", "mean", "least", "10 %", "25 %", "median", "75 %", "90 %", "most")
    return (
        "Of accepted tasks. An AMI of 1 is full agreement, 0 is chance; for embeddings, low is good. The "
        "critic's ratings go from 1 (bad) to 5 (good), also where they are called leakage or triviality.\n\n"
        + table(head, rows)
    )


def _rejections(facts: Facts) -> str:
    if not facts.rejected:
        return "None."
    rows = (
        (reason, stage, count, _share(count, facts.attempts), facts.examples[reason, stage])
        for (reason, stage), count in facts.rejected.most_common()
    )
    return table(("reason", "at", "attempts", "of all", "for example"), rows)


def _traces(facts: Facts) -> str:
    kept = f"{facts.traces} kept; equal ones count once, and of each task the best are kept."
    if not facts.trace_faults:
        return kept
    rows = facts.trace_faults.most_common()
    return f"{kept} Answers of the teacher that cannot be learnt from:\n\n" + table(("why", "answers"), rows)


def _cost(facts: Facts) -> str:
    rows = [
        (role, f"{need.calls:,}", f"{need.input_tokens:,}", f"{need.output_tokens:,}")
        for role, need in facts.need.items()
    ]
    total = Need()
    for need in facts.need.values():
        total += need
    rows.append(("all", f"{total.calls:,}", f"{total.input_tokens:,}", f"{total.output_tokens:,}"))
    return (
        "Calls behind these attempts, answers from the cache included; reasoning counts as output. No prices "
        "are known, so no money is named.\n\n" + table(("role", "calls", "tokens in", "tokens out"), rows)
    )


def _log_uniform(bounds: tuple[int, int], points: int = 1000) -> list[int]:
    """The distribution that sizes are drawn from, as evenly spaced quantiles."""
    low, high = math.log(bounds[0]), math.log(bounds[1] + 1)
    places = ((number + 0.5) / points for number in range(points))
    return [min(bounds[1], int(math.exp(low + place * (high - low)))) for place in places]


def _spread(values: Sequence[float], digits: int = 0) -> tuple[str, ...]:
    """Least, some quantiles, and most."""
    if len(values) == 1:
        return (f"{values[0]:.{digits}f}",) * 7
    cuts = quantiles(values, n=20, method="inclusive")
    chosen = (min(values), cuts[1], cuts[4], cuts[9], cuts[14], cuts[17], max(values))
    return tuple(f"{value:.{digits}f}" for value in chosen)


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.0%}" if whole else "-"
