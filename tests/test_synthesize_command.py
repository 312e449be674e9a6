"""`cluster-r1 synthesize` as a process: options, output, exit codes, and being killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster_r1.training.data_check import check_file
from tests.conftest import EXAMPLES
from tests.fakes.openai_server import FakeOpenAI
from tests.fakes.synthesis_oracle import SynthesisOracle

MESSAGES = str(EXAMPLES / "support_messages.csv")
SMALL = {"texts": [10, 20], "k": [2, 5], "lookahead": 8, "novelty": {"tasks_a_family": 3}}


@pytest.fixture
def config(server: FakeOpenAI, tmp_path: Path) -> str:
    server.knows = SynthesisOracle.of_file(Path(MESSAGES))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(SMALL))
    return str(tmp_path / "config.yaml")


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "cluster_r1", "synthesize", *arguments]


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), cwd=cwd, capture_output=True, text=True, timeout=120)


def rows(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.glob("**/*"))
        if path.is_file() and path.name != "journal.jsonl"
    }


def test_from_a_csv_to_rows_to_train_on(server: FakeOpenAI, config: str, tmp_path: Path) -> None:
    options = ("--tasks", "4", "--config", config, "--model", server.spec, "--out", "made")
    done = run(MESSAGES, *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "accepted" in done.stdout
    assert "made/card.md" in done.stdout
    assert (
        check_file(tmp_path / "made" / "train" / "sft.jsonl").startswith("4 SFT rows")
        or (tmp_path / "made" / "test" / "sft.jsonl").exists()
    )
    again = run(MESSAGES, *options, cwd=tmp_path)
    assert again.returncode == 0
    assert "no calls" in again.stdout


def test_each_role_may_have_its_own_model_in_one_option(
    server: FakeOpenAI, config: str, tmp_path: Path
) -> None:
    address = server.spec.partition("@")[2]
    server.served = ["a", "b"]
    models = [
        *(f"{role}=vllm:a@{address}" for role in ("generator", "critic")),
        *(f"{role}=vllm:b@{address}" for role in ("verifier", "teacher")),
    ]
    done = run(MESSAGES, "--tasks", "1", "--config", config, "--model", *models, "--out", "o", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {request["model"] for request in server.requests} == {"a", "b"}
    twice = run(MESSAGES, "--model", models[0], f"generator=vllm:b@{address}", cwd=tmp_path)
    assert twice.returncode == 2
    assert "--model names generator twice" in twice.stderr


def test_a_dry_run_says_what_it_would_take_and_sends_nothing(
    server: FakeOpenAI, config: str, tmp_path: Path
) -> None:
    done = run(MESSAGES, "--tasks", "20", "--dry-run", "--model", "openai:gpt-5-mini", cwd=tmp_path)
    assert done.returncode == 0, done.stderr  # no key is needed to estimate
    assert "20 tasks of about" in done.stdout
    assert "Nothing was sent." in done.stdout
    assert not server.requests
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "there is nothing to make tasks of"),
        (("none.csv",), "none.csv: there is no such file"),
        ((MESSAGES, "--model", "embedding"), "has to write, which embedding cannot"),
        ((MESSAGES, "--model", "openai:x"), "OPENAI_API_KEY"),
        ((MESSAGES, "--config", "none.yaml"), "none.yaml cannot be read"),
        ((MESSAGES, "--model", "judge=openai:x"), "'judge=openai:x' names no role"),
        ((MESSAGES, "--model", "critic=openai:x", "teachr=openai:x"), "'teachr=openai:x' names no role"),
        (("--domain", "!!"), "the domain is empty"),
        ((MESSAGES, MESSAGES), "two corpora are called 'support_messages'"),
    ],
)
def test_what_cannot_be_used_is_one_line_before_anything_is_spent(
    arguments: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    named = arguments if "--model" in arguments else (*arguments, "--model", "local")
    done = run(*named, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.strip().count("\n") == 0


def test_fewer_tasks_than_wanted_are_written_and_the_exit_code_says_so(
    server: FakeOpenAI, config: str, tmp_path: Path
) -> None:
    server.knows = SynthesisOracle.of_file(Path(MESSAGES), bad=1.0, manner="leaking")
    options = ("--config", config, "--model", server.spec, "--attempts", "6", "--tasks", "5", "--out", "o")
    done = run(MESSAGES, *options, cwd=tmp_path)
    assert done.returncode == 5
    assert "0 of 5 tasks after 6 attempts. Most were rejected as leakage." in done.stderr
    assert len((tmp_path / "o" / "rejected.jsonl").read_text().splitlines()) == 6


def test_roles_without_a_model_are_named_with_what_plays_them(
    server: FakeOpenAI, config: str, tmp_path: Path
) -> None:
    done = run(MESSAGES, "--model", f"teacher={server.spec}", "--dry-run", cwd=tmp_path)
    assert "no model named for generator, verifier, critic: using local" in done.stderr


def test_files_of_no_run_are_left_alone(server: FakeOpenAI, config: str, tmp_path: Path) -> None:
    mine = tmp_path / "o" / "train" / "tasks.jsonl"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    options = (MESSAGES, "--tasks", "1", "--config", config, "--model", server.spec, "--out", "o")
    done = run(*options, cwd=tmp_path)
    assert done.returncode == 2
    assert "holds a file train/tasks.jsonl that is of no run" in done.stderr
    assert mine.read_text() == "mine"
    assert run(*options, "--overwrite", cwd=tmp_path).returncode == 0


def test_fewer_tasks_than_there_are_are_said_to_be_the_first(
    server: FakeOpenAI, config: str, tmp_path: Path
) -> None:
    options = (MESSAGES, "--config", config, "--model", server.spec, "--out", "o", "--tasks")
    assert run(*options, "6", cwd=tmp_path).returncode == 0
    whole = rows(tmp_path / "o")
    fewer = run(*options, "2", cwd=tmp_path)
    assert "of which the files hold the first 2" in fewer.stderr
    assert run(*options, "6", cwd=tmp_path).returncode == 0
    assert rows(tmp_path / "o") == whole


def test_sequential_shows_every_step(server: FakeOpenAI, config: str, tmp_path: Path) -> None:
    options = ("--config", config, "--model", server.spec, "--tasks", "1", "--out", "o", "--sequential")
    done = run(MESSAGES, *options, cwd=tmp_path)
    steps = [line.split(" ", 2)[2] for line in done.stderr.splitlines() if "00000-1 " in line]
    assert [step.partition(":")[0] for step in steps][:3] == ["sample", "generate", "verify"]
    assert done.stderr.count("✓ write") >= 1


def test_a_run_that_was_killed_comes_to_the_same_and_repeats_no_finished_call(
    server: FakeOpenAI, config: str, tmp_path: Path
) -> None:
    options = [MESSAGES, "--tasks", "9", "--config", config, "--model", server.spec]
    environment = {
        name: {"CLUSTER_R1_CACHE": str(tmp_path / f"{name}.sqlite")} for name in ("alone", "killed")
    }
    alone = _start([*options, "--out", "alone"], tmp_path, environment["alone"])
    assert alone.wait(120) == 0
    undisturbed = len(server.requests)
    server.requests.clear()
    server.latency = 0.05
    answered: set[str] = set()
    for kill in range(3):
        process = _start([*options, "--out", "killed"], tmp_path, environment["killed"])
        wanted = len(server.requests) + 25
        _wait_for(lambda wanted=wanted: len(server.requests) >= wanted)
        process.send_signal(signal.SIGKILL)
        process.wait()
        time.sleep(0.2)  # what was under way is answered to nobody
        asked = [json.dumps(request, sort_keys=True) for request in server.requests]
        answered |= set(asked)
        assert not (tmp_path / "killed" / "card.md").exists(), f"finished before kill {kill + 1}"
    server.latency = 0.0
    assert _start([*options, "--out", "killed"], tmp_path, environment["killed"]).wait(120) == 0
    assert rows(tmp_path / "killed") == rows(tmp_path / "alone")
    most_under_way = 3 * 64
    assert len(server.requests) <= undisturbed + most_under_way
    repeated = len(server.requests) - len({json.dumps(r, sort_keys=True) for r in server.requests})
    assert repeated < len(server.requests) / 2


def test_ctrl_c_writes_what_there_is_and_says_how_to_go_on(
    server: FakeOpenAI, config: str, tmp_path: Path
) -> None:
    options = [MESSAGES, "--tasks", "9", "--config", config, "--model", server.spec, "--out", "o"]
    server.latency = 0.1
    process = subprocess.Popen(command(*options), cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    _wait_for(lambda: len(server.requests) > 40)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "run the same command again to go on" in said
    assert (tmp_path / "o" / "card.md").is_file()
    server.latency = 0.0
    assert run(*options, cwd=tmp_path).returncode == 0


def test_two_processes_do_not_share_a_folder(server: FakeOpenAI, config: str, tmp_path: Path) -> None:
    options = [MESSAGES, "--tasks", "9", "--config", config, "--model", server.spec, "--out", "o"]
    server.latency = 0.2
    first = subprocess.Popen(
        command(*options), cwd=tmp_path, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    _wait_for(lambda: bool(server.requests))
    second = run(*options, cwd=tmp_path)
    first.kill()
    first.wait()
    assert second.returncode == 2
    assert "another process is working in o" in second.stderr


def _start(options: list[str], cwd: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command(*options), cwd=cwd, env=os.environ | environment, **quiet)


def _wait_for(condition: Any, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
