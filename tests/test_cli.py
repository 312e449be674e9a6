"""The command line as a user meets it: real processes, real files."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cluster_r1 import ClusteringResult
from tests.conftest import EXAMPLES
from tests.fakes.openai_server import FakeOpenAI

MESSAGES = EXAMPLES / "support_messages.csv"
LINES = "late: a\nlate: b\nbroken: c\nbroken: d\n"


def run(*arguments: str | Path, cwd: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cluster_r1", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, **options)


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "assignments.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_csv_becomes_groups_reasons_and_a_table(tmp_path: Path) -> None:
    done = run("cluster", MESSAGES, "--by", "product", "--out", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "using the small local model" in done.stderr
    assert "results: out" in done.stdout
    assert "clusters of 180 texts" in done.stdout
    rows = rows_of(tmp_path / "out")
    assert [row["id"] for row in rows] == [f"T{n:03}" for n in range(1, 181)]
    assert all(row["cluster"] and row["reason"] and 0 <= float(row["confidence"]) <= 1 for row in rows)
    clusters = json.loads((tmp_path / "out" / "clusters.json").read_text())["clusters"]
    assert sum(cluster["size"] for cluster in clusters) == 180
    info = json.loads((tmp_path / "out" / "run.json").read_text())
    assert info["model"] == "local"
    assert len(info["input_sha256"]) == 64
    assert ClusteringResult.load(tmp_path / "out").n_clusters == len(clusters)


def test_a_language_model_is_recorded_with_templates_rounds_and_usage(
    server: FakeOpenAI, tmp_path: Path
) -> None:
    (tmp_path / "texts.txt").write_text(LINES)
    done = run("cluster", "texts.txt", "--by", "problem", "--model", server.spec, "--out", "o", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    info = json.loads((tmp_path / "o" / "run.json").read_text())
    assert set(info["templates"]) >= {"clustering/proposer", "clustering/critic", "clustering/refiner"}
    assert info["usage"]["calls"] == 2
    assert info["rounds"][0]["score"] == 0.9
    assert info["stop_reason"] == "accepted"
    assert info["seconds"]["total"] > 0


def test_the_same_command_again_asks_nothing_and_writes_the_same_bytes(
    server: FakeOpenAI, tmp_path: Path
) -> None:
    (tmp_path / "texts.txt").write_text(LINES)
    command = ("cluster", "texts.txt", "--by", "problem", "--model", server.spec, "--out", "o")
    assert run(*command, cwd=tmp_path).returncode == 0
    before = {name: (tmp_path / "o" / name).read_bytes() for name in ("assignments.csv", "clusters.json")}
    asked = len(server.requests)
    again = run(*command, cwd=tmp_path)
    assert again.returncode == 0
    assert len(server.requests) == asked
    assert "2 more from the cache" in again.stdout
    assert before == {name: (tmp_path / "o" / name).read_bytes() for name in before}


def test_a_folder_with_another_run_is_not_overwritten_unasked(tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text(LINES)
    assert run("cluster", "texts.txt", "--by", "problem", "--out", "o", cwd=tmp_path).returncode == 0
    kept = (tmp_path / "o" / "run.json").read_text()
    other = run("cluster", "texts.txt", "--by", "tone", "--out", "o", cwd=tmp_path)
    assert other.returncode == 2
    assert "--overwrite" in other.stderr
    assert (tmp_path / "o" / "run.json").read_text() == kept
    assert (
        run("cluster", "texts.txt", "--by", "tone", "--out", "o", "--overwrite", cwd=tmp_path).returncode == 0
    )


def test_files_that_are_of_no_run_are_not_overwritten_unasked(tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text(LINES)
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "assignments.csv").write_text("my,own\n")
    (tmp_path / "o" / "notes.txt").write_text("mine too\n")
    command = ("cluster", "texts.txt", "--by", "problem", "--out", "o")
    for refused in (run(*command, cwd=tmp_path), run(*command, "--dry-run", cwd=tmp_path)):
        assert refused.returncode == 2
        assert "assignments.csv" in refused.stderr
        assert "--overwrite" in refused.stderr
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == ["assignments.csv", "notes.txt"]
    assert (tmp_path / "o" / "assignments.csv").read_text() == "my,own\n"
    assert run(*command, "--overwrite", cwd=tmp_path).returncode == 0
    assert len(rows_of(tmp_path / "o")) == 4
    assert (tmp_path / "o" / "notes.txt").read_text() == "mine too\n"


def test_a_stopped_run_keeps_its_folder_and_its_trace(server: FakeOpenAI, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text(LINES)
    command = ["cluster", "texts.txt", "--by", "problem", "--model", server.spec, "--out", "o"]
    server.behaviour = "slow"
    process = subprocess.Popen([sys.executable, "-m", "cluster_r1", *command], cwd=tmp_path)
    _wait_for(lambda: server.roles_asked()[-1:] == ["critic"])
    process.send_signal(signal.SIGINT)
    process.wait(20)
    server.behaviour = "perfect"
    stopped = (tmp_path / "o" / "trace.jsonl").read_text()
    assert '"error": "stopped"' in stopped
    other = run(*command[:3], "tone", *command[4:], cwd=tmp_path)
    assert other.returncode == 2
    assert "holds another run" in other.stderr
    assert (tmp_path / "o" / "trace.jsonl").read_text() == stopped
    assert run(*command, cwd=tmp_path).returncode == 0
    assert (tmp_path / "o" / "trace.1.jsonl").read_text() == stopped
    assert (tmp_path / "o" / "trace.jsonl").read_text() != stopped
    assert not (tmp_path / "o" / ".unfinished").exists()
    assert "trace.1.jsonl" in run("trace", "o", cwd=tmp_path).stdout
    assert "stopped" in run("trace", "o/trace.1.jsonl", cwd=tmp_path).stdout


def test_a_run_that_finished_nothing_does_not_hold_its_folder(server: FakeOpenAI, tmp_path: Path) -> None:
    command = ("cluster", "-", "--by", "x", "--model", server.spec, "--out", "o")
    server.behaviour = "bad_key"
    assert run(*command, cwd=tmp_path, input=LINES).returncode == 3
    server.behaviour = "perfect"
    assert run(*command, "--k", "2", cwd=tmp_path, input=LINES).returncode == 0
    assert "401" in (tmp_path / "o" / "trace.1.jsonl").read_text()


def test_assign_puts_new_texts_into_the_clusters_of_a_run(server: FakeOpenAI, tmp_path: Path) -> None:
    (tmp_path / "new.txt").write_text("late: today\nweather: no\n")
    run("cluster", "-", "--by", "problem", "--model", server.spec, "--out", "o", cwd=tmp_path, input=LINES)
    done = run("assign", "o", "new.txt", "--out", "n", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "assigned to the clusters of an earlier run" in done.stdout
    rows = list(csv.DictReader((tmp_path / "n" / "assignments.csv").open(encoding="utf-8", newline="")))
    assert [row["cluster"] for row in rows] == ["late", ""]
    assert "none of these texts" in done.stdout  # of the cluster "broken"
    assert server.roles_asked()[-1] == "assigner"
    none = run("assign", "nowhere", "new.txt", cwd=tmp_path)
    assert none.returncode == 2
    assert "nowhere holds no finished run" in none.stderr


def test_a_killed_run_goes_on_where_it_was(server: FakeOpenAI, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text(LINES)
    command = ["cluster", "texts.txt", "--by", "problem", "--model", server.spec, "--out", "o"]
    server.behaviour = "slow"
    process = subprocess.Popen([sys.executable, "-m", "cluster_r1", *command], cwd=tmp_path)
    _wait_for(lambda: server.roles_asked()[-1:] == ["critic"])
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert server.roles_asked() == ["proposer", "critic"]
    assert not (tmp_path / "o" / "run.json").exists()
    assert "proposer" in (tmp_path / "o" / "trace.jsonl").read_text()
    server.behaviour = "perfect"
    resumed = run(*command, cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert server.roles_asked() == ["proposer", "critic", "critic"]
    undisturbed = run(*command[:-1], "p", cwd=tmp_path)
    assert undisturbed.returncode == 0
    for name in ("assignments.csv", "clusters.json"):
        assert (tmp_path / "o" / name).read_bytes() == (tmp_path / "p" / name).read_bytes()


def test_ctrl_c_says_how_to_go_on_and_keeps_finished_calls(server: FakeOpenAI, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text(LINES)
    command = ["cluster", "texts.txt", "--by", "problem", "--model", server.spec, "--out", "o"]
    server.behaviour = "slow"
    process = subprocess.Popen(
        [sys.executable, "-m", "cluster_r1", *command], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    _wait_for(lambda: server.roles_asked()[-1:] == ["critic"])
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert said.strip().splitlines()[-1].startswith("cluster-r1: stopped.")
    assert "Traceback" not in said
    server.behaviour = "perfect"
    assert run(*command, cwd=tmp_path).returncode == 0
    assert server.roles_asked().count("proposer") == 1


def test_standard_input_and_json_output(server: FakeOpenAI, tmp_path: Path) -> None:
    done = run("cluster", "-", "--by", "x", "--model", server.spec, "--json", cwd=tmp_path, input=LINES)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert [row["cluster"] for row in result["assignments"]] == ["late", "late", "broken", "broken"]
    assert (tmp_path / "out" / "stdin-by-x" / "run.json").exists()


def test_it_is_quiet_where_there_is_no_terminal(server: FakeOpenAI, tmp_path: Path) -> None:
    done = run("cluster", "-", "--by", "x", "--model", server.spec, cwd=tmp_path, input=LINES)
    assert done.stderr == ""
    assert "\x1b[" not in done.stdout


def test_a_dry_run_sends_and_writes_nothing(server: FakeOpenAI, tmp_path: Path) -> None:
    done = run("cluster", MESSAGES, "--by", "x", "--model", server.spec, "--dry-run", cwd=tmp_path)
    assert done.returncode == 0
    assert "180 texts" in done.stdout
    assert "6 calls" in done.stdout
    assert server.requests == []
    assert not (tmp_path / "out").exists()


def test_a_dry_run_refuses_what_the_run_would_refuse(server: FakeOpenAI, tmp_path: Path) -> None:
    command = ("cluster", "-", "--by", "x", "--model", server.spec, "--out", "o")
    beyond = run(*command, "--dry-run", "--k", "9", cwd=tmp_path, input=LINES)
    assert beyond.returncode == 2
    assert "only 4 different texts" in beyond.stderr
    assert run(*command, cwd=tmp_path, input=LINES).returncode == 0
    taken = run(*command, "--dry-run", "--rounds", "0", cwd=tmp_path, input=LINES)
    assert taken.returncode == 2
    assert "holds another run" in taken.stderr
    assert run(*command, "--dry-run", cwd=tmp_path, input=LINES).returncode == 0


@pytest.mark.parametrize(
    ("model", "lacks"),
    [("openai:gpt-5-mini", "OPENAI_API_KEY"), ("vllm:m@http://127.0.0.1:9", "no vLLM server answers")],
)
def test_a_dry_run_needs_neither_key_nor_server(tmp_path: Path, model: str, lacks: str) -> None:
    done = run("cluster", MESSAGES, "--by", "x", "--model", model, "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "6 calls" in done.stdout
    assert lacks in done.stderr
    assert (
        run("cluster", MESSAGES, "--by", "x", "--model", "opnai:x", "--dry-run", cwd=tmp_path).returncode == 2
    )


def test_the_table_is_compact_and_says_which_column_was_read(tmp_path: Path) -> None:
    done = run("cluster", MESSAGES, "--by", "product", "--out", "o", cwd=tmp_path)
    lines = done.stdout.rstrip().splitlines()
    clusters = json.loads((tmp_path / "o" / "clusters.json").read_text())["clusters"]
    assert len(lines) <= len(clusters) + 8
    assert "180 texts (column message)" in done.stdout
    assert "The model answers" not in done.stdout
    words = run("cluster", MESSAGES, "--by", "product", "--model", "embedding", "--out", "e", cwd=tmp_path)
    assert "Shared words" not in words.stdout
    assert "no review" in done.stdout
    one = run("cluster", "-", "--by", "x", "--out", "p", cwd=tmp_path, input="hello\n")
    assert "1 cluster of 1 text ·" in one.stdout


def test_a_csv_without_a_header_is_read_with_a_warning(tmp_path: Path) -> None:
    (tmp_path / "texts.csv").write_text("my parcel is late\nthe lock is broken\nwhere is my order\n")
    done = run("cluster", "texts.csv", "--by", "x", "--model", "embedding", cwd=tmp_path)
    assert done.stderr.startswith(
        "warning: texts.csv: the first line 'my parcel is late' was read as the header"
    )
    assert "(column my parcel is late)" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["cluster", "x.csv", "--by", "y", "--rounds", "-1"], "equal to 0. `cluster-r1 cluster --help` says"),
        (["trace"], "Missing argument 'folder'. `cluster-r1 trace --help` says more"),
        (["cluter"], "No such command 'cluter'"),
    ],
)
def test_a_wrong_command_is_answered_with_the_help_that_helps(
    tmp_path: Path, arguments: list[str], said: str
) -> None:
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert said in line


def test_without_a_command_the_help_is_all_that_is_said(tmp_path: Path) -> None:
    done = run(cwd=tmp_path)
    assert done.returncode == 2
    assert "Usage" in done.stdout + done.stderr
    assert "error" not in done.stderr


def test_limit_reads_the_first_texts(tmp_path: Path) -> None:
    assert run("cluster", MESSAGES, "--by", "x", "--limit", "7", "--out", "o", cwd=tmp_path).returncode == 0
    assert [row["id"] for row in rows_of(tmp_path / "o")] == [f"T{n:03}" for n in range(1, 8)]


@pytest.mark.parametrize(
    ("content", "arguments", "code", "message"),
    [
        ("a,b\n1,2\n", ["--text", "c"], 2, "'a', 'b'"),
        ("a,b\n1,2\n", [], 2, "--text COLUMN"),
        ("text\nx\n", ["--k", "0"], 2, "k is '0'"),
        ("text\nx\n", ["--k", "many"], 2, "4..12"),
        ("text\nx\n", ["--by", " "], 2, "--by is empty"),
        ("text\nx\n", ["--model", "nonsense"], 2, "not understood"),
        ("text\nx\n", ["--model", "openai:gpt-5-mini"], 2, "OPENAI_API_KEY"),
        ("text\nx\n", ["--model", "anthropic:claude"], 2, "ANTHROPIC_API_KEY"),
        ("text\nx\n", ["--model", "checkpoint:x"], 2, "no such folder"),
        ("text\nx\n", ["--model", "local:missing.gguf"], 2, "no such file"),
        ("text\nx\n", ["--model", "vllm:m@http://127.0.0.1:9"], 3, "no vLLM server answers"),
        ("text\nx\n", ["--rounds", "-1"], 2, "rounds"),
        ("text\nx\n", ["--nonsense"], 2, "--help"),
        ("", [], 2, "empty"),
    ],
)
def test_bad_input_gets_one_clear_line(
    tmp_path: Path, content: str, arguments: list[str], code: int, message: str
) -> None:
    (tmp_path / "texts.csv").write_text(content)
    by = [] if "--by" in arguments else ["--by", "x"]
    done = run("cluster", "texts.csv", *by, *arguments, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error")]
    assert message in line
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_budget_too_small_is_exit_code_4(server: FakeOpenAI, tmp_path: Path) -> None:
    done = run(
        "cluster", MESSAGES, "--by", "x", "--model", server.spec, "--budget-tokens", "50", cwd=tmp_path
    )
    assert done.returncode == 4
    assert "--budget-tokens" in done.stderr
    assert server.requests == []


def test_a_model_that_never_answers_is_exit_code_3_and_still_writes_the_cover(
    server: FakeOpenAI, tmp_path: Path
) -> None:
    server.behaviour = "garbage"
    done = run("cluster", "-", "--by", "x", "--model", server.spec, "--out", "o", cwd=tmp_path, input=LINES)
    assert done.returncode == 3
    assert "run again with --seed 1 --overwrite to ask anew" in done.stderr
    rows = rows_of(tmp_path / "o")
    assert len(rows) == 4
    assert all(row["cluster_id"] == "" and row["reason"] for row in rows)


def test_no_cell_of_the_csv_is_a_formula(server: FakeOpenAI, tmp_path: Path) -> None:
    lines = "late: =1+1\n=HYPERLINK(1): x\n+49: y\n@x: z\n-1: z\n"
    done = run("cluster", "-", "--by", "x", "--model", server.spec, "--out", "o", cwd=tmp_path, input=lines)
    assert done.returncode == 0, done.stderr
    for row in rows_of(tmp_path / "o"):
        assert not any(cell.startswith(("=", "+", "-", "@")) for cell in row.values())
    loaded = ClusteringResult.load(tmp_path / "o")
    assert [text.text for text in loaded.texts] == lines.splitlines()


def test_windows_1252_and_strange_texts_are_read(server: FakeOpenAI, tmp_path: Path) -> None:
    strange = 'id,text\r\n1,"late: caf\xe9"\r\n2,"broken: two\r\nlines"\r\n3,\r\n'
    (tmp_path / "w.csv").write_bytes(strange.encode("cp1252"))
    done = run("cluster", "w.csv", "--by", "x", "--model", server.spec, "--out", "o", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Windows-1252" in done.stderr
    assert [row["text"] for row in rows_of(tmp_path / "o")] == ["late: café", "broken: two\r\nlines", ""]


def test_models_says_what_runs_here_and_what_is_missing(tmp_path: Path) -> None:
    done = run("models", cwd=tmp_path, env=os.environ | {"COLUMNS": "160"})
    assert done.returncode == 0
    assert "embedding" in done.stdout
    assert "the variable OPENAI_API_KEY" in done.stdout
    wrong = run("models", cwd=tmp_path, env=os.environ | {"COLUMNS": "160", "CLUSTER_R1_MODEL": "foo"})
    assert "CLUSTER_R1_MODEL names no model: model 'foo' is not understood" in wrong.stdout


def test_trace_of_no_run_is_refused(tmp_path: Path) -> None:
    done = run("trace", ".", cwd=tmp_path)
    assert done.returncode == 2
    assert "trace.jsonl" in done.stderr


def test_help_and_import_load_nothing_heavy(tmp_path: Path) -> None:
    heavy = "{'langchain_core', 'langgraph', 'torch', 'sklearn', 'pandas', 'numpy', 'openai'}"
    script = (
        f"import sys, cluster_r1; loaded = {heavy} & set(sys.modules); assert not loaded, loaded\n"
        "sys.argv = ['cluster-r1', '--help']\n"
        "from cluster_r1.cli import main\n"
        "try: main()\n"
        f"except SystemExit: assert not {heavy} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Exit codes" in done.stdout


def _wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not happen within 30 s"
        time.sleep(0.01)
