"""The result page as a reader meets it: in a real browser, from a file, without a network."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from cluster_r1.benchmark.pages.page import page
from cluster_r1.benchmark.results import Results, SystemResult, results_of
from cluster_r1.benchmark.runner import StoredAnswer, plan, read_answers, run_jobs
from cluster_r1.benchmark.systems.registry import open_systems
from cluster_r1.task import Task
from cluster_r1.types import Text

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no chromium on PATH to open the page with")

SYSTEMS = ("singletons", "one-cluster", "random", "kmeans@tfidf", "kmeans@static")
HOSTILE = "The crust</script><img src=x onerror=\"document.title='taken'\"> & <b>the</b> crumb\u2028rise."
REASON = "it speaks of <i>dough</i>"

_BREAD = ("oven", "flour", "yeast", "crust", "dough", "loaf")
_BIKES = ("wheel", "chain", "saddle", "brake", "pedal", "tyre")


def written_tasks() -> list[Task]:
    """Two tasks on the same 24 texts, one of them about the topic, and one on other texts, with one label."""
    lines = [
        *(f"The {thing} makes the bread in the bakery good, and I am glad." for thing in _BREAD),
        *(f"The {thing} of the bicycle broke on the road, which made me angry!" for thing in _BIKES),
        *(f"The {thing} spoilt the bread of the bakery, which made me angry!" for thing in _BREAD),
        *(f"The {thing} makes the bicycle fast on the road, and I am glad." for thing in _BIKES),
    ]
    texts = tuple(Text(id=f"n{number}", text=line) for number, line in enumerate([HOSTILE, *lines[1:]]))
    topic = {text.id: ("bread", "bikes")[number // 6 % 2] for number, text in enumerate(texts)}
    mood = {text.id: ("glad", "angry", "angry", "glad")[number // 6] for number, text in enumerate(texts)}
    few = tuple(Text(id=thing, text=f"A word about water, {thing}.") for thing in _BREAD)
    size = {text.id: ("long", "short")[len(text.text) < 26] for text in few}
    return [
        Task(
            id="notes/topic", corpus="notes", instruction="Group the notes by what they are about.",
            texts=texts, reference=topic, meta={"attribute": "topic", "topical": True},
        ),
        Task(
            id="notes/mood", corpus="notes", instruction="Group the notes by the writer's mood.",
            paraphrases=("Which mood is the writer in?",),
            texts=texts, reference=mood, meta={"attribute": "mood"},
        ),
        Task(
            id="words/length", corpus="words", instruction="Group the words by length.",
            texts=few, reference=size, meta={"attribute": "length"},
        ),
    ]  # fmt: skip


def by_hand(task: Task, like: StoredAnswer) -> StoredAnswer:
    """What a model may have answered: names, reasons, and a text in no cluster."""
    labels = [7 if label == "bread" else 3 for label in task.labels]
    return like.model_copy(
        update={
            "key": f"by hand {like.panel}",
            "system": "agent@careful:model-1",
            "labels": (*labels[:-1], None),
            "names": {7: "baking & <b>more</b>", 3: "cycling"},
            "reasons": (REASON, *["it has wheels"] * (len(labels) - 1)),
            "calls": 4,
            "tokens": 12_345,
            "seconds": 71.25,
        }
    )


class Run:
    """A benchmark run, and its page."""

    def __init__(self, folder: Path) -> None:
        self.tasks = written_tasks()
        run_jobs(plan(self.tasks, open_systems(SYSTEMS), ("given", "discover")), folder / "run")
        self.answers = list(read_answers(folder / "run").values())
        asked = ("notes/topic", "kmeans@static", "discover", 0)
        like = next(a for a in self.answers if (a.task, a.system, a.panel, a.shuffle) == asked)
        self.answers.append(by_hand(self.tasks[0], like))
        self.results: Results = results_of(self.tasks, self.answers)
        self.source = page(self.results, self.tasks, self.answers)
        self.folder = folder

    def system(self, name: str, panel: str = "discover") -> SystemResult:
        found = {"given": self.results.panels["given"], "discover": self.results.panels["discover"]}[panel]
        return next(system for system in found if system.system == name)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("bench"))


Look = Callable[..., Any]


@pytest.fixture
def look(run: Run, tmp_path: Path) -> Look:
    """Opens the page at a hash, does something there, and tells what the reader then sees."""

    def opened(script: str, at: str = "", width: int = 1400) -> Any:
        path = tmp_path / "index.html"
        path.write_text(with_script(run.source, script), encoding="utf-8")
        found = re.search(r'<pre id="said">(.*?)</pre>', in_browser(path, at, width), re.DOTALL)
        assert found, "the page's own script or the test's failed"
        return json.loads(html.unescape(found[1]))

    return opened


def with_script(source: str, script: str) -> str:
    """The page with one more script, which its policy is told to allow; what that returns is kept as JSON."""
    code = (
        "{ const all = (css) => [...document.querySelectorAll(css)];"
        " const words = (css) => all(css).map((one) => one.textContent.trim());"
        f" const said = (() => {{ {script} }})();"
        ' const kept = document.createElement("pre"); kept.id = "said";'
        " kept.textContent = JSON.stringify(said); document.body.append(kept); }"
    )
    allowed = f"sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}"
    source = source.replace("script-src ", f"script-src '{allowed}' ", 1)
    return source.replace("</body>", f"<script>{code}</script></body>")


def in_browser(path: Path, at: str = "", width: int = 1400) -> str:
    """The document as it is once the page's script has run."""
    assert BROWSER
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    command += [f"--user-data-dir={path.parent / 'profile'}", f"--window-size={width},1000"]
    command += ["--virtual-time-budget=5000", "--dump-dom", f"{path.as_uri()}{at}"]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}".replace("-0.00", "0.00").replace("-", "−")


def embedded(source: str) -> Any:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', source, re.DOTALL)
    assert found
    return json.loads(found[1])


ROWS = 'return all(".leaderboard tbody tr").map((row) => [...row.cells].map((cell) => cell.textContent));'


@needs_browser
def test_the_leaderboard_is_in_order_of_ami_and_has_the_right_numbers(run: Run, look: Look) -> None:
    rows = look(ROWS)
    systems = run.results.panels["discover"]
    assert [row[0].removesuffix("1 of 3 tasks") for row in rows] == [system.system for system in systems]
    for row, system in zip(rows, systems, strict=True):
        assert row[1] == f"{number(system.ami)}[{number(system.low)}, {number(system.high)}]"
        assert row[2:4] == [number(system.topical), number(system.not_topical)]
        shown = [number(system.means[name]) for name in ("v", "ari", "pairwise_f1", "bcubed_f1", "accuracy")]
        assert row[4:9] == shown
    leader, careful = rows[0], rows[-1]
    assert (leader[0], leader[18]) == ("kmeans@static", "leader")
    assert careful[0] == "agent@careful:model-1" + "1 of 3 tasks"  # it does not lead, whatever its mean
    assert careful[15:18] == ["4", "12,345", "71.3"]
    pair = next(pair for pair in run.results.comparisons["discover"] if pair.other == "random")
    against = next(row for row in rows if row[0] == "random")
    sign = "+" if pair.difference < -0.005 else ""
    assert against[18].startswith(f"{sign}{number(-pair.difference)}[")
    assert against[19] == f"{pair.p:.3f}"


@needs_browser
def test_a_click_on_a_heading_sorts_and_a_second_one_turns_it_round(run: Run, look: Look) -> None:
    steps = """
        const head = document.querySelector("th[data-key=k_error]");
        const states = [];
        for (let clicks = 0; clicks < 2; clicks += 1) {
          head.querySelector("button").click();
          states.push([all(".leaderboard tbody tr").map((row) => row.dataset.system),
                       head.getAttribute("aria-sort"), location.hash]);
        }
        return [...states, all("th[aria-sort]").length];
    """
    up, down, sorted_by = look(steps)
    *whole, a_part = run.results.panels["discover"]
    errors = {system.system: system.means["k_error"] for system in whole}
    in_order = sorted(error for error in errors.values() if error is not None)
    assert in_order[0] != in_order[-1]
    assert up[0][-1] == down[0][-1] == a_part.system
    assert [errors[name] for name in up[0][:-1]] == in_order
    assert [errors[name] for name in down[0][:-1]] == in_order[::-1]
    assert (up[1], down[1], sorted_by) == ("ascending", "descending", 1)
    assert up[2].endswith("sort=k_error")


@needs_browser
def test_what_is_not_there_is_sorted_last_either_way(look: Look) -> None:
    rows = {at: look(ROWS, at=f"#sort={at}") for at in ("orders", "-orders")}
    for sorted_rows in rows.values():
        orders = [row[14] for row in sorted_rows]
        missing = orders.count("–")
        assert 0 < missing < len(orders)
        assert orders[-missing:] == ["–"] * missing


@needs_browser
def test_the_heat_map_has_every_task_and_a_cell_leads_to_the_answer(run: Run, look: Look) -> None:
    steps = """
        const rows = all(".heat tr[data-task]").map((row) => [...row.cells].map((cell) => cell.textContent));
        const heads = words(".heat thead th");
        document.querySelector(".heat tr[data-task='notes/mood'] td:nth-of-type(2) a").click();
        const system = document.getElementById("pick-system").value;
        return [heads, rows, words("#instruction"), system, location.hash];
    """
    heads, rows, instruction, system, address = look(steps)
    systems = run.results.panels["discover"]
    assert heads == ["task", *(system.system for system in systems)]
    assert [row[0] for row in rows] == ["topic k 2topic", "mood k 2", "length k 2"]
    for row, task in zip(rows, run.tasks, strict=True):
        scores = [{score.task: score.ami for score in system.tasks}.get(task.id) for system in systems]
        assert row[1:] == [number(score) for score in scores]
    assert instruction == ["Group the notes by the writer's mood."]
    assert system == systems[1].system
    assert "task=notes/mood" in address
    assert "view=task" in address


ITEMS = """return all("#texts li").map((item) => [".wording", ".gold", ".predicted", ".reason"].map(
    (css) => item.querySelector(css)?.textContent ?? null));"""
CAREFUL = "#panel=discover&task=notes/topic&system=agent@careful:model-1"


@needs_browser
def test_an_address_leads_to_a_texts_gold_and_predicted_label(run: Run, look: Look) -> None:
    items = look(ITEMS, at=CAREFUL)
    assert len(items) == 24
    assert items[0] == [HOSTILE, "bread", "baking & <b>more</b>", REASON]
    assert items[6][1:] == ["bikes", "cycling", "it has wheels"]
    assert items[23][1:3] == ["bikes", "in no cluster"]
    pairs = 'all("#facts div").map((one) => [...one.children].map((part) => part.textContent))'
    facts = look(f"return Object.fromEntries({pairs})", at=CAREFUL)
    score = run.system("agent@careful:model-1").tasks[0]
    assert facts["AMI"] == f"{number(score.ami)} [{number(score.low)}, {number(score.high)}]"
    assert facts["k found / true"] == "2 / 2"
    assert facts["nearest other attribute"] == "mood"
    cells = 'all("#contingency tr").map((row) => [...row.cells].map((cell) => cell.textContent))'
    table = look(f"return {cells}", at=CAREFUL)
    assert table[0][1:] == ["baking & <b>more</b>", "cycling", "in no cluster", "texts"]
    assert table[1:] == [
        ["bread", "12", "", "", "12"],
        ["bikes", "", "11", "1", "12"],
        ["texts", "12", "11", "1", "24"],
    ]


@needs_browser
def test_filters_leave_the_texts_that_fit(look: Look) -> None:
    assert len(look(ITEMS, at=f"{CAREFUL}&reference=bikes&predicted=3")) == 11
    assert [item[1:3] for item in look(ITEMS, at=f"{CAREFUL}&predicted=none")] == [["bikes", "in no cluster"]]
    assert [item[0] for item in look(ITEMS, at=f"{CAREFUL}&find=the%20CRUMB")] == []
    assert [item[0] for item in look(ITEMS, at=f"{CAREFUL}&find=CRUMB")] == [HOSTILE]
    by_cell = 'document.querySelector("#contingency tbody button").click();' + ITEMS
    assert {tuple(item[1:3]) for item in look(by_cell, at=CAREFUL)} == {("bread", "baking & <b>more</b>")}


@needs_browser
def test_an_answer_that_is_not_there_is_said_so(look: Look) -> None:
    steps = 'return [words("#absent"), document.getElementById("answer").hidden, words("#instruction")]'
    absent, hidden, instruction = look(steps, at="#panel=given&task=words/length&system=singletons")
    assert absent == ["singletons has no answer to words/length with k given."]
    assert hidden
    assert instruction == ["Group the words by length."]


@needs_browser
def test_the_switch_shows_the_other_panel_everywhere(run: Run, look: Look) -> None:
    steps = """
        document.querySelector("input[name=panel][value=given]").click();
        return [words(".leaderboard tbody th"), words(".heat thead th").slice(1),
                all("#cost circle").length, location.hash, document.getElementById("pick-panel").value];
    """
    systems = [system.system for system in run.results.panels["given"]]
    assert "singletons" not in systems
    assert look(steps) == [systems, systems, len(systems), "#panel=given", "given"]


@needs_browser
def test_plots_show_each_system_and_each_task(run: Run, look: Look) -> None:
    steps = """
        const told = (css) => all(css).map((point) => point.dataset.tip);
        const few = told("#clusters [data-tip]");
        document.querySelector("#legend button").click();
        const plots = [few.length, told("#clusters [data-tip]"), told("#gaps [data-tip]")];
        const names = words("#cost text.over");
        document.querySelector("input[name=cost][value=tokens]").click();
        return [...plots, names, told("#cost [data-tip]")];
    """
    few, clusters, gaps, names, costs = look(steps)
    scores = [(system, score) for system in run.results.panels["discover"] for score in system.tasks]
    assert 0 < few < len(scores)
    assert sorted(clusters) == sorted(
        f"{system.system}\n{score.task}: k {score.k}, true 2" for system, score in scores
    )
    with_gap = [(system, score) for system, score in scores if score.gap is not None]
    assert len(gaps) == len(with_gap) < len(scores)
    assert any(line.startswith("kmeans@static\nnotes/mood: gap −") for line in gaps)
    assert sorted(names) == sorted(system.system for system in run.results.panels["discover"])
    assert any(line.endswith("12,345 tokens for a task") for line in costs)


@needs_browser
def test_arrow_keys_lead_from_point_to_point_and_enter_opens_the_task(run: Run, look: Look) -> None:
    steps = """
        const press = (key) =>
          document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
        document.querySelector("#gaps [tabindex='0']").focus();
        press("ArrowRight");
        const about = document.activeElement.dataset.tip;
        const shown = document.querySelector(".tip").textContent;
        press("Enter");
        return [about, shown, all("#gaps [tabindex='0']").length, document.getElementById("pick-task").value];
    """
    about, shown, stops, task = look(steps)
    assert about == shown
    assert about.split("\n")[1].startswith(f"{task}: gap")
    assert stops == 1


@needs_browser
def test_a_hostile_text_stays_text(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "index.html"
    path.write_text(run.source, encoding="utf-8")
    shown = in_browser(path, CAREFUL)
    assert html.escape(HOSTILE, quote=False) in shown
    assert "<title>Cluster-R1 benchmark</title>" in shown
    assert not re.search(r"<img|<b>(more|the)|<i>dough", shown.split("</script>", 2)[0])
    assert "</script><img" not in run.source
    assert embedded(run.source)["texts"][0][0] == HOSTILE


@needs_browser
def test_the_page_asks_no_network_for_anything(run: Run, look: Look) -> None:
    steps = """
        const named = (name) => all(`[${name}]`).map((one) => one.getAttribute(name));
        const policy = document.querySelector("meta[http-equiv]").content;
        return [named("src"), named("href"), all("link, iframe, object, embed, img").length, policy];
    """
    sources, links, others, policy = look(steps)
    assert sources == []
    assert links
    assert all(link.startswith("#") for link in links)
    assert others == 0
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    markup = run.source.replace(json.dumps(embedded(run.source)), "")
    assert not re.search(r"@import|url\(|https?://(?!www\.w3\.org/2000/svg)", markup)


@needs_browser
@pytest.mark.parametrize("width", [500, 1400])  # no headless Chromium window is narrower than 500
def test_only_tables_scroll_sideways(look: Look, width: int) -> None:
    steps = "return [document.scrollingElement.scrollWidth, document.documentElement.clientWidth]"
    needed, there = look(steps, at=CAREFUL, width=width)
    assert there <= width
    assert needed <= there


def test_texts_stand_once_for_all_tasks_of_a_corpus(run: Run) -> None:
    data = embedded(run.source)
    assert [len(texts) for texts in data["texts"]] == [24, 6]
    assert [data["references"][task.id]["texts"] for task in run.tasks] == [0, 0, 1]
    assert run.source.count(run.tasks[0].texts[5].text) == 1


def test_only_the_latest_answers_to_the_task_itself_are_in_the_page(run: Run) -> None:
    wanted = ("notes/mood", "kmeans@static", "discover", 0)
    first = next(a for a in run.answers if (a.task, a.system, a.panel, a.shuffle) == wanted)

    def stored(label: int, **changes: Any) -> StoredAnswer:
        return first.model_copy(update={"labels": (label,) * 24, **changes})

    later = [
        stored(5),
        stored(6, wording=1),
        stored(7, shuffle=1),
        stored(8, asked="another task"),
        stored(9, task="gone"),
    ]
    assert shown(run, [*run.answers, *later]) == [[5] * 24]


def shown(run: Run, answers: Sequence[StoredAnswer]) -> list[list[int | None]]:
    """The labels of `kmeans@static` on the moods, as in the page."""
    data = embedded(page(results_of(run.tasks, answers), run.tasks, answers))
    wanted = {"task": "notes/mood", "system": "kmeans@static", "panel": "discover"}
    assert {answer["task"] for answer in data["answers"]} <= {task.id for task in run.tasks}
    return [answer["labels"] for answer in data["answers"] if answer.items() >= wanted.items()]


@needs_browser
def test_what_was_answered_from_a_cache_has_no_place_on_the_scale_of_time(run: Run, tmp_path: Path) -> None:
    answers = [
        answer.model_copy(update={"seconds": None}) if answer.system == "kmeans@static" else answer
        for answer in run.answers
    ]
    results = results_of(run.tasks, answers)
    path = tmp_path / "index.html"
    path.write_text(page(results, run.tasks, answers), encoding="utf-8")
    assert "Not shown, since answered from a cache: kmeans@static." in in_browser(path)
