"""The benchmark: measures, intervals, systems, runner, results, and the commands."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sklearn.metrics import adjusted_mutual_info_score
from typer.testing import CliRunner

from cluster_r1.benchmark.intervals import HALVES, compare, halves, interval_over_texts, on_halves
from cluster_r1.benchmark.measures import as_partition, score, stability
from cluster_r1.benchmark.results import results_of
from cluster_r1.benchmark.runner import ANSWERS, plan, read_answers, run_jobs
from cluster_r1.benchmark.systems.embedders import open_embedder
from cluster_r1.benchmark.systems.registry import KEYLESS_NAMES, open_systems
from cluster_r1.benchmark.systems.system import Answer, Panel, Question
from cluster_r1.benchmark.task_sets import findings, siblings
from cluster_r1.cli import app
from cluster_r1.errors import ClusterR1Error, InputError, MissingDependencyError, MissingKeyError
from cluster_r1.json_lines import write_json_lines
from cluster_r1.metrics import adjusted_mutual_info
from cluster_r1.task import Task
from tests.fakes.openai_server import FakeOpenAI, Reply

SUBJECTS = {
    "bread": ("flour", "oven", "dough", "yeast"),
    "boats": ("sail", "harbour", "mast", "anchor"),
    "stars": ("comet", "orbit", "telescope", "planet"),
}


def tasks_of(texts: int = 36) -> list[Task]:
    """Two tasks over the same texts: what they are about, and how loud they are."""
    rng = random.Random(0)
    rows, subjects, voices = [], {}, {}
    for number in range(texts):
        subject = list(SUBJECTS)[number % 3]
        loud = rng.random() < 0.4
        words = [rng.choice(SUBJECTS[subject]) for _ in range(4)]
        text = f"the {words[0]}, the {words[1]}, the {words[2]}, the {words[3]} {number}"
        rows.append({"id": f"t{number}", "text": f"{text}!!!" if loud else text})
        subjects[f"t{number}"], voices[f"t{number}"] = subject, "loud" if loud else "calm"
    shared = {"corpus": "made-up", "texts": rows, "paraphrases": ("another wording", "a third")}
    return [
        Task.model_validate(
            {
                "id": "made-up/subject",
                "instruction": "Group by subject.",
                "reference": subjects,
                "meta": {"topical": True},
                **shared,
            }
        ),
        Task.model_validate(
            {"id": "made-up/voice", "instruction": "Group by voice.", "reference": voices, **shared}
        ),
    ]


@pytest.fixture
def task_file(tmp_path: Path) -> Path:
    path = tmp_path / "tasks.jsonl"
    write_json_lines(path, tasks_of())
    return path


def bench(*words: str) -> tuple[int, str]:
    """The exit code of a command, and what it says, on an error too."""
    done = CliRunner().invoke(app, ["bench", *words])
    if isinstance(done.exception, ClusterR1Error):
        return done.exception.exit_code, f"{done.output}{done.exception}"
    return done.exit_code, done.output


# Measures


def test_an_unassigned_text_counts_as_alone_but_not_as_a_cluster() -> None:
    scores = score(["a", "a", "b", "b"], [0, 0, None, None], {})
    assert (scores.k, scores.coverage, scores.singleton_rate) == (1, 0.5, 0.0)
    assert scores.k_error == 0.5
    assert scores.ami == pytest.approx(adjusted_mutual_info_score(["a", "a", "b", "b"], [0, 0, 1, 2]))
    assert (scores.gap, scores.nearest) == (None, None)


def test_the_instruction_gap_is_negative_where_another_question_was_answered() -> None:
    subject, voice = tasks_of()
    others = siblings(voice, [subject, voice])
    by_subject = [list(SUBJECTS).index(label) for label in subject.labels]
    answered_wrongly = score(voice.labels, by_subject, others)
    assert answered_wrongly.nearest == subject.id
    assert answered_wrongly.gap == pytest.approx(answered_wrongly.ami - 1)
    answered_rightly = score(subject.labels, by_subject, siblings(subject, [subject, voice]))
    assert answered_rightly.gap is not None
    assert answered_rightly.gap > 0.8


def test_stability_is_of_partitions_not_of_labels() -> None:
    assert stability([[0, 0, 1, None]]) is None
    assert stability([[0, 0, 1, None], [7, 7, None, 3]]) == 1.0
    spread = stability([[0, 0, 1, 1], [0, 1, 0, 1], [0, 0, 1, 1]])
    assert spread is not None
    assert spread < 0.2


# Intervals


def test_halves_are_random_halves_without_repeats() -> None:
    drawn = halves(11)
    assert len(drawn) == HALVES
    assert all(len(set(half.tolist())) == 5 for half in drawn)
    assert len({tuple(half.tolist()) for half in drawn}) > HALVES / 2


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    """Texts of a population in which three in ten labels are drawn anew: AMI has a known long-run value."""

    def draw(texts: int, seed: int) -> tuple[list[int], list[int]]:
        rng = random.Random(seed)
        reference = [rng.randrange(4) for _ in range(texts)]
        return reference, [rng.randrange(4) if rng.random() < 0.3 else label for label in reference]

    truth = adjusted_mutual_info(*draw(20_000, 0))
    covered = 0
    for seed in range(1, 61):
        reference, predicted = draw(120, seed)
        drawn = on_halves(adjusted_mutual_info, reference, predicted, halves(120))
        found = interval_over_texts(adjusted_mutual_info(reference, predicted), drawn)
        covered += found.low <= truth <= found.high
    assert 50 <= covered <= 60


def test_the_interval_of_a_partition_without_information_is_about_zero() -> None:
    """Halves do not repeat texts, which would let singletons agree with anything."""
    reference, singletons = [number % 5 for number in range(100)], list(range(100))
    found = interval_over_texts(0.0, on_halves(adjusted_mutual_info, reference, singletons, halves(100)))
    assert (found.low, found.high) == (pytest.approx(0, abs=1e-9), pytest.approx(0, abs=1e-9))


def test_a_paired_comparison_sees_what_is_the_same_on_every_task() -> None:
    rng = random.Random(1)
    one = {f"t{number}": rng.random() for number in range(28)}
    better = {task: value - 0.02 - 0.02 * rng.random() for task, value in one.items()}
    found = compare(one, better)
    assert (found.better, found.worse) == (28, 0)
    assert 0.02 <= found.difference.low <= found.difference.high <= 0.04
    assert found.p < 0.001
    shuffled = {task: value + rng.choice((-0.3, 0.3)) for task, value in one.items()}
    unsure = compare(one, shuffled)
    assert unsure.difference.low < 0 < unsure.difference.high
    assert unsure.p > 0.05
    with pytest.raises(ValueError, match="no task in common"):
        compare(one, {"another": 0.5})


# Systems


def question(k: int | None = None, **changes: object) -> Question:
    task = tasks_of()[0]
    return Question(**{"texts": task.texts, "instruction": task.instruction, "k": k, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", KEYLESS_NAMES)
@pytest.mark.parametrize("panel", ["given", "discover"])
def test_keyless_systems_give_a_label_to_each_text_and_keep_to_k(name: str, panel: Panel) -> None:
    (system,) = open_systems([name])
    if panel not in system.panels:
        pytest.skip("does not take part in this panel")
    answer = system.answer(question(3 if panel == "given" else None))
    assert len(answer.labels) == 36
    if panel == "given":
        assert len(set(answer.labels)) == 3
    assert answer.labels == system.answer(question(3 if panel == "given" else None)).labels


@pytest.mark.parametrize("name", ["kmeans@static", "ward@static", "average@static", "kmeans@tfidf"])
def test_grouped_embeddings_find_subjects_that_words_tell_apart(name: str) -> None:
    (system,) = open_systems([name])
    found = as_partition(system.answer(question(3)).labels)
    assert adjusted_mutual_info(tasks_of()[0].labels, found) > 0.6


@pytest.mark.parametrize(
    "texts", [["one"], ["same"] * 7, [""] * 6, ["a b", "c d", "e f", "g h", "word", "word"]]
)
@pytest.mark.parametrize("name", KEYLESS_NAMES)
def test_keyless_systems_answer_the_smallest_questions(name: str, texts: list[str]) -> None:
    rows = [{"id": str(number), "text": text} for number, text in enumerate(texts)]
    task = Task.model_validate(
        {
            "id": "t",
            "corpus": "c",
            "instruction": "by x",
            "texts": rows,
            "reference": dict.fromkeys("0123456", "a"),
        }
    )
    (system,) = open_systems([name])
    assert len(system.answer(Question(task.texts, "by x")).labels) == len(texts)


def test_a_prefix_changes_what_is_embedded() -> None:
    plain, prefixed = open_systems(["kmeans@static", "kmeans@static+instruction"])
    assert (plain.reads_instruction, prefixed.reads_instruction) == (False, True)
    assert prefixed.identity != plain.identity


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("kmean@static", InputError, "did you mean kmeans@static"),
        ("kmeans@word2vec", InputError, "unknown embedder 'word2vec'"),
        ("kmeans@sentence-transformers:", InputError, "unknown embedder"),
        ("kmeans@openai:text-embedding-3-small", MissingKeyError, "OPENAI_API_KEY"),
        ("agent", InputError, "needs a model"),
        ("no-critic@local", InputError, "plays no critic"),
        ("no-reasoning@embedding", InputError, "cannot be told not to reason|plays no critic"),
        ("mine=/no/such/program", InputError, "there is no program"),
        ("mine=python 'x", InputError, "cannot be read"),
    ],
)
def test_systems_that_cannot_be_opened_say_what_is_missing(
    name: str, error: type[InputError], said: str
) -> None:
    with pytest.raises(error, match=said):
        open_systems([name])


def test_openai_embeddings_are_asked_for_once_for_all_tasks_of_a_corpus(
    server: FakeOpenAI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-none")
    open_embedder.cache_clear()
    systems = open_systems(["ward@openai:some-embedder", "kmeans@openai:some-embedder"])
    outcome = run_jobs(plan(tasks_of(), systems, ["given"], shuffles=0), tmp_path, at_once=1)
    assert (outcome.asked, outcome.failed) == (4, {})
    assert [request["model"] for request in server.requests] == ["some-embedder"]
    subject = next(a for a in read_answers(tmp_path).values() if a.task == "made-up/subject")
    assert adjusted_mutual_info(tasks_of()[0].labels, subject.labels) > 0.5
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    failed = run_jobs(plan(tasks_of(30), systems, ["given"], shuffles=0), tmp_path)
    assert len(failed.failed) == 4
    assert "did not embed the texts" in str(failed.failed)


def test_bertopic_is_asked_for_by_its_extra_where_it_is_missing() -> None:
    try:
        import bertopic  # noqa: F401
    except ImportError:
        with pytest.raises(MissingDependencyError, match=r"cluster-r1\[bench\]"):
            open_systems(["bertopic@static"])
    else:
        (system,) = open_systems(["bertopic@static"])
        assert len(system.answer(question()).labels) == 36


# Systems that ask a model


def labelled_task(texts: int = 12) -> Task:
    """The fake model knows the answer: what stands before the colon."""
    labels = ["refund", "login", "delay"]
    rows = [{"id": f"t{n}", "text": f"{labels[n % 3]}: case {n}"} for n in range(texts)]
    return Task.model_validate(
        {
            "id": "cases/kind",
            "corpus": "cases",
            "instruction": "by kind",
            "texts": rows,
            "reference": {row["id"]: labels[n % 3] for n, row in enumerate(rows)},
        }
    )


def test_the_agent_answers_with_names_reasons_and_costs(server: FakeOpenAI) -> None:
    task = labelled_task()
    (system,) = open_systems(["agent"], [server.spec])
    answer = system.answer(Question(task.texts, task.instruction))
    assert adjusted_mutual_info(task.labels, as_partition(answer.labels)) == 1.0
    assert sorted(answer.names.values()) == ["delay", "login", "refund"]
    assert answer.reasons[0] == "says refund"
    assert (answer.calls, answer.tokens, answer.spent_tokens) == (2, answer.tokens, answer.tokens)
    assert answer.tokens > 0
    again = system.answer(Question(task.texts, task.instruction))
    assert (again.calls, again.tokens, again.spent_tokens) == (2, answer.tokens, 0)


@pytest.mark.parametrize(
    ("method", "asked"),
    [
        ("one-pass", ["proposer"]),
        ("rounds-1", ["proposer", "critic", "refiner", "critic"]),
        ("agent", ["proposer", "critic", "refiner", "critic", "refiner", "critic"]),
        ("no-critic", ["proposer", "refiner", "refiner"]),
    ],
)
def test_what_is_left_of_the_agent_when_a_part_is_taken_away(
    method: str, asked: list[str], server: FakeOpenAI
) -> None:
    finding = {"kind": "rename", "clusters": ["C1"], "texts": [], "comment": "unclear"}
    server.critiques = [{"findings": [finding], "score": 50, "verdict": "revise"} for _ in range(9)]
    names = iter(range(100))

    def renaming(role: str, answer: dict[str, Any], call: int) -> Reply:
        if role == "refiner":
            answer = {"edits": [{"kind": "rename", "clusters": ["C1"], "name": f"name {next(names)}"}]}
        return Reply(json.dumps(answer))

    server.behaviour = renaming
    task = labelled_task()
    (system,) = open_systems([method], [server.spec])
    system.answer(Question(task.texts, task.instruction))
    assert server.roles_asked() == asked


def test_a_model_can_be_told_not_to_reason(server: FakeOpenAI) -> None:
    task = labelled_task()
    agent, quiet = open_systems(["agent", "no-reasoning"], [server.spec])
    quiet.answer(Question(task.texts, task.instruction))
    agent.answer(Question(task.texts, task.instruction))
    told = [request.get("chat_template_kwargs") for request in server.requests]
    assert told == [{"enable_thinking": False}] * 2 + [None] * 2


ECHO = """
import json, os, sys
rows = [json.loads(line) for line in sys.stdin]
assert os.environ["CLUSTER_R1_INSTRUCTION"] == sys.argv[1] == "by kind", sys.argv
for row in rows[: 3 if sys.argv[2] else len(rows) - 1]:
    print(json.dumps({"id": row["id"], "label": row["text"].split(":")[0]}))
"""


def external(tmp_path: Path, program: str) -> list[str]:
    script = tmp_path / "system.py"
    script.write_text(program)
    return [f"mine={sys.executable} {script} {{instruction}} {{k}}"]


def test_any_program_can_be_a_system(tmp_path: Path) -> None:
    task = labelled_task()
    (system,) = open_systems(
        external(tmp_path, ECHO.replace("sys.argv[2]", "len(sys.argv) > 2 and sys.argv[2]"))
    )
    answer = system.answer(Question(task.texts, task.instruction))
    assert [None if label is None else answer.names[label] for label in answer.labels] == [
        *task.labels[:-1],
        None,
    ]
    given = system.answer(Question(task.texts, task.instruction, k=3))
    assert sum(label is None for label in given.labels) == 9


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("import sys; sys.exit('out of luck')", "ended with code 1: out of luck"),
        ("print('hello')", "'hello' as line 1"),
        ("""print('{"id": "t99", "label": 1}')""", "labels the text 't99', which it was not given"),
    ],
)
def test_a_program_that_fails_is_named(program: str, said: str, tmp_path: Path, task_file: Path) -> None:
    mine = external(tmp_path, program)
    out = tmp_path / "out"
    code, output = bench("run", "--tasks", str(task_file), "--systems", mine[0], "--out", str(out))
    assert code == 3
    assert said in output
    assert not read_answers(out)


# Runner


def test_answers_are_kept_and_not_asked_for_again(server: FakeOpenAI, tmp_path: Path) -> None:
    task = labelled_task()
    systems = open_systems(["agent", "average@static"], [server.spec])
    jobs = plan([task], systems, ["given", "discover"])
    first = run_jobs(jobs, tmp_path / "one")
    assert (first.asked, first.kept, first.failed) == (4, 0, {})
    asked = len(server.requests)
    again = run_jobs(jobs, tmp_path / "one")
    assert (again.asked, again.kept) == (0, 4)
    assert len(server.requests) == asked
    changed = task.model_copy(update={"instruction": "by another kind"})
    assert run_jobs(plan([changed], systems, ["given"]), tmp_path / "one").kept == 0


@pytest.mark.parametrize("cut", [1, 40, -1])
def test_a_run_that_was_killed_in_the_middle_of_a_line_goes_on(tmp_path: Path, cut: int) -> None:
    jobs = plan(tasks_of(), open_systems(["keyless"]), ["discover"])
    run_jobs(jobs, tmp_path)
    path = tmp_path / ANSWERS
    whole = {key: a.labels for key, a in read_answers(tmp_path).items()}
    written = path.read_bytes()
    if cut > 0:
        path.write_bytes(written[:-cut])
    else:  # within a character
        path.write_bytes(written[: written.rstrip().rfind(b"\n") + 1] + '{"names": "é'.encode()[:-1])
    outcome = run_jobs(jobs, tmp_path)
    assert (outcome.asked, outcome.kept) == (1, len(jobs) - 1)
    assert {key: a.labels for key, a in read_answers(tmp_path).items()} == whole
    path.write_text("nonsense\n" + path.read_text())
    with pytest.raises(InputError, match="line 1: no answer"):
        read_answers(tmp_path)


def test_another_seed_asks_anew(server: FakeOpenAI) -> None:
    task = labelled_task()
    (system,) = open_systems(["one-pass"], [server.spec])
    for seed in (0, 1, 1):
        system.answer(Question(task.texts, task.instruction, seed=seed))
    assert [request["seed"] for request in server.requests] == [0, 1]


@pytest.mark.parametrize("ended_by", ["budget", "failure"])
def test_an_answer_that_was_cut_short_does_not_count_and_is_finished_later(
    ended_by: str, server: FakeOpenAI, tmp_path: Path
) -> None:
    path = tmp_path / "tasks.jsonl"
    task = labelled_task()
    write_json_lines(path, [task])
    given = ["run", "--tasks", str(path), "--systems", "agent", "--model", server.spec]
    given += ["--out", str(tmp_path / "out")]
    budget: list[str] = []
    if ended_by == "budget":
        (one_pass,) = open_systems(["one-pass"], [server.spec])
        tokens = one_pass.answer(Question(task.texts, task.instruction, seed=9)).tokens
        budget = ["--budget-tokens", str(tokens + 800)]
    else:
        server.behaviour, server.roles = "bad_key", ("critic",)
    asked = len(server.requests)
    code, output = bench(*given, *budget)
    assert code == (4 if ended_by == "budget" else 3), output
    assert not read_answers(tmp_path / "out")
    assert server.roles_asked()[asked:].count("proposer") == 1
    server.behaviour = "perfect"
    code, output = bench(*given)
    assert code == 0, output
    assert len(read_answers(tmp_path / "out")) == 1
    assert server.roles_asked()[asked:].count("proposer") == 1  # its answer was kept


def test_what_would_not_fit_into_one_table_is_refused(task_file: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    script = tmp_path / "system.py"

    def run(*more: str) -> tuple[int, str]:
        mine = f"mine={sys.executable} {script}"
        return bench("run", "--tasks", str(task_file), "--systems", mine, "--out", out, *more)

    program = (
        "import json, sys; [print(json.dumps({'id': json.loads(r)['id'], 'label': 1})) for r in sys.stdin]"
    )
    script.write_text(program)
    assert run()[0] == 0
    assert run()[0] == 0
    code, output = run("--limit", "9")
    assert code == 2
    assert "another version of made-up/subject" in output
    code, output = run("--seed", "1")
    assert code == 2
    assert "another mine" in output
    script.write_text(program.replace("1}", "2}"))
    code, output = run()
    assert code == 2
    assert "another mine" in output
    assert len(read_answers(tmp_path / "out")) == 10


def test_answers_with_k_given_do_not_outlive_a_relabelling(tmp_path: Path) -> None:
    task, _ = tasks_of()
    run_jobs(plan([task], open_systems(["ward@static"]), ["given", "discover"]), tmp_path)
    two = {id: "boats" if label == "boats" else "other" for id, label in task.reference.items()}
    relabelled = task.model_copy(update={"reference": two})
    results = results_of([relabelled], read_answers(tmp_path).values())
    assert set(results.panels) == {"discover"}


class Strange:
    """A system of somebody's own, with faults."""

    name = identity = "strange"
    panels: frozenset[Panel] = frozenset({"discover"})
    reads_instruction = orders_matter = spends_tokens = False

    def answer(self, question: Question) -> Answer:
        if "voice" in question.instruction:
            raise KeyError("oh")
        return Answer([0] * (len(question.texts) + 1))


def test_a_system_with_faults_does_not_stop_the_run(tmp_path: Path) -> None:
    systems = [Strange(), *open_systems(["average@static"])]
    outcome = run_jobs(plan(tasks_of(), systems, ["discover"]), tmp_path)
    assert outcome.asked == 2
    assert sorted(outcome.failed.values()) == ["KeyError: 'oh'", "strange gave 37 labels for 36 texts"]


def test_equal_ids_in_two_files_are_refused(task_file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl"
    write_json_lines(other, [task.model_copy(update={"instruction": "otherwise"}) for task in tasks_of()])
    code, output = bench("run", "--tasks", f"{task_file},{other}", "--out", str(tmp_path / "out"))
    assert code == 2
    assert "two tasks have the id 'made-up/subject'" in output


def test_paraphrases_and_orders_are_asked_where_they_matter(tmp_path: Path) -> None:
    systems = open_systems(["kmeans@static+instruction", "average@static"])
    jobs = plan(tasks_of()[:1], systems, ["discover"])
    assert [(j.system.name, j.wording, j.shuffle) for j in jobs] == [
        ("kmeans@static+instruction", 0, 0),
        ("kmeans@static+instruction", 1, 0),
        ("kmeans@static+instruction", 2, 0),
        ("kmeans@static+instruction", 0, 1),
        ("kmeans@static+instruction", 0, 2),
        ("average@static", 0, 0),
    ]
    run_jobs(jobs, tmp_path)
    results = {
        s.system: s for s in results_of(tasks_of()[:1], read_answers(tmp_path).values()).panels["discover"]
    }
    assert results["average@static"].means["paraphrases"] is None
    assert results["kmeans@static+instruction"].means["paraphrases"] is not None


def test_answers_to_shuffled_texts_come_back_in_the_order_of_the_task(
    tmp_path: Path, server: FakeOpenAI
) -> None:
    task = labelled_task()
    jobs = plan([task], open_systems(["one-pass"], [server.spec]), ["discover"], shuffles=3)
    run_jobs(jobs, tmp_path)
    answers = list(read_answers(tmp_path).values())
    assert {a.shuffle for a in answers} == {0, 1, 2, 3}
    for answer in answers:
        assert adjusted_mutual_info(task.labels, as_partition(answer.labels)) == 1.0
        assert [r.removeprefix("says ") for r in answer.reasons] == task.labels
    sent = {request["messages"][1]["content"] for request in server.requests}
    assert len(sent) == 4


def test_a_budget_is_kept_and_the_same_command_goes_on(server: FakeOpenAI, tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    task = labelled_task()
    copies = [task.model_copy(update={"id": f"cases/{n}", "instruction": f"by kind {n}"}) for n in range(4)]
    write_json_lines(path, copies)
    given = ["run", "--tasks", str(path), "--systems", "one-pass", "--model", server.spec]
    given += ["--out", str(tmp_path / "out"), "--jobs", "4"]
    (system,) = open_systems(["one-pass"], [server.spec])
    each = system.answer(Question(copies[0].texts, copies[0].instruction)).tokens
    server.reset()
    budget = each * 2
    code, output = bench(*given, "--budget-tokens", str(budget))
    assert code == 4
    assert "the budget left" in output
    finished = len(read_answers(tmp_path / "out"))
    assert 1 <= finished < 4
    code, output = bench(*given)
    assert code == 0, output
    assert f"{finished} answers were there already" in output
    assert len(server.requests) == 3  # the first task's answer was in the cache


def test_a_system_that_fails_on_one_task_does_not_stop_the_others(server: FakeOpenAI, tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    write_json_lines(path, tasks_of())
    server.behaviour = "bad_key"
    code, output = bench(
        *("run", "--tasks", str(path), "--systems", "one-pass,average@static", "--model", server.spec),
        *("--out", str(tmp_path / "out")),
    )
    assert code == 3
    assert "2 answers failed" in output
    assert "sk-test" not in output
    assert {a.system for a in read_answers(tmp_path / "out").values()} == {"average@static"}
    server.behaviour = "perfect"
    code, _ = bench(
        "run",
        "--tasks",
        str(path),
        "--systems",
        "one-pass",
        "--model",
        server.spec,
        "--out",
        str(tmp_path / "out"),
    )
    assert code == 0


# Results and commands


def test_results_are_the_scores_of_the_answers(tmp_path: Path) -> None:
    tasks = tasks_of()
    run_jobs(plan(tasks, open_systems(["keyless"]), ["given", "discover"]), tmp_path)
    answers = list(read_answers(tmp_path).values())
    results = results_of(tasks, answers)
    for panel, systems in results.panels.items():
        assert [s.ami for s in systems] == sorted((s.ami for s in systems), reverse=True)
        for system in systems:
            for row in system.tasks:
                (answer,) = [
                    a for a in answers
                    if (a.task, a.system, a.panel) == (row.task, system.system, panel)
                    and a.wording == a.shuffle == 0
                ]  # fmt: skip
                task = next(t for t in tasks if t.id == row.task)
                truth = adjusted_mutual_info_score(task.labels, as_partition(answer.labels))
                assert row.ami == pytest.approx(truth, abs=1e-4)
            assert system.ami == pytest.approx(sum(r.ami for r in system.tasks) / len(system.tasks), abs=1e-4)
    best, *rest = results.panels["given"]
    assert {c.other for c in results.comparisons["given"]} == {s.system for s in rest}
    assert all(c.leader == best.system and c.difference >= 0 for c in results.comparisons["given"])
    assert best.topical is not None
    assert best.topical > 0.8


def test_a_system_with_a_few_tasks_does_not_lead(tmp_path: Path) -> None:
    tasks = tasks_of()
    run_jobs(plan(tasks, open_systems(["ward@static"]), ["given"]), tmp_path)
    run_jobs(plan(tasks[:1], open_systems(["kmeans@static"]), ["given"]), tmp_path)
    answers = list(read_answers(tmp_path).values())
    all_of_it, a_part = results_of(tasks, answers).panels["given"]
    assert (all_of_it.system, a_part.system) == ("ward@static", "kmeans@static")
    assert a_part.ami > all_of_it.ami
    (pair,) = results_of(tasks, answers).comparisons["given"]
    assert pair.better + pair.worse <= 1
    paraphrases = [answer.model_copy(update={"wording": 1}) for answer in answers]
    with pytest.raises(InputError, match="no answers"):
        results_of(tasks, paraphrases)


def test_answers_to_a_task_that_has_changed_do_not_count(tmp_path: Path) -> None:
    tasks = tasks_of()
    run_jobs(plan(tasks, open_systems(["average@static"]), ["discover"]), tmp_path)
    answers = list(read_answers(tmp_path).values())
    changed = [tasks[0], tasks[1].model_copy(update={"texts": tuple(reversed(tasks[1].texts))})]
    (system,) = results_of(changed, answers).panels["discover"]
    assert [row.task for row in system.tasks] == [tasks[0].id]
    with pytest.raises(InputError, match="bench run"):
        results_of(changed[1:], answers)


def test_run_writes_what_report_writes_again(task_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, output = bench("run", "--tasks", str(task_file), "--panel", "both", "--out", str(out))
    assert code == 0, output
    written = {name: (out / name).read_text() for name in ("results.json", "table.md", "index.html")}
    assert "| average@static |" in written["table.md"]
    assert "| made-up/voice | 2 | no |" in written["table.md"]
    assert json.loads(written["results.json"])["panels"].keys() == {"given", "discover"}
    for name in written:
        (out / name).unlink()
    code, output = bench("report", str(out))
    assert code == 0, output
    assert {name: (out / name).read_text() for name in written} == written


def test_limit_and_first_make_a_small_run(task_file: Path, tmp_path: Path) -> None:
    code, output = bench(
        *("run", "--tasks", str(task_file), "--first", "1", "--limit", "9"),
        *("--systems", "average@static", "--out", str(tmp_path / "out")),
    )
    assert code == 0, output
    (answer,) = read_answers(tmp_path / "out").values()
    assert (answer.task, len(answer.labels)) == ("made-up/subject", 9)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "--tasks", "nowhere.jsonl"], "neither a file nor a task"),
        (["run", "--systems", "singletons", "--panel", "given"], "none of these systems takes part"),
        (["run", "--card"], "--card adds to the card of a checkpoint"),
        (["report", "nowhere"], "holds no benchmark run"),
        (["validate", "nowhere.jsonl"], "is no file"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_runs(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["bench", *words])
    assert isinstance(done.exception, InputError)
    assert said in str(done.exception)
    assert list(tmp_path.iterdir()) == []


def test_validate_says_what_to_look_at(tmp_path: Path) -> None:
    subject, _ = tasks_of()
    copy = subject.model_copy(update={"id": "made-up/copy", "paraphrases": (subject.instruction,)})
    odd = Task.model_validate(
        {
            "id": "odd",
            "corpus": "c",
            "instruction": "by x",
            "texts": [{"id": "a", "text": "same"}, {"id": "b", "text": "same"}],
            "reference": {"a": "x", "b": "x", "z": "y"},
        }
    )
    path = tmp_path / "tasks.jsonl"
    write_json_lines(path, [subject, copy, odd])
    code, output = bench("validate", str(path))
    assert code == 0
    for said in (
        "made-up/subject and made-up/copy are dependent (AMI 1.00)",
        "made-up/copy: two of its wordings are equal",
        "odd: all texts have the same label",
        "odd: 2 texts are few",
        "odd: 1 texts stand there more than once",
        "odd: the reference labels 1 texts that are not there, such as 'z'",
        "3 tasks, 38 texts, usable",
    ):
        assert said in output, output
    assert len(findings([subject])) == 0


def test_validate_refuses_what_no_system_could_be_asked(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_text(
        '{"id": "t", "corpus": "c", "instruction": "x", "texts": [{"id": "a", "text": "b"}], "reference": {}}'
    )
    done = CliRunner().invoke(app, ["bench", "validate", str(path)])
    assert isinstance(done.exception, InputError)
    assert "text 'a' has no reference label" in str(done.exception)
    assert str(path) in str(done.exception)


def test_a_killed_run_goes_on_and_gives_the_same_results(server: FakeOpenAI, tmp_path: Path) -> None:
    server.latency = 0.1
    path = tmp_path / "tasks.jsonl"
    task = labelled_task()
    write_json_lines(
        path,
        [task.model_copy(update={"id": f"cases/{n}", "instruction": f"by kind {n}"}) for n in range(8)],
    )
    command = [sys.executable, "-m", "cluster_r1", "bench", "run", "--tasks", str(path), "--jobs", "1"]
    command += ["--systems", "one-pass", "--model", server.spec, "--out"]
    killed = subprocess.Popen([*command, str(tmp_path / "killed")], stderr=subprocess.PIPE, text=True)
    assert killed.stderr is not None
    for line in killed.stderr:
        if line.startswith("3 of 8"):
            break
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    finished = len(read_answers(tmp_path / "killed"))
    assert 3 <= finished < 8
    subprocess.run([*command, str(tmp_path / "killed")], check=True, capture_output=True)
    assert len(server.requests) <= 9  # at most the call under way was made again
    subprocess.run([*command, str(tmp_path / "whole")], check=True, capture_output=True)

    def labels(folder: str) -> dict[str, tuple[int | None, ...]]:
        return {key: answer.labels for key, answer in read_answers(tmp_path / folder).items()}

    assert labels("killed") == labels("whole")
