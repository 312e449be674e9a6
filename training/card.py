"""The model card that every trained folder gets: data, recipe, prompts, curves, results, limits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cluster_r1 import __version__
from cluster_r1.training.curves import PICTURE
from cluster_r1.training.examples import Example, families
from cluster_r1.training.recipe import GrpoRecipe, SftRecipe
from cluster_r1.training.stage import RECIPE, Rows, recipe_text

if TYPE_CHECKING:
    from cluster_r1.training.finish import Outcome

CARD = "README.md"
_METHODS = {"sft": "supervised fine-tuning on reasoning traces", "grpo": "GRPO with the clustering reward"}
_MEASURES = {
    "reward": "reward",
    "valid": "share of exact covers",
    "ami": "AMI",
    "v": "V-measure",
    "ari": "ARI",
    "k_error": "k error",
    "singleton_rate": "singleton rate",
    "length": "tokens an answer",
}


def write_card(recipe: SftRecipe | GrpoRecipe, rows: Rows, outcome: Outcome) -> Path:
    """Write the card into the trained folder."""
    path = recipe.out / CARD
    path.write_text("\n\n".join(_sections(recipe, rows, outcome)) + "\n", encoding="utf-8")
    return path


def append_section(folder: Path, title: str, text: str) -> None:
    """Add a section to a card, in place of one with this title."""
    path = folder / CARD
    before, _, _ = path.read_text(encoding="utf-8").partition(f"\n## {title}\n")
    path.write_text(f"{before.rstrip()}\n\n## {title}\n\n{text.strip()}\n", encoding="utf-8")


def _sections(recipe: SftRecipe | GrpoRecipe, rows: Rows, outcome: Outcome) -> Iterable[str]:
    base = recipe.model.base
    yield f"# {recipe.out.name}"
    yield (
        f"{base} after {_METHODS[recipe.stage]}, for grouping texts by an instruction. Made by Cluster-R1 "
        f"{__version__} in {outcome.steps} steps, {outcome.seconds:.0f} s, {outcome.peak_gb:.1f} GB."
    )
    yield f'```sh\ncluster-r1 cluster texts.csv --by "the tone" --model checkpoint:{recipe.out}\n```'
    yield f"## Data\n\n{_data(rows.train)}"
    if rows.validation:
        yield f"Held out: {_data(rows.validation)}"
    yield f"## Results on the held-out tasks\n\n{_results(outcome)}"
    if (recipe.out / PICTURE).exists():
        yield f"![Training curves]({PICTURE})"
    yield f"## Prompts\n\n{_prompts(rows.train)}"
    yield f"## Recipe\n\n`{RECIPE}`:\n\n```yaml\n{recipe_text(recipe)}```"
    yield f"## Limits\n\n{_limits(rows)}"


def _data(rows: Iterable[Example]) -> str:
    listed = list(rows)
    counts = Counter(f"{row.corpus} ({row.licence})" for row in listed)
    corpora = ", ".join(f"{corpus}: {count}" for corpus, count in sorted(counts.items()))
    sizes = [row.n for row in listed]
    ks = [row.k for row in listed]
    return (
        f"{len(listed)} rows of {min(sizes)} to {max(sizes)} texts in {min(ks)} to {max(ks)} clusters. "
        f"Rows by corpus and licence: {corpora}. Instruction families: {', '.join(families(listed))}."
    )


def _results(outcome: Outcome) -> str:
    if outcome.after is None:
        return "None: the recipe names no validation data."
    before = outcome.before.named() if outcome.before else {}
    after = outcome.after.named()
    lines = ["| | before | after |", "| --- | --- | --- |"]
    lines += [
        f"| {title} | {_shown(before, name)} | {_shown(after, name)} |" for name, title in _MEASURES.items()
    ]
    return (
        "\n".join(lines)
        + "\n\nGreedy answers, unconstrained; an answer that is no exact cover counts as AMI 0."
    )


def _shown(values: Mapping[str, float], name: str) -> str:
    if name not in values:
        return ""
    return f"{values[name]:.0f}" if name == "length" else f"{values[name]:.2f}"


def _prompts(rows: Iterable[Example]) -> str:
    templates = sorted({(row.template, row.template_sha256) for row in rows})
    return "\n".join(f"- `{id}`, sha256 `{sha}`" for id, sha in templates)


def _limits(rows: Rows) -> str:
    sizes = [row.n for row in rows.train]
    return (
        f"Trained on at most {max(sizes)} texts at once and on the corpora above, in their languages; beyond "
        "them its groups are guesses. It plays the proposer; nothing trained it to criticise. Check a sample "
        "of what it groups before relying on it."
    )
