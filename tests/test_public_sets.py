"""Public sets: the named ones, their rows as labelled texts, their tasks, a hub, and the command."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pyarrow
import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from cluster_r1.benchmark.hub_sets import HubSet, hub_sets, read_hub_set
from cluster_r1.benchmark.labelled_tasks import labelled_tasks
from cluster_r1.benchmark.task_sets import siblings
from cluster_r1.cli import app
from cluster_r1.errors import ClusterR1Error, InputError
from cluster_r1.json_lines import write_json_lines
from cluster_r1.task import Task, read_tasks
from cluster_r1.training.labelled import Attribute, LabelledSet, LabelledText, read_labelled
from cluster_r1.training.toy_set import toy_set

SETS = hub_sets()


def write_parquet(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)


def write_csv(path: Path, what: str, count: int = 60) -> None:
    """As InBedder's sets are: the same articles, labelled for one thing each."""
    lines = [f'"article {number}, with commas",{what} {number % 3},test\n' for number in range(count)]
    path.write_text("text,cluster,split\n" + "".join(lines), encoding="utf-8")


def chat(number: int, language: str) -> dict[str, Any]:
    turns = [{"role": "user", "content": f"hello {number}"}, {"role": "assistant", "content": "yes?"}]
    return {"conversation": turns, "language": language}


def labelled(rows: Sequence[Mapping[str, str]], **names: Mapping[str, str]) -> LabelledSet:
    """Rows of labels, with numbered texts."""
    attributes = {
        name: Attribute(criterion=name, instructions=(f"by {name}",)) for row in rows for name in row
    }
    for name, readable in names.items():
        attributes[name] = attributes[name].model_copy(update={"names": readable})
    return LabelledSet(
        corpus="made",
        licence="CC0-1.0",
        source="this test",
        attributes=attributes,
        rows=tuple(
            LabelledText(id=f"r{number}", text=f"text {number}", labels=labels)
            for number, labels in enumerate(rows)
        ),
    )


def ids(task: Task) -> list[str]:
    return [text.id for text in task.texts]


@pytest.mark.parametrize("name", SETS)
def test_a_named_set_says_what_reading_it_takes(name: str) -> None:
    named = SETS[name]
    assert re.fullmatch(r"[\w.-]+/[\w.-]+", named.path)
    assert named.licence
    assert "https://" in named.source
    for attribute in named.attributes.values():
        wordings = attribute.instructions
        assert len(set(wordings)) == len(wordings) >= 3
        assert attribute.pattern is None or re.compile(attribute.pattern).groups >= 1


def test_the_files_of_the_named_sets_are_named_like_them() -> None:
    folder = Path(__file__).parent.parent / "benchmark" / "hub"
    assert {path.stem for path in folder.iterdir()} == set(SETS)


def test_facts_become_one_text_and_cases_with_several_articles_have_no_label(tmp_path: Path) -> None:
    rows = [
        {"text": [f"1. Fact {n}.", "2. Another."], "labels": [3] if n % 2 else [1] if n % 4 else [1, 3]}
        for n in range(40)
    ]
    write_parquet(tmp_path / "ecthr_a" / "test-00000-of-00001.parquet", rows)
    write_parquet(tmp_path / "ecthr_a" / "train-00000-of-00001.parquet", [{"text": ["No."], "labels": [0]}])
    read = read_hub_set(SETS["ecthr_a"], rows=100, source=tmp_path)
    assert Counter(row.labels["violated"] for row in read.rows) == {"3": 20, "1": 10}
    assert all(re.fullmatch(r"1\. Fact \d+\.\n2\. Another\.", row.text) for row in read.rows)
    (task,) = labelled_tasks(read)
    assert task.id == "ecthr_a/violated"
    assert set(task.labels) == {"article 6: fair trial", "article 3: torture and inhuman treatment"}
    assert task.meta == {
        "attribute": "violated",
        "topical": True,
        "licence": "CC-BY-4.0",
        "source": SETS["ecthr_a"].source,
    }


def test_rows_of_lists_are_opened_and_only_as_many_as_are_needed(tmp_path: Path) -> None:
    rows = [
        {
            "sentences": [f"subject {row} {n}" for n in range(50)],
            "labels": [n % 4 + 16 * (row > 0) for n in range(50)],
        }
        for row in range(3)
    ]
    packed = "\n".join(map(json.dumps, rows)).encode()
    (tmp_path / "test.jsonl.gz").write_bytes(gzip.compress(packed))
    named = SETS["twenty_newsgroups"]
    read = read_hub_set(named, rows=40, source=tmp_path)
    assert len(read.rows) == 40
    assert {row.labels["newsgroup"] for row in read.rows} == {"0", "1", "2", "3"}
    assert read == read_hub_set(named, rows=40, source=tmp_path)
    assert read != read_hub_set(named, rows=40, source=tmp_path, seed=1)
    assert len(read_hub_set(named, rows=1000, source=tmp_path).rows) == 150
    assert "alt.atheism" in labelled_tasks(read)[0].labels


def test_rows_without_lists_are_read_as_they_stand(tmp_path: Path) -> None:
    rows = [{"sentences": f"title {n}", "labels": "math.CO" if n % 2 else "other"} for n in range(20)]
    (tmp_path / "test.json").write_text(json.dumps(rows), encoding="utf-8")
    read = read_hub_set(SETS["arxiv"], rows=100, source=tmp_path / "test.json")
    assert Counter(row.labels["archive"] for row in read.rows) == {"math": 10}


def test_lists_of_different_lengths_are_refused(tmp_path: Path) -> None:
    write_json_lines(tmp_path / "test.jsonl", [{"sentences": ["a", "b"], "labels": [1]}])
    with pytest.raises(InputError, match="'sentences', 'labels' of a row differ in length"):
        read_hub_set(SETS["reddit"], rows=10, source=tmp_path)


def test_configurations_meet_on_their_texts(tmp_path: Path) -> None:
    write_csv(tmp_path / "topic.csv", "subject")
    write_csv(tmp_path / "location.csv", "country")
    read = read_hub_set(SETS["nyt"], rows=100, source=tmp_path)
    assert len(read.rows) == 60
    topic, location = labelled_tasks(read, texts=30)
    assert ids(topic) == ids(location)
    assert len(topic.texts) == 30
    assert set(siblings(topic, [topic, location])) == {"nyt/location"}
    assert len(topic.paraphrases) == 4
    assert set(location.labels) == {"country 0", "country 1", "country 2"}
    only = read_hub_set(SETS["nyt"], rows=100, source=tmp_path / "topic.csv")
    assert set(only.attributes) == {"topic"}
    (tmp_path / "topic.csv").rename(tmp_path / "a.csv")
    with pytest.raises(InputError, match=r"no file of .* names topic or location: keep the names"):
        read_hub_set(SETS["nyt"], rows=100, source=tmp_path / "a.csv")


def test_sections_become_rows_without_their_headings(tmp_path: Path) -> None:
    sections = SETS["edgar_10k"].unpivot
    for year, split in (("year_2020", "test"), ("year_2020", "train")):
        rows = [
            {name: f"Item {name}. " + f"{split} {n} says. " * 60 for name in sections}
            | {"section_3": "None."}
            for n in range(5)
        ]
        write_parquet(tmp_path / year / split / "0000.parquet", rows)
    read = read_hub_set(SETS["edgar_10k"], rows=1000, source=tmp_path)
    assert not any("Item" in row.text or "train" in row.text for row in read.rows)
    assert "section_3" not in {row.labels["section"] for row in read.rows}


def test_a_path_leads_into_a_column(tmp_path: Path) -> None:
    rows = [chat(number, "German" if number % 2 else "English") for number in range(20)]
    write_json_lines(tmp_path / "train.jsonl", [*rows, {"conversation": [], "language": "Welsh"}])
    read = read_hub_set(SETS["wildchat"], rows=100, source=tmp_path)
    assert {row.text for row in read.rows} == {f"hello {number}" for number in range(20)}


def test_a_filter_drops_rows(tmp_path: Path) -> None:
    rows = [
        {"text": f"message {n}", "role": "prompter", "lang": "pt-BR", "deleted": n % 2 == 0}
        for n in range(20)
    ]
    write_parquet(tmp_path / "validation.parquet", rows)
    read = read_hub_set(SETS["oasst"], rows=100, source=tmp_path)
    assert len(read.rows) == 10
    assert labelled_tasks(read) == []


def test_equal_texts_are_one_and_the_rows_are_drawn_by_seed(tmp_path: Path) -> None:
    write_json_lines(
        tmp_path / "test.jsonl", [{"text": f"t{n % 50}", "cluster": f"c{n % 2}"} for n in range(100)]
    )
    named = SETS["feedbacks"].model_copy(update={"buffer": 10})
    assert len(read_hub_set(named, rows=100, source=tmp_path).rows) == 50
    first = read_hub_set(named, rows=20, source=tmp_path)
    assert first == read_hub_set(named, rows=20, source=tmp_path)
    assert first != read_hub_set(named, rows=20, source=tmp_path, seed=1)
    assert len({row.id for row in first.rows}) == 20


def test_what_is_wrong_with_a_copy_is_one_line(tmp_path: Path) -> None:
    named = SETS["feedbacks"]

    def said(source: Path, read: HubSet = named) -> str:
        with pytest.raises(InputError) as raised:
            read_hub_set(read, rows=10, source=source)
        assert "\n" not in str(raised.value)
        return str(raised.value)

    write_json_lines(tmp_path / "test.jsonl", [{"text": "a", "topic": "b"}])
    assert "no column 'cluster'; there are 'text', 'topic'" in said(tmp_path)
    assert "there is no" in said(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    assert "holds no JSONL, JSON, CSV or Parquet file" in said(tmp_path / "empty")
    write_json_lines(tmp_path / "test.jsonl", [{"text": "a", "cluster": None}])
    assert "no row that was read has a text and a label" in said(tmp_path)
    write_json_lines(tmp_path / "test.jsonl", [{"text": "a", "cluster": ["b"]}])
    assert "holds lists" in said(tmp_path)
    for name in ("cut.parquet", "cut.jsonl.gz", "cut.json"):
        (tmp_path / name).write_bytes(b"[PAR1 and no more")
        assert name in said(tmp_path / name)


def test_all_attributes_have_the_same_texts_and_no_label_stands_alone() -> None:
    made = toy_set()
    rows = [*made.rows, LabelledText(id="odd", text="odd", labels=dict.fromkeys(made.attributes, "odd"))]
    tasks = labelled_tasks(made.model_copy(update={"rows": tuple(rows)}), texts=145)
    assert [task.id for task in tasks] == ["toy/colour", "toy/thing", "toy/state", "toy/place"]
    assert {tuple(ids(task)) for task in tasks} == {tuple(ids(tasks[0]))}
    assert len(tasks[0].texts) == 144
    assert all(set(task.reference) == set(ids(task)) for task in tasks)
    assert len(siblings(tasks[0], tasks)) == 3


def test_equal_seeds_make_equal_tasks_and_others_do_not() -> None:
    assert labelled_tasks(toy_set(), texts=40) == labelled_tasks(toy_set(), texts=40)
    assert labelled_tasks(toy_set(), texts=40) != labelled_tasks(toy_set(), texts=40, seed=1)


def test_attributes_that_few_rows_share_have_samples_of_their_own() -> None:
    rows = [{"a": f"x{n % 2}"} if n % 3 else {"b": f"y{n % 2}"} for n in range(60)]
    a, b = labelled_tasks(labelled(rows), texts=10)
    assert len(a.texts) == len(b.texts) == 10
    assert not set(ids(a)) & set(ids(b))


def test_an_attribute_of_single_labels_does_not_spoil_the_others() -> None:
    rows = [{"a": f"x{n % 2}", "code": str(n)} for n in range(20)]
    (task,) = labelled_tasks(labelled(rows))
    assert task.id == "made/a"
    assert len(task.texts) == 20


def test_labels_read_as_a_person_writes_them_and_empty_ones_are_none() -> None:
    rows = [{"a": ("X_ONE", "y", " ")[n % 3]} for n in range(30)]
    (task,) = labelled_tasks(labelled(rows, a={"y": "the Y"}))
    assert Counter(task.labels) == {"x one": 10, "the Y": 10}


def test_two_rows_with_one_id_are_refused() -> None:
    made = toy_set()
    with pytest.raises(InputError, match=r"two rows have the id 'toy-000'"):
        labelled_tasks(made.model_copy(update={"rows": (*made.rows, made.rows[0])}))


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as reading the files of one set takes."""

    protocol_version = "HTTP/1.1"
    files: Mapping[str, bytes] = {}
    status = 200

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if path == "/":
            self._answer(200)
        elif self.status != 200:
            self._answer(self.status, X_Error_Code="GatedRepo" if self.status == 401 else "RepoNotFound")
        elif match := re.fullmatch(r"/datasets/[^/]+/[^/]+/resolve/[^/]+/(.+)", path):
            self._send_file(match[1])
        elif re.fullmatch(r"/api/datasets/[^/]+/[^/]+/tree/.+", path):
            self._answer(200, [self._entry(name) for name in self.files])
        else:
            self._answer(200, {"id": "some/set", "sha": "a" * 40, "siblings": []})

    def do_POST(self) -> None:
        asked = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())["paths"]
        self._answer(200, [self._entry(name) for name in asked if name in self.files])

    def _entry(self, name: str) -> dict[str, Any]:
        data = self.files[name]
        return {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}

    def _send_file(self, name: str) -> None:
        if name not in self.files:
            return self._answer(404, X_Error_Code="EntryNotFound")
        data = self.files[name]
        head = {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "Accept_Ranges": "bytes"}
        if match := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, end = int(match[1]), min(int(match[2] or len(data)), len(data) - 1)
            head["Content_Range"] = f"bytes {start}-{end}/{len(data)}"
            return self._answer(206, data[start : end + 1], **head)
        return self._answer(200, data, **head)

    def _answer(self, status: int, body: Any = b"", **head: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in ({"X_Repo_Commit": "a" * 40, "Content_Length": str(len(data))} | head).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


@contextmanager
def running_hub(files: Mapping[str, bytes], status: int = 200) -> Iterator[str]:
    """The address of a hub with one set."""
    handler = type("HubOfOneSet", (Hub,), {"files": files, "status": status})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def fetch(name: str, folder: Path, endpoint: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The command with a hub of its own, whose address is read when Python starts."""
    environment = {
        **os.environ,
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(folder / "hub-cache"),
        "HF_UPDATE_DOWNLOAD_COUNTS": "0",
        "NO_PROXY": "127.0.0.1",
        **variables,
    }
    command = [sys.executable, "-m", "cluster_r1", "bench", "fetch", name, "--out", str(folder / "t.jsonl")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def test_a_set_is_read_from_a_hub(tmp_path: Path) -> None:
    card = "".join(
        f"- config_name: {name}\n  data_files:\n  - split: test\n    path: {name}.csv\n"
        for name in ("topic", "location")
    )
    files = {"README.md": f"---\nconfigs:\n{card}---\n".encode()}
    for name in ("topic", "location"):
        write_csv(tmp_path / f"{name}.csv", name)
        files[f"{name}.csv"] = (tmp_path / f"{name}.csv").read_bytes()
    with running_hub(files) as endpoint:
        done = fetch("nyt", tmp_path, endpoint)
    assert done.returncode == 0, done.stderr
    topic, location = read_tasks(tmp_path / "t.jsonl")
    assert ids(topic) == ids(location)
    assert len(topic.texts) == 60
    assert set(topic.labels) == {"topic 0", "topic 1", "topic 2"}


@pytest.mark.parametrize(
    ("status", "cause"), [(401, "the hub wants a login for it"), (404, "doesn't exist on the Hub")]
)
def test_what_the_hub_refuses_is_one_line(tmp_path: Path, status: int, cause: str) -> None:
    with running_hub({}, status) as endpoint:
        done = fetch("feedbacks", tmp_path, endpoint)
    assert done.returncode == 2
    assert cause in done.stderr
    assert done.stderr.count("\n") == 1
    assert "--from FOLDER" in done.stderr
    assert ("set HF_TOKEN" in done.stderr) == (status == 401)


def test_a_hub_out_of_reach_is_one_line_with_the_remedy(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
    done = fetch("nyt", tmp_path, endpoint)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: nyt: the hub cannot be reached ({endpoint}: ")
    assert done.stderr.endswith(
        "download BrandonZYW/NYTClustering elsewhere and give it with --from FOLDER\n"
    )
    assert done.stderr.count("\n") == 1
    offline = fetch("nyt", tmp_path, endpoint, HF_HUB_OFFLINE="1")
    assert "the hub cannot be reached (HF_HUB_OFFLINE is set)" in offline.stderr


def invoke(*arguments: str | Path) -> str:
    done = CliRunner().invoke(app, ["bench", *map(str, arguments)])
    if isinstance(done.exception, ClusterR1Error):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def test_the_command_writes_tasks_of_a_labelled_file_that_can_be_run(tmp_path: Path) -> None:
    write_json_lines(tmp_path / "toy.jsonl", toy_set().rows)
    out = tmp_path / "new folder" / "tasks.jsonl"
    said = invoke("fetch", tmp_path / "toy.jsonl", "--out", out, "--texts", "24", "--seed", "3")
    assert said == f"{out}: 4 tasks, 24 texts; to run: cluster-r1 bench run --tasks '{out}'\n"
    assert read_tasks(out) == labelled_tasks(read_labelled(tmp_path / "toy.jsonl"), texts=24, seed=3)
    assert "4 tasks, 24 texts, usable" in invoke("validate", out)
    invoke("run", "--tasks", out, "--systems", "random", "--out", tmp_path / "bench")
    assert (tmp_path / "bench" / "table.md").is_file()


def test_the_command_reads_a_copy_and_says_what_it_left_out(tmp_path: Path) -> None:
    rows = [{"text": f"m{n}", "role": "prompter", "lang": f"l{n % 2}", "deleted": False} for n in range(20)]
    write_parquet(tmp_path / "validation.parquet", rows)
    said = invoke("fetch", "oasst", "--out", tmp_path / "t.jsonl", "--from", tmp_path)
    assert "left out, with fewer than two labels in the sample: role" in said
    assert "1 task, 20 texts" in said


def test_the_command_lists_the_named_sets() -> None:
    lines = invoke("fetch", "--list").splitlines()
    assert len(lines) == len(SETS)
    assert re.fullmatch(
        r"nyt +BrandonZYW/NYTClustering +MIT +topic, location", lines[list(SETS).index("nyt")]
    )


def test_the_command_refuses_what_it_cannot_fetch(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="name a set and where to write"):
        invoke("fetch", "nyt")
    with pytest.raises(InputError, match="neither a labelled file nor a named set: name one of arxiv"):
        invoke("fetch", "nought", "--out", tmp_path / "t.jsonl")
    write_json_lines(tmp_path / "l.jsonl", [{"id": "1", "text": "a", "labels": {"a": "b"}}])
    with pytest.raises(InputError, match="no attribute has two labels"):
        invoke("fetch", tmp_path / "l.jsonl", "--out", tmp_path / "t.jsonl")
    with pytest.raises(InputError, match="leave out --from"):
        invoke("fetch", tmp_path / "l.jsonl", "--out", tmp_path / "t.jsonl", "--from", tmp_path)
    write_json_lines(tmp_path / "toy.jsonl", toy_set().rows)
    with pytest.raises(InputError, match="cannot be written"):
        invoke("fetch", tmp_path / "toy.jsonl", "--out", tmp_path)
