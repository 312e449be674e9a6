"""What becomes of a run: new texts, new clusters, changes by hand; the files say all of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cluster_r1 import BudgetError, ClusteringAgent, ClusteringResult, Edit, InputError, Text
from cluster_r1.editing import edit_run, edited_run, mended_run, recorded_edits, undo_edit
from cluster_r1.growth import with_own_ids
from cluster_r1.run_folder import ASSIGNMENTS, CHANGES, CLUSTERS, EDITS, RUN, TRACE
from tests.fakes.openai_server import FakeOpenAI, Reply
from tests.test_cli import run as run_cli
from tests.test_corpus import agent_of, agreement, assert_exact_cover, corpus


@pytest.fixture
def run(server: FakeOpenAI, tmp_path: Path) -> ClusteringResult:
    """Sixty texts about five topics, and one that the model puts nowhere."""

    def nowhere(role: str, answer: dict[str, Any], call: int) -> Reply:
        if role == "proposer":
            lost = {c["id"] for c in answer["clusters"] if c["name"] == "weather"}
            for entry in answer["assignments"]:
                entry["cluster"] = "none" if entry["cluster"] in lost else entry["cluster"]
        return Reply(json.dumps(answer))

    server.behaviour = nowhere
    result = agent_of(server).cluster([*corpus(60), "weather: rain"], "by problem")
    server.behaviour = "perfect"
    assert [text.text_id for text in result.unassigned] == ["60"]
    result.save(tmp_path / "run")
    return ClusteringResult.load(tmp_path / "run")


def assert_same(one: ClusteringResult, other: ClusteringResult) -> None:
    """The order of clusters is not kept in files, which list the largest first."""
    assert {cluster.id: cluster for cluster in one.clusters} == {c.id: c for c in other.clusters}
    assert one.assignments == other.assignments
    assert one.unassigned == other.unassigned


# --- update ---


def test_an_update_keeps_what_there_is_and_adds_what_is_new(
    server: FakeOpenAI, run: ClusteringResult, tmp_path: Path
) -> None:
    new = ["late: once more", "weather: snow", "weather: hail", "weather: fog", "praise: thanks", ""]
    updated = agent_of(server).update(tmp_path / "run", new)
    assert_exact_cover(updated)
    assert agreement(updated) > 0.99
    before = {cluster.id: cluster for cluster in run.clusters}
    after = {cluster.id: cluster for cluster in updated.clusters}
    assert {id: after[id].name for id in before} == {id: cluster.name for id, cluster in before.items()}
    assert all(set(cluster.members) <= set(after[id].members) for id, cluster in before.items())
    (weather,) = [cluster for id, cluster in after.items() if id not in before]
    assert weather.name == "weather"
    assert weather.members == ("60", "62", "63", "64")
    said = updated.info.changes
    assert said is not None
    assert [(c.id, c.before, c.after) for c in said.new_clusters] == [(weather.id, 0, 4)]
    assert {c.name for c in said.grown} == {"late", "praise"}
    assert said.taken_in == ("60",)
    assert (said.texts_added, said.unassigned_before, said.unassigned_after) == (6, 1, 1)
    assert updated.texts[:61] == run.texts
    updated.save(tmp_path / "updated")
    assert json.loads((tmp_path / "updated" / CHANGES).read_text())["taken_in"] == ["60"]
    assert_same(ClusteringResult.load(tmp_path / "updated"), updated)


def test_an_update_reads_only_what_it_has_not_seen(server: FakeOpenAI, run: ClusteringResult) -> None:
    asked = len(server.requests)
    updated = agent_of(server).update(run, {"new": run.texts[0].text, "newer": "late: x"})
    assert len(server.requests) == asked + 1
    assert updated.labels[61] == updated.labels[0]
    assert any("1 texts have the words of one of the run" in note for note in updated.notes)


def test_updates_of_updates_go_on(server: FakeOpenAI, run: ClusteringResult) -> None:
    agent = agent_of(server)
    first = agent.update(run, ["heat: a", "heat: b", "heat: c"])
    second = agent.update(first, ["heat: d", "cold: a", "cold: b", "cold: c"])
    named = {cluster.id: cluster.name for cluster in second.clusters}
    assert {cluster.id: cluster.name for cluster in first.clusters}.items() <= named.items()
    assert len(set(named)) == 7
    assert agreement(second) > 0.99


def test_an_update_with_many_texts_lets_a_classifier_help(server: FakeOpenAI, run: ClusteringResult) -> None:
    updated = agent_of(server).update(run, corpus(6000))
    assert_exact_cover(updated)
    assert updated.info.corpus is not None
    assert updated.info.corpus.effort == "economy"
    assert updated.info.corpus.by_classifier > 2000
    assert agreement(updated) > 0.98


def test_texts_in_another_language_go_where_the_model_says(server: FakeOpenAI, run: ClusteringResult) -> None:
    new = ["late: Das Paket kommt zu spät", "billing: 请求退款 🙏", "praise: شكرا جزيلا"]
    assigned = agent_of(server).assign(run, new)
    names = {cluster.id: cluster.name for cluster in assigned.clusters}
    assert [names[a.cluster_id] for a in assigned.assignments] == ["late", "billing", "praise"]


def test_ids_of_new_texts_never_take_those_of_old_ones() -> None:
    old = [Text(id=str(n), text=f"old {n}") for n in range(1, 4)]
    numbered = with_own_ids(old, [Text(id=str(n), text="new") for n in range(1, 3)])
    assert [text.id for text in numbered.texts] == ["4", "5"]
    own = with_own_ids(old, [Text(id="2", text="old 2"), Text(id="x", text="new")])
    assert [text.id for text in own.texts] == ["x"]
    with pytest.raises(InputError, match="another text under the id '3'"):
        with_own_ids(old, [Text(id="3", text="other"), Text(id="x", text="new")])
    with pytest.raises(InputError, match="nothing to add"):
        with_own_ids(old, old[1:])


def test_the_budget_ends_an_update_with_what_it_has(server: FakeOpenAI, run: ClusteringResult) -> None:
    whole = agent_of(server, cache=False).update(run, corpus(900)).usage.total_tokens
    spent = server.tokens
    part = agent_of(server, cache=False, budget_tokens=whole // 2).update(run, corpus(900))
    assert server.tokens - spent <= whole // 2
    assert_exact_cover(part)
    assert any("budget was spent" in note for note in part.notes)


def test_what_an_earlier_budget_left_unread_is_read_by_an_update(server: FakeOpenAI) -> None:
    texts = corpus(3000)
    whole = agent_of(server, cache=False).cluster(texts, "by problem").usage.total_tokens
    part = agent_of(server, cache=False, budget_tokens=whole * 3 // 4).cluster(texts, "by problem")
    unread = [text.text_id for text in part.unassigned]
    assert len(unread) > 100
    same = {"equal": texts[int(unread[0])]}
    assert not agent_of(server).assign(part, same).unassigned
    updated = agent_of(server).update(part, {**same, "new": "late: one more"})
    assert_exact_cover(updated)
    assert not updated.unassigned
    assert agreement(updated) == 1.0
    assert updated.info.changes is not None
    assert set(updated.info.changes.taken_in) == set(unread)


# --- edits ---


def test_edits_are_carried_out_recorded_and_undone(run: ClusteringResult, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    trace = (folder / TRACE).read_bytes()
    late, broken = run.cluster_named("late"), run.cluster_named("broken")
    merged = edit_run(folder, [Edit(kind="merge", clusters=("late", "BROKEN"), name="trouble")])
    assert merged.cluster_named("trouble").id == late.id
    assert set(merged.cluster_named("trouble").members) == {*late.members, *broken.members}
    moved = edit_run(folder, [Edit(kind="move", clusters=("praise",), texts=("60",), reason="it is")])
    assert "60" in moved.cluster_named("praise").members
    split = Edit(kind="split", clusters=("trouble",), texts=late.members[:3], name="very late")
    edit_run(folder, [split, Edit(kind="rename", clusters=("praise",), description="thanks")])
    edited = ClusteringResult.load(folder)
    assert_exact_cover(edited)
    assert [edit.kind for edit in edited.info.edits] == ["merge", "move", "split", "rename"]
    assert edited.cluster_named("very late").members == late.members[:3]
    assert edited.info.run_id != run.info.run_id
    assert (folder / TRACE).read_bytes() == trace
    undo_edit(folder)
    undo_edit(folder)
    assert_same(ClusteringResult.load(folder), moved)
    undo_edit(folder)
    undo_edit(folder)
    assert ClusteringResult.load(folder).clustering == run.clustering
    assert ClusteringResult.load(folder).info == run.info
    with pytest.raises(InputError, match="no change that could be undone"):
        undo_edit(folder)


def test_edits_are_replayed_on_a_run_of_the_same_texts(run: ClusteringResult, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    edit_run(folder, [Edit(kind="merge", clusters=("late", "login")), Edit(kind="drop", texts=("3",))])
    edited = ClusteringResult.load(folder)
    assert_same(run.edit(*edited.info.edits), edited)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (Edit(kind="merge", clusters=("late", "nothing")), "no cluster 'nothing'. There are: C1"),
        (Edit(kind="merge", clusters=("late",)), "at least two different clusters"),
        (Edit(kind="move", clusters=("late",), texts=("999",)), "no text with the id '999'"),
        (Edit(kind="rename", clusters=("late",), name="late"), "another name"),
        (Edit(kind="rename", clusters=("late",), name=" Login"), "is called 'login' already"),
        (Edit(kind="rename", clusters=("late",), name="C2"), "already"),
        (Edit(kind="merge", clusters=("late", "billing"), name="login"), "already"),
        (Edit(kind="rename", clusters=("late",), name="None"), "no cluster can be called"),
        (Edit(kind="split", clusters=("late",), texts=("0",)), "and the new cluster"),
    ],
)
def test_an_edit_that_cannot_be_says_why_and_changes_nothing(
    run: ClusteringResult, tmp_path: Path, edit: Edit, said: str
) -> None:
    good = Edit(kind="rename", clusters=("praise",), name="thanks")
    with pytest.raises(InputError, match=rf"change 2 of 2 \({edit.kind} .*{said}.*Nothing was changed"):
        edit_run(tmp_path / "run", [good, edit])
    with pytest.raises(InputError, match=said):
        edit_run(tmp_path / "run", [edit])
    assert ClusteringResult.load(tmp_path / "run").clustering == run.clustering
    assert recorded_edits(tmp_path / "run") == []


@pytest.mark.parametrize(
    "edit",
    [
        Edit(kind="merge", clusters=("late", "login")),
        Edit(kind="rename", clusters=("late",), name="late\u2028delivery"),
    ],
)
@pytest.mark.parametrize("files", [(RUN,), (RUN, CLUSTERS), (RUN, CLUSTERS, ASSIGNMENTS)])
def test_an_edit_that_was_written_down_but_not_carried_out_is_not_lost(
    run: ClusteringResult, tmp_path: Path, edit: Edit, files: tuple[str, ...]
) -> None:
    """As if the process had been killed before these files were written."""
    folder = tmp_path / "run"
    before = {name: (folder / name).read_bytes() for name in files}
    edited = edit_run(folder, [edit])
    for name, content in before.items():
        (folder / name).write_bytes(content)
    with pytest.raises(InputError, match=r"an edit was stopped .* `cluster-r1 edit .* log` does it"):
        ClusteringResult.load(folder)
    with pytest.raises(InputError, match="was changed by hand"):
        run.save(folder)
    assert_same(edited_run(folder), edited)
    mended_run(folder)
    assert_same(ClusteringResult.load(folder), edited)


def test_a_model_divides_a_cluster_by_the_instruction(
    server: FakeOpenAI, run: ClusteringResult, tmp_path: Path
) -> None:
    agent, folder = agent_of(server), tmp_path / "run"
    joined = ("late", "login", "praise")
    together = edit_run(folder, [Edit(kind="merge", clusters=joined, name="all sorts")])
    assert together.cluster_named("all sorts").description == "about late; about login; about praise"
    divided = edit_run(folder, agent.divide(together, "all sorts"))
    assert agreement(divided) == agreement(run)
    undone, change = undo_edit(folder)  # a division is one change
    assert undone.clustering == together.clustering
    assert len(change) == 3
    divided = together.edit(*agent.divide(together, "all sorts"))
    assert {cluster.name for cluster in divided.clusters} == {cluster.name for cluster in run.clusters}
    with pytest.raises(InputError, match="finds one thing in 'late'"):
        agent.divide(run, "late")


def test_new_texts_follow_edits(server: FakeOpenAI, run: ClusteringResult, tmp_path: Path) -> None:
    edit_run(tmp_path / "run", [Edit(kind="rename", clusters=("late",), name="delays")])
    assigned = agent_of(server).assign(tmp_path / "run", ["delays: a parcel"])
    assert assigned.cluster_named("delays").members == ("0",)


def test_a_budget_for_none_of_the_texts_is_an_error(server: FakeOpenAI, run: ClusteringResult) -> None:
    poor = agent_of(server, budget_tokens=50)
    for method in (poor.assign, poor.update):
        with pytest.raises(BudgetError, match="covers none of the 3 texts"):
            method(run, ["late: a", "late: b", "late: c"])


def test_nodes_that_put_every_text_somewhere_say_so(run: ClusteringResult) -> None:
    updated = ClusteringAgent("embedding").update(run, ["late: a", "an entirely different matter"])
    assert any("puts every text into some cluster" in note for note in updated.notes)
    assert_exact_cover(updated)


def test_what_was_taken_out_by_hand_stays_out(server: FakeOpenAI, run: ClusteringResult) -> None:
    edited = run.edit(Edit(kind="move", clusters=("none",), texts=("0",), reason="no ticket"))
    again = {"new": run.texts[0].text, "more": "late: one", "w1": "weather: a", "w2": "weather: b"}
    updated = agent_of(server).update(edited, again)
    assert {text.text_id: text.reason for text in updated.unassigned} == {
        "0": "no ticket",
        "new": "no ticket",
    }
    assert updated.info.changes is not None
    assert updated.info.changes.taken_in == ("60",)
    later = agent_of(server).update(updated, {"more2": "late: two", "w3": "weather: c", "x": "x: 1"})
    assert {"0", "new"} <= {text.text_id for text in later.unassigned}
    assigned = agent_of(server).assign(edited, {"new": run.texts[0].text, "other": "weather: rain"})
    assert [text.reason for text in assigned.unassigned] == ["no ticket", "says weather"]


def test_a_whole_run_after_edits_that_were_undone_is_not_replaced_by_the_old_one(
    run: ClusteringResult, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    edit_run(folder, [Edit(kind="rename", clusters=("late",), name="delays")])
    undo_edit(folder)
    newer = ClusteringResult.load(folder)
    moved = newer.edit(Edit(kind="move", clusters=("praise",), texts=("60",)))
    whole = ClusteringResult(newer.texts, moved.clustering, newer.info)  # e.g. with a larger budget
    whole.save(folder)
    edited = edit_run(folder, [Edit(kind="rename", clusters=("late",), name="delays")])
    assert not edited.unassigned


# --- folders ---


def test_an_edited_folder_is_not_overwritten_by_the_run_that_it_came_from(
    run: ClusteringResult, tmp_path: Path
) -> None:
    edit_run(tmp_path / "run", [Edit(kind="merge", clusters=("late", "login"))])
    with pytest.raises(InputError, match="was changed by hand"):
        run.save(tmp_path / "run")
    run.save(tmp_path / "run", overwrite=True)
    assert ClusteringResult.load(tmp_path / "run").clustering == run.clustering
    assert recorded_edits(tmp_path / "run") == []


def test_folders_of_older_versions_are_read(run: ClusteringResult, tmp_path: Path) -> None:
    written = json.loads((tmp_path / "run" / RUN).read_text())
    for key in ("passes", "stability", "changes", "edits", "taken_out"):
        del written[key]
    del written["usage"]["cached_input_tokens"]
    (tmp_path / "run" / RUN).write_text(json.dumps({**written, "format": 2}))
    loaded = ClusteringResult.load(tmp_path / "run")
    assert loaded.clustering == run.clustering
    assert loaded.info.edits == ()
    edit_run(tmp_path / "run", [Edit(kind="merge", clusters=("late", "login"))])
    (tmp_path / "run" / RUN).write_text(json.dumps({**written, "format": 99}))
    with pytest.raises(InputError, match="newer version"):
        ClusteringResult.load(tmp_path / "run")


_HOLDS = """
import sys, time
from pathlib import Path
from cluster_r1.claims import claim
claim(Path(sys.argv[1]), sys.argv[2], overwrite=True)
print("held", flush=True)
time.sleep(60)
"""


def test_two_processes_do_not_work_in_one_folder(run: ClusteringResult, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    command = [sys.executable, "-c", _HOLDS, str(folder), run.info.run_id]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(InputError, match="another process is working in"):
            run.save(folder)
        with pytest.raises(InputError, match="another process is working in"):
            edit_run(folder, [Edit(kind="merge", clusters=("late", "login"))])
        os.kill(other.pid, signal.SIGKILL)
    edit_run(folder, [Edit(kind="merge", clusters=("late", "login"))])


# --- the commands ---


def test_the_commands(server: FakeOpenAI, run: ClusteringResult, tmp_path: Path) -> None:
    new = tmp_path / "june.csv"
    new.write_text("text\nlate: x\nweather: a\nweather: b\nweather: c\n")
    done = run_cli("update", "run", "june.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    updated = ClusteringResult.load(tmp_path / "run-with-june")
    assert len(updated.texts) == 65
    assert updated.n_clusters == 6
    assert "1 new cluster" in done.stdout
    done = run_cli("edit", "run", "merge", "late", "login", "--name", "access", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "access" in done.stdout
    done = run_cli("edit", "run", "move", "1", "2", "--to", "access", "--reason", "asked", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = run_cli("edit", "run", "log", cwd=tmp_path)
    assert done.stdout.splitlines()[0].startswith("1. merge C")
    assert done.stdout.splitlines()[1].endswith("(asked)")
    done = run_cli("edit", "run", "undo", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [edit.kind for edit in ClusteringResult.load(tmp_path / "run").info.edits] == ["merge"]
    done = run_cli("edit", "run-with-june", "replay", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert ClusteringResult.load(tmp_path / "run-with-june").n_clusters == 5
    done = run_cli("update", "run", "june.csv", "--out", "run", cwd=tmp_path)
    assert done.returncode == 2
    assert "does not write into the run" in done.stderr
    for wrong in (("merge", "late", "nowhere"), ("split", "praise", "0"), ("rename", "praise")):
        done = run_cli("edit", "run", *wrong, cwd=tmp_path)
        assert done.returncode == 2
        assert done.stderr.startswith("error: ")
    assert (tmp_path / "run" / EDITS).is_file()
    assert (tmp_path / "run" / ASSIGNMENTS).is_file()
