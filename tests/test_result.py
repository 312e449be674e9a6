"""A saved run comes back as it was, opens in a spreadsheet without running anything, and damage is named."""

from __future__ import annotations

import csv
import json
import tempfile
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster_r1.errors import InputError
from cluster_r1.graphs.tracing import read_trace
from cluster_r1.result import FORMAT, ClusteringResult, RunInfo
from cluster_r1.run_folder import ASSIGNMENTS, CLUSTERS, RUN, TRACE, Row, read_rows, write_rows
from cluster_r1.types import Assignment, Cluster, Clustering, Finding, Round, Text, Unassigned, Usage

QUICK = settings(max_examples=80, deadline=None)

INFO = RunInfo(
    run_id="20260101-000000",
    instruction="by =cause\n",
    k="2..3",
    model="embedding",
    max_rounds=2,
    seed=0,
    texts=3,
    input_sha256="0" * 64,
    versions={"cluster-r1": "0.1.0"},
    templates={"clustering/proposer": "1" * 64},
    rounds=(Round(number=0, clusters=2, unassigned=1, findings=(Finding(kind="fine", clusters=("C1",)),)),),
    best_round=0,
    stop_reason="no_critic",
    notes=("a note",),
    usage=Usage(calls=3, cost_usd=0.25),
    seconds={"total": 1.5},
)


def result_of(
    rows: Sequence[tuple[str, str, str | None]],
    names: dict[str, str] | None = None,
    confidence: float | None = 0.9,
    reason: str = "says so",
    **fields: Any,
) -> ClusteringResult:
    """A result of rows (id, text, cluster id or None), clusters in the order of their ids."""
    ids = sorted({cluster for _, _, cluster in rows if cluster is not None})
    clusters = tuple(
        Cluster(
            id=id,
            name=(names or {}).get(id, f"name of {id}"),
            description="d",
            members=tuple(text_id for text_id, _, cluster in rows if cluster == id),
        )
        for id in ids
    )
    return ClusteringResult(
        texts=tuple(Text(id=id, text=text) for id, text, _ in rows),
        clustering=Clustering(
            criterion="c",
            clusters=clusters,
            assignments=tuple(
                Assignment(text_id=id, cluster_id=cluster, confidence=confidence, reason=reason)
                for id, _, cluster in rows
                if cluster is not None
            ),
            unassigned=tuple(
                Unassigned(text_id=id, reason=f"no place: {reason}")
                for id, _, cluster in rows
                if cluster is None
            ),
        ),
        info=INFO.model_copy(update={"texts": len(rows)}),
        **fields,
    )


ROWS = [("a", "first", "C1"), ("b", "second", "C2"), ("c", "third", None), ("d", "fourth", "C2")]


@contextmanager
def folder() -> Iterator[Path]:
    """A new folder for each example of a property."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def assert_same(loaded: ClusteringResult, saved: ClusteringResult) -> None:
    """All that a saved run holds. Clusters come back in the order in which they are shown."""
    assert loaded.texts == saved.texts
    assert loaded.clusters == saved.clusters
    assert loaded.assignments == saved.assignments
    assert loaded.unassigned == saved.unassigned
    assert loaded.info == saved.info
    assert loaded.clustering.criterion == saved.clustering.criterion
    assert loaded.rows() == saved.rows()
    assert loaded.labels.tolist() == saved.labels.tolist()


STARTS = [
    "=1+1",
    "+1",
    "-1",
    "@x",
    "\tx",
    "'",
    "''",
    "'=",
    "''=x",
    "=",
    "＝1",
    "＋",
    '"',
    ",",
    "\n",
    " ",
    ";",
    "é",
]
characters = st.characters(exclude_categories=["Cs"], exclude_characters="\x00\r")
words = st.text(characters, max_size=8) | st.lists(st.sampled_from(STARTS), max_size=3).map("".join)


@QUICK
@given(st.data())
def test_a_saved_run_comes_back_as_it_was(data: st.DataObject) -> None:
    ids = data.draw(st.lists(words, max_size=8, unique=True))
    rows = [(id, data.draw(words), data.draw(st.sampled_from(["C1", "C2", "C10", None]))) for id in ids]
    names = {id: data.draw(words) for id in ("C1", "C2", "C10")}
    confidence = data.draw(st.none() | st.integers(0, 1_000).map(lambda n: n / 1_000))
    saved = result_of(rows, names, confidence, data.draw(words))
    with folder() as place:
        assert saved.save(place) == place
        assert_same(ClusteringResult.load(place), saved)
        with (place / ASSIGNMENTS).open(encoding="utf-8", newline="") as file:
            written = list(csv.reader(file))
    assert [len(cells) for cells in written] == [6] * (len(rows) + 1)
    assert not [
        cell for cells in written for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    ]


@pytest.mark.parametrize("text", ["a\rb", "a\r", "\ra", "a\r\r", "a\r\nb", "\r\n", "a\nb", "\n"])
def test_line_ends_inside_a_text_come_back_as_they_were(tmp_path: Path, text: str) -> None:
    saved = result_of([("a", text, "C1"), ("b", "next", "C1")])
    assert_same(ClusteringResult.load(saved.save(tmp_path)), saved)


@pytest.mark.parametrize("confidence", [0.123456789, 1 / 3, -0.0])
def test_confidences_come_back_as_they_were(tmp_path: Path, confidence: float) -> None:
    saved = result_of([("a", "x", "C1")], confidence=confidence)
    assert_same(ClusteringResult.load(saved.save(tmp_path)), saved)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 1e-7, 0.5])
def test_extreme_confidences_are_kept(tmp_path: Path, confidence: float) -> None:
    saved = result_of([("a", "x", "C1")], confidence=confidence)
    assert_same(ClusteringResult.load(saved.save(tmp_path)), saved)


@QUICK
@given(
    st.lists(
        st.builds(
            Row, id=words, text=words, cluster_id=words, cluster=words, reason=words, confidence=st.none()
        )
    )
)
def test_any_cells_come_back_as_they_were(rows: list[Row]) -> None:
    with folder() as place:
        write_rows(place / ASSIGNMENTS, rows)
        assert read_rows(place / ASSIGNMENTS) == rows


def test_a_cell_beyond_the_usual_limit_comes_back(tmp_path: Path) -> None:
    saved = result_of([("a", "long, " * 50_000, "C1")])
    assert_same(ClusteringResult.load(saved.save(tmp_path / "new" / "deep")), saved)


def test_half_a_surrogate_pair_does_not_cost_the_file(tmp_path: Path) -> None:
    saved = result_of([("a", "x\ud83d", "C1")])
    assert ClusteringResult.load(saved.save(tmp_path)).texts[0].text == "x?"


def test_saving_again_replaces_the_run_and_leaves_no_drafts(tmp_path: Path) -> None:
    result_of(ROWS).save(tmp_path)
    saved = result_of(ROWS[:2])
    assert_same(ClusteringResult.load(saved.save(tmp_path)), saved)
    assert {path.name for path in tmp_path.iterdir()} == {ASSIGNMENTS, CLUSTERS, RUN}


def test_another_run_in_the_folder_is_replaced_only_when_asked(tmp_path: Path) -> None:
    saved = result_of(ROWS)
    saved.save(tmp_path)
    other = replace(saved, info=saved.info.model_copy(update={"run_id": "another"}))
    with pytest.raises(InputError, match="overwrite=True"):
        other.save(tmp_path)
    assert_same(ClusteringResult.load(tmp_path), saved)
    assert_same(ClusteringResult.load(other.save(tmp_path, overwrite=True)), other)


@pytest.mark.parametrize("held", ["{", "[]", "\xff"])
def test_a_run_that_cannot_be_read_is_replaced_only_when_asked(tmp_path: Path, held: str) -> None:
    (tmp_path / RUN).write_text(held, encoding="latin-1")
    with pytest.raises(InputError, match="overwrite=True"):
        result_of(ROWS).save(tmp_path)
    result_of(ROWS).save(tmp_path, overwrite=True)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot be made"):
        result_of(ROWS).save(tmp_path / "file" / "deep")


def test_a_result_shows_itself_in_one_line_and_as_a_table_without_running_anything() -> None:
    result = result_of(ROWS, names={"C1": "<script>alert(1)</script>", "C2": "a & b"})
    assert repr(result) == "ClusteringResult(2 clusters of 4 texts, model='embedding')"
    table = result._repr_html_()
    assert "<script>" not in table
    assert "&lt;script&gt;" in table
    assert "a &amp; b" in table
    assert "in no cluster" in table


def test_no_trace_of_an_earlier_run_stays_beside_a_new_one(tmp_path: Path) -> None:
    result_of(ROWS, trace=[{"name": "propose"}]).save(tmp_path)
    result_of(ROWS[:2]).save(tmp_path)
    assert not (tmp_path / TRACE).exists()


def test_the_trace_is_saved_one_record_a_line(tmp_path: Path) -> None:
    trace = [{"name": "propose", "inputs": "a\nb"}, {"name": "check", "seconds": 0.5}]
    result_of(ROWS, trace=trace).save(tmp_path)
    assert read_trace(tmp_path / TRACE) == trace


def test_a_trace_with_unusual_line_ends_in_texts_is_read_whole(tmp_path: Path) -> None:
    trace = [{"name": "propose", "inputs": "a\u2028b\x85c"}, {"name": "check"}]
    result_of(ROWS, trace=trace).save(tmp_path)
    assert read_trace(tmp_path / TRACE) == trace


def test_labels_count_clusters_from_the_largest_in_input_order() -> None:
    result = result_of(ROWS)
    assert [cluster.id for cluster in result.clusters] == ["C2", "C1"]
    assert result.labels.tolist() == [1, 0, -1, 0]
    assert result.n_clusters == 2
    assert [result.clusters[label].id for label in result.labels if label >= 0] == ["C1", "C2", "C2"]


def test_rows_are_the_input_with_its_places() -> None:
    rows = result_of(ROWS).rows()
    assert [(row.id, row.text) for row in rows] == [(id, text) for id, text, _ in ROWS]
    assert rows[0] == Row(
        id="a", text="first", cluster_id="C1", cluster="name of C1", confidence=0.9, reason="says so"
    )


def test_an_unassigned_text_has_no_cluster_and_a_reason(tmp_path: Path) -> None:
    result = result_of(ROWS)
    expected = Row(
        id="c", text="third", cluster_id="", cluster="", confidence=None, reason="no place: says so"
    )
    assert result.rows()[2] == expected
    assert ClusteringResult.load(result.save(tmp_path)).rows()[2] == expected


def test_plain_data_is_json_and_says_everything() -> None:
    plain = json.loads(json.dumps(result_of(ROWS).to_json()))
    assert [entry["size"] for entry in plain["clusters"]["clusters"]] == [2, 1]
    assert plain["clusters"]["unassigned"] == [{"text_id": "c", "reason": "no place: says so"}]
    assert [row["id"] for row in plain["assignments"]] == ["a", "b", "c", "d"]
    assert RunInfo.model_validate(plain["run"]) == INFO.model_copy(update={"texts": 4})


@pytest.mark.parametrize(
    "index",
    [
        None,
        [7, 5, 9, 6],
        ["p", "q", "r", "s"],
        [("p", 1), ("p", 2), ("q", 1), ("q", 2)],
        list(pd.date_range("2026-01-01", periods=4, tz="Europe/Berlin")),
        [0.5, 1.5, 2.5, 3.5],
        ["p", 1, None, 2.5],
    ],
    ids=["none", "int", "str", "tuple", "dates", "float", "mixed"],
)
def test_a_frame_has_the_callers_index(index: list[Hashable] | None) -> None:
    frame = result_of(ROWS, index=index).to_frame()
    assert list(frame.index) == (index or [0, 1, 2, 3])
    assert list(frame.columns) == ["id", "text", "cluster_id", "cluster", "confidence", "reason"]
    assert frame["text"].tolist() == ["first", "second", "third", "fourth"]
    assert frame["confidence"].isna().tolist() == [False, False, True, False]


def test_a_frame_of_nothing_has_all_columns() -> None:
    assert list(result_of([]).to_frame().columns) == list(Row.model_fields)


def test_a_run_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    result_of(ROWS).save(tmp_path)
    edit_json(tmp_path / RUN, lambda run: {**run, "format": FORMAT + 1, "more": "than is known"})
    with pytest.raises(InputError, match=r"newer version\. Upgrade"):
        ClusteringResult.load(tmp_path)


def edit_json(path: Path, change: Callable[[Any], Any]) -> None:
    path.write_text(json.dumps(change(json.loads(path.read_text(encoding="utf-8")))), encoding="utf-8")


def edit_text(path: Path, change: Callable[[str], str]) -> None:
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")


Damage = Callable[[Path], Any]
DAMAGES: dict[str, Damage] = {
    "no run.json": lambda place: (place / RUN).unlink(),
    "no clusters.json": lambda place: (place / CLUSTERS).unlink(),
    "no assignments.csv": lambda place: (place / ASSIGNMENTS).unlink(),
    "run.json cut off": lambda place: edit_text(place / RUN, lambda text: text[:-9]),
    "clusters.json empty": lambda place: (place / CLUSTERS).write_bytes(b""),
    "run.json not UTF-8": lambda place: (place / RUN).write_bytes(b"\xff\xfe{}"),
    "assignments.csv not UTF-8": lambda place: (place / ASSIGNMENTS).write_bytes(b"id,text\n\xff,\xfe\n"),
    "run.json a list": lambda place: (place / RUN).write_text("[]"),
    "run.json lacks a field": lambda place: edit_json(place / RUN, lambda run: {"format": 1}),
    "run.json has a wrong type": lambda place: edit_json(place / RUN, lambda run: {**run, "seed": "many"}),
    "clusters.json a list": lambda place: (place / CLUSTERS).write_text("[]"),
    "clusters.json null": lambda place: (place / CLUSTERS).write_text("null"),
    "clusters.json lacks clusters": lambda place: edit_json(place / CLUSTERS, lambda it: {"criterion": ""}),
    "a cluster without a name": lambda place: edit_json(
        place / CLUSTERS, lambda it: {**it, "clusters": [{"id": "C1", "members": []}]}
    ),
    "no header": lambda place: edit_text(place / ASSIGNMENTS, lambda text: text.partition("\n")[2]),
    "another table": lambda place: (place / ASSIGNMENTS).write_text("id,text\n1,x\n"),
    "a cell too few": lambda place: edit_text(place / ASSIGNMENTS, lambda text: text + "x,y\n"),
    "a cell too many": lambda place: edit_text(place / ASSIGNMENTS, lambda text: text + "x,y,,,,r,z\n"),
    "confidence no number": lambda place: edit_text(
        place / ASSIGNMENTS, lambda text: text.replace("0.9", "sure")
    ),
    "format no number": lambda place: edit_json(place / RUN, lambda run: {**run, "format": "1"}),
    "clusters are strings": lambda place: edit_json(place / CLUSTERS, lambda it: {**it, "clusters": ["C1"]}),
    "a row lost": lambda place: edit_text(place / ASSIGNMENTS, lambda text: text[: text.rindex("d,fourth")]),
    "all rows lost": lambda place: (place / ASSIGNMENTS).write_bytes(b""),
    "a cluster lost": lambda place: edit_json(
        place / CLUSTERS, lambda it: {**it, "clusters": it["clusters"][:1]}
    ),
    "a text twice": lambda place: edit_text(place / ASSIGNMENTS, lambda text: text.replace("b,", "a,")),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damage_is_named_by_file_in_one_error(tmp_path: Path, damage: Damage) -> None:
    result_of(ROWS).save(tmp_path)
    damage(tmp_path)
    with pytest.raises(InputError, match=str(tmp_path)):
        ClusteringResult.load(tmp_path)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        ClusteringResult.load(tmp_path / "nowhere")
