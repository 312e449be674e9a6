"""What is shipped: the wheel, the examples, and documents that say what the code does."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
import zipfile
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest

from cluster_r1.metrics import adjusted_mutual_info
from tests.conftest import EXAMPLES

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "-w", str(folder), str(ROOT)], check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return zipfile.ZipFile(built).namelist()


def test_the_wheel_holds_one_package_and_all_of_it(wheel: list[str]) -> None:
    tops = {name.split("/")[0] for name in wheel}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"cluster_r1"}
    folders = {
        "cluster_r1": "cluster_r1",
        "agents": "cluster_r1/agents",
        "graphs": "cluster_r1/graphs",
        "prompts": "cluster_r1/prompts",
        "training": "cluster_r1/training",
        "benchmark": "cluster_r1/benchmark",
    }
    for folder, target in folders.items():
        for path in (ROOT / folder).rglob("*"):
            if "two_step" in path.parts:
                continue  # scripts that are run by their path, in environments of other projects
            if path.suffix in (".py", ".jinja2", ".typed"):
                assert f"{target}/{path.relative_to(ROOT / folder)}" in wheel


def _read(name: str) -> list[dict[str, str]]:
    with (EXAMPLES / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_example_has_labels_for_independent_groupings() -> None:
    messages, labels = _read("support_messages.csv"), _read("support_messages_labels.csv")
    assert len(messages) >= 150
    assert [row["id"] for row in messages] == [row["id"] for row in labels]
    assert len({row["message"] for row in messages}) == len(messages)
    columns = [name for name in labels[0] if name != "id"]
    assert len(columns) >= 4
    for name in columns:
        sizes = Counter(row[name] for row in labels)
        assert len(sizes) >= 3
        assert min(sizes.values()) >= 15
    for one, other in combinations(columns, 2):
        pair = ([row[name] for row in labels] for name in (one, other))
        assert adjusted_mutual_info(*pair) < 0.02


def test_the_readme_names_commands_and_options_that_exist() -> None:
    readme = (ROOT / "README.md").read_text()
    shown = "".join(
        subprocess.run(
            [sys.executable, "-m", "cluster_r1", *command, "--help"],
            capture_output=True,
            text=True,
            check=True,
            env={"COLUMNS": "200", "PATH": ""},
        ).stdout
        for command in (
            ["cluster"],
            ["edit", "RUN", "merge"],
            ["data", "episodes"],
            ["train", "sft"],
            ["bench", "run"],
        )
    )
    commands = "\n".join(re.findall(r"```(?:sh|console|bash)\n(.*?)```", readme, re.DOTALL))
    options = set(re.findall(r"(?<=\s)--[a-z-]+", commands)) - {"--no-deps"}
    assert options
    assert [option for option in sorted(options) if option not in shown and option != "--prompts"] == []


@pytest.mark.parametrize("page", sorted(ROOT.glob("*.md")) + sorted(ROOT.glob("docs/**/*.md")), ids=str)
def test_links_between_documents_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []
