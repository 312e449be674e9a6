"""The shipped tasks: what their card promises, checked on the files themselves."""

from __future__ import annotations

import json
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cluster_r1.benchmark.report import write_report
from cluster_r1.benchmark.task_card import card, second_reader_kappa
from cluster_r1.benchmark.task_sets import SPLITS, findings, named_tasks, shipped_tasks, tasks_folder
from cluster_r1.cli import app
from cluster_r1.metrics import adjusted_mutual_info
from cluster_r1.task import Task

TEST = shipped_tasks("test")
DEVELOPMENT = shipped_tasks("development")
ALL = [*TEST, *DEVELOPMENT]


def corpora(tasks: list[Task]) -> dict[str, list[Task]]:
    """Tasks by corpus."""
    return {name: [t for t in tasks if t.corpus == name] for name in dict.fromkeys(t.corpus for t in tasks)}


def test_there_are_28_tasks_over_three_corpora() -> None:
    assert len(TEST) == 28
    assert list(corpora(TEST)) == ["dialogue", "legal", "finance"]
    assert all(len(own[0].texts) >= 120 for own in corpora(TEST).values())
    assert (min(task.k for task in TEST), max(task.k for task in TEST)) == (2, 14)
    assert sum(bool(task.meta["topical"]) for task in TEST) == 3
    assert findings(ALL) == []


def test_development_shares_neither_texts_nor_attributes_with_the_test() -> None:
    texts = {text.text for task in TEST for text in task.texts}
    assert not texts & {text.text for task in DEVELOPMENT for text in task.texts}
    wordings = {wording for task in TEST for wording in (task.instruction, *task.paraphrases)}
    assert not wordings & {
        wording for task in DEVELOPMENT for wording in (task.instruction, *task.paraphrases)
    }
    assert set(corpora(DEVELOPMENT)) == {f"{corpus}-development" for corpus in corpora(TEST)}


@pytest.mark.parametrize("task", ALL, ids=[task.id for task in ALL])
def test_a_task_is_as_the_card_says(task: Task) -> None:
    assert len({task.instruction, *task.paraphrases}) == 5
    assert set(task.labels) == set(task.meta["classes"])
    assert min(Counter(task.labels).values()) >= 2
    assert second_reader_kappa(task) >= 0.75


@pytest.mark.parametrize("corpus", corpora(ALL))
def test_attributes_of_a_corpus_are_independent(corpus: str) -> None:
    own = corpora(ALL)[corpus]
    for one, other in combinations(own, 2):
        assert [t.text for t in one.texts] == [t.text for t in other.texts]
        assert adjusted_mutual_info(one.labels, other.labels) <= 0.1, (one.id, other.id)


@pytest.mark.parametrize("corpus", corpora(TEST))
def test_texts_are_of_realistic_length_and_open_differently(corpus: str) -> None:
    texts = [text.text for text in corpora(TEST)[corpus][0].texts]
    words = [len(text.split()) for text in texts]
    assert min(words) >= 40
    assert max(words) <= 250
    openings = Counter(" ".join(text.removeprefix("A:").split()[:4]).casefold() for text in texts)
    assert max(openings.values()) <= 2


def test_the_card_is_the_one_that_the_tasks_give() -> None:
    def rows(text: str) -> dict[str, tuple[str, ...]]:
        """Cells by first cell, but for those of fitted models, whose last digits depend on versions."""
        lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
        return {cells[0]: (*cells[1:5], cells[-1]) for cells in lines}

    shown = (tasks_folder() / "README.md").read_text(encoding="utf-8")
    assert rows(shown) == rows(card())
    assert shown.partition("## Corpora")[0] == card().partition("## Corpora")[0]


def test_tasks_are_listed_and_named() -> None:
    done = CliRunner().invoke(app, ["bench", "tasks", "--json"])
    rows = [json.loads(line) for line in done.output.splitlines()]
    assert len(rows) == len(ALL)
    assert rows[0].keys() == {"name", "corpus", "split", "attribute", "instruction", "n", "k"}
    assert {row["split"] for row in rows} == set(SPLITS)
    assert [task.id for task in named_tasks(["legal", "dialogue/topic", "legal/right"])] == [
        *(task.id for task in TEST if task.corpus == "legal"),
        "dialogue/topic",
    ]
    assert named_tasks([]) == TEST


def test_the_published_results_are_those_of_the_published_answers(tmp_path: Path) -> None:
    published = Path(__file__).parent.parent / "benchmark" / "results"
    (tmp_path / "answers.jsonl").write_bytes((published / "answers.jsonl").read_bytes())
    write_report(tmp_path)
    for name in ("results.json", "table.md", "index.html"):
        assert (tmp_path / name).read_bytes() == (published / name).read_bytes(), name
