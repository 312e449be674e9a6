"""Runs of the synthesis graph over real HTTP, with a model that knows the labels of the example messages."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster_r1 import BudgetError, InputError, ModelError, SynthesisConfig, SynthesisGraph, SynthesisResult
from cluster_r1.agents.clustering.proposer import Proposer, ProposerInput
from cluster_r1.agents.models import local_server
from cluster_r1.agents.models.retries import RetryPolicy
from cluster_r1.graphs.synthesis import graph as compiled
from cluster_r1.graphs.synthesis.outcome import SynthesisEvent
from cluster_r1.graphs.tracing import read_trace
from cluster_r1.synthesis.journal import JOURNAL
from cluster_r1.task import read_tasks
from cluster_r1.training.data_check import check_file
from cluster_r1.training.examples import RlExample, SftExample, read_examples
from tests.conftest import EXAMPLES
from tests.fakes.openai_server import FakeOpenAI, Reply
from tests.fakes.synthesis_oracle import SynthesisOracle

MESSAGES = EXAMPLES / "support_messages.csv"
SMALL: dict[str, Any] = {"texts": [10, 20], "k": [2, 5], "lookahead": 8}
LOOSE = {"novelty": {"most_ami": 1.0, "most_similarity": 1.0, "tasks_a_family": 10**6}}
AT_ONCE = RetryPolicy(attempts=4, first_wait=0.01)


@pytest.fixture
def oracle(server: FakeOpenAI) -> SynthesisOracle:
    found = SynthesisOracle.of_file(MESSAGES)
    server.knows = found
    return found


def synthesize(
    server: FakeOpenAI, out: Path, tasks: int = 3, settings: dict[str, Any] | None = None, **options: Any
) -> SynthesisResult:
    about = {name: options.pop(name) for name in ("models", "cache", "budget_tokens") if name in options}
    config = SynthesisConfig.model_validate(SMALL | (settings or {}))
    runner = SynthesisGraph(server.spec, config=config, retries=AT_ONCE, **about)
    corpora = options.pop("corpora", str(MESSAGES))
    return runner.run(corpora, tasks=tasks, out=out, **options)


def files_of(folder: Path) -> dict[str, bytes]:
    """All that a run leaves, but its journal (which may hold more than was asked for) and traces."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (JOURNAL, "trace.jsonl")
    }


def rejected(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "rejected.jsonl").read_text().splitlines()]


def saying(server: FakeOpenAI, role: str, *changes: dict[str, Any]) -> None:
    """Have a role's first answers changed, one after the other."""
    known, left = server.knows, list(changes)
    assert known is not None

    def knows(asked: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = known(asked, body)
        return answer | (left.pop(0) if asked == role and left else {})

    server.knows = knows


# --- what comes out ---


def test_it_makes_exactly_as_many_tasks_as_wanted_with_rows_to_train_on(
    server: FakeOpenAI, oracle: SynthesisOracle, tmp_path: Path
) -> None:
    result = synthesize(server, tmp_path, tasks=4)
    assert result.complete
    assert result.accepted == 4
    tasks = [task for path in tmp_path.glob("*/tasks.jsonl") for task in read_tasks(path)]
    assert len(tasks) == 4
    for task in tasks:
        truth = next(name for name, known in oracle.wordings.items() if task.instruction in known)
        for text in task.texts:
            assert task.reference[text.id] == oracle.labels[" ".join(text.text.split())][truth]
        assert task.meta["licence"] == "CC0-1.0"
    for path in tmp_path.glob("*/*.jsonl"):
        assert check_file(path)


def test_the_teacher_is_asked_and_trained_in_the_prompt_of_inference(
    server: FakeOpenAI, oracle: SynthesisOracle, tmp_path: Path
) -> None:
    synthesize(server, tmp_path, tasks=2)
    sent = {
        json.dumps(request["messages"], sort_keys=True)
        for request, role in zip(server.requests, server.roles_asked(), strict=True)
        if role == "proposer"
    }
    rows = [row for path in tmp_path.glob("*/sft.jsonl") for row in read_examples(path, SftExample)]
    assert rows
    for row in rows:
        assert json.dumps([turn.model_dump() for turn in row.prompt], sort_keys=True) in sent
        task = next(t for p in tmp_path.glob("*/tasks.jsonl") for t in read_tasks(p) if t.id == row.task)
        given = ProposerInput(instruction=task.instruction, texts=tuple(text.text for text in task.texts))
        assert [turn.content for turn in row.prompt] == [m.content for m in Proposer().render(given)]
        assert row.completion[0].content.startswith("<think>\nEach text for itself.")


def test_splits_share_neither_texts_nor_families(
    server: FakeOpenAI, oracle: SynthesisOracle, tmp_path: Path
) -> None:
    settings = {"novelty": {"tasks_a_family": 8}, "split": {"validation": 0.25, "test": 0.25}}
    synthesize(server, tmp_path, tasks=12, settings=settings)
    texts: dict[str, set[str]] = {}
    families: dict[str, set[str]] = {}
    for path in tmp_path.glob("*/tasks.jsonl"):
        split = path.parent.name
        for task in read_tasks(path):
            assert task.split == split
            texts.setdefault(split, set()).update(text.id for text in task.texts)
            families.setdefault(split, set()).add(task.meta["attribute"])
    assert len(texts) > 1
    for kept in (texts, families):
        assert sum(map(len, kept.values())) == len(set.union(*kept.values()))


def test_the_files_load_with_datasets(server: FakeOpenAI, oracle: SynthesisOracle, tmp_path: Path) -> None:
    from datasets import load_dataset

    synthesize(server, tmp_path / "out", tasks=3)
    for name in ("tasks", "sft", "rl"):
        files = {"train": str(tmp_path / "out" / "train" / f"{name}.jsonl")}
        rows = load_dataset("json", data_files=files, cache_dir=str(tmp_path / "hf"))["train"]
        assert len(rows) >= 1
        assert rows[0]["corpus"] == "support_messages"


def test_the_card_says_what_is_in_it(server: FakeOpenAI, oracle: SynthesisOracle, tmp_path: Path) -> None:
    synthesize(server, tmp_path, tasks=4)
    card = (tmp_path / "card.md").read_text()
    for said in (
        "4 tasks",
        "| support_messages | 180 | CC0-1.0 | written for this project |",
        "texts, configured",
        "clusters, of accepted tasks",
        "AMI of labels and most blind readings",
        f"| teacher | {server.spec} |",
        "synthesis/verifier",
        "No prices are known",
    ):
        assert said in card, said


def test_the_reverse_way_writes_texts_for_labels_and_asks_several_things_of_them(
    server: FakeOpenAI, oracle: SynthesisOracle, tmp_path: Path
) -> None:
    server.knows = _Writing(oracle)
    settings = LOOSE | {"screen": {"most_leakage": 1.0, "most_embedding_ami": 1.0}}
    options = {"corpora": (), "domains": ["mails to the support of a shop for gadgets"]}
    synthesize(server, tmp_path, tasks=2, settings=settings, licence="CC0-1.0", **options)
    tasks = [task for path in tmp_path.glob("*/tasks.jsonl") for task in read_tasks(path)]
    assert len({task.instruction for task in tasks}) == 2
    assert [text.id for text in tasks[0].texts] == [text.id for text in tasks[1].texts]
    assert all(task.meta["texts_written"] for task in tasks)
    assert tasks[0].corpus == "mails-to-the-support-of-a-shop-fo-51dec3"
    roles = Counter(server.roles_asked())
    assert roles["designer"] >= 1
    assert roles["writer"] >= 1
    assert not roles["generator"]


class _Writing:
    """Knows what it wrote: every text says nothing but the values it was ordered to have, disguised."""

    def __init__(self, oracle: SynthesisOracle) -> None:
        self._oracle = oracle
        self._labels: dict[str, dict[str, str]] = {}

    def __call__(self, role: str, body: dict[str, Any]) -> dict[str, Any]:
        if role != "writer":
            known = replace(self._oracle, labels=self._oracle.labels | self._labels)
            return (self._oracle if role == "designer" else known)(role, body)
        return {"texts": list(self._texts(body["messages"][1]["content"]))}

    def _texts(self, prompt: str) -> Iterator[dict[str, Any]]:
        number = 0
        values: dict[str, str] = {}
        for line in [*prompt.splitlines(), "[0]"]:
            if line.startswith("["):
                if values:
                    text = f"message {len(self._labels)} " + " ".join(
                        f"{hash(v) % 997}" for v in values.values()
                    )
                    self._labels[text] = values
                    yield {"number": number, "text": text}
                number, values = int(line[1:-1]), {}
            elif " #good: " in line:
                name, _, value = line.strip().partition(" #good: ")
                values[name.replace(" ", "_")] = value


# --- what is rejected, and why ---


@pytest.mark.parametrize(
    ("manner", "reasons"),
    [
        ("mislabelled", {"disagreement", "leakage", "duplicate", "trivial"}),
        ("leaking", {"leakage"}),
        ("trivial", {"leakage", "trivial", "duplicate"}),
    ],
)
def test_bad_drafts_are_rejected_with_the_reason(
    server: FakeOpenAI, oracle: SynthesisOracle, tmp_path: Path, manner: str, reasons: set[str]
) -> None:
    server.knows = replace(oracle, bad=1.0, manner=manner)
    result = synthesize(server, tmp_path, tasks=100, settings=LOOSE, most_attempts=12)
    assert result.accepted <= 3
    found = rejected(tmp_path)
    assert {each["rejection"]["reason"] for each in found} <= reasons
    assert {"mislabelled": "disagreement"}.get(manner, "leakage") in {
        each["rejection"]["reason"] for each in found
    }
    assert all(each["rejection"]["detail"] for each in found)
    if manner == "leaking":
        assert all(len(each["revisions"]) == 1 for each in found)  # it was given a chance to mend that


def test_an_instruction_is_accepted_once_a_corpus(
    server: FakeOpenAI, oracle: SynthesisOracle, tmp_path: Path
) -> None:
    server.knows = replace(oracle, bad=1.0, manner="duplicate")
    result = synthesize(server, tmp_path, tasks=5, most_attempts=18)
    assert result.accepted == 1
    assert dict(result.rejected) == {"duplicate": 17}


def test_contested_texts_are_dropped_from_a_task_that_is_otherwise_good(
    server: FakeOpenAI, oracle: SynthesisOracle, tmp_path: Path
) -> None:
    server.knows = replace(oracle, noise=0.08)
    synthesize(server, tmp_path, tasks=12, settings=LOOSE)
    tasks = [task for path in tmp_path.glob("*/tasks.jsonl") for task in read_tasks(path)]
    assert sum(task.meta["agreement"]["dropped"] for task in tasks) > 0
    for task in tasks:
        truth = next(name for name, known in oracle.wordings.items() if task.instruction in known)
        for text in task.texts:
            assert task.reference[text.id] == oracle.labels[" ".join(text.text.split())][truth]


def test_too_many_contested_texts_reject_it(
    server: FakeOpenAI, oracle: SynthesisOracle, tmp_path: Path
) -> None:
    server.knows = replace(oracle, noise=0.25)
    settings = LOOSE | {"verify": {"least_ami": -1.0, "most_dropped": 0.1}}
    synthesize(server, tmp_path, tasks=3, settings=settings, most_attempts=12)
    assert "ambiguous" in {each["rejection"]["reason"] for each in rejected(tmp_path)}


def test_a_draft_that_the_critic_sends_back_is_written_again_and_remembers_why(
    server: FakeOpenAI, oracle: SynthesisOracle, tmp_path: Path
) -> None:
    saying(server, "task_critic", {"verdict": "revise", "findings": ["say whose tone is meant"]})
    synthesize(server, tmp_path, tasks=1, sequential=True)
    asked = [r["messages"][1]["content"] for r in server.requests]
    assert any("- say whose tone is meant" in prompt and "Your last task" in prompt for prompt in asked)
    journal = (tmp_path / JOURNAL).read_text()
    assert '"findings": ["say whose tone is meant"]' in journal
    assert (
        "Drafts were sent back 1 times; 1 tasks were accepted after that"
        in (tmp_path / "card.md").read_text()
    )


@pytest.mark.parametrize(
    ("change", "reason", "detail"),
    [
        ({"verdict": "reject", "findings": ["nobody asks this"]}, "critic", "nobody asks this"),
        ({"clarity": 1}, "critic", "clarity 1 of 5"),
        ({"harmful": True}, "harmful", "harmful or degrading"),
        ({"personal": True}, "harmful", "private persons"),
    ],
)
def test_what_the_critic_rejects_is_rejected(
    server: FakeOpenAI,
    oracle: SynthesisOracle,
    tmp_path: Path,
    change: dict[str, Any],
    reason: str,
    detail: str,
) -> None:
    saying(server, "task_critic", *[change] * 2)
    settings = {"critique": {"revisions": 0}}
    synthesize(server, tmp_path, tasks=1, settings=settings, sequential=True, most_attempts=6)
    first = rejected(tmp_path)[0]["rejection"]
    assert (first["stage"], first["reason"]) == ("critique", reason)
    assert detail in first["detail"]


def test_the_critic_recognises_what_is_taken_under_other_words(
    server: FakeOpenAI, oracle: SynthesisOracle, tmp_path: Path
) -> None:
    known = server.knows
    assert known is not None

    def knows(role: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = known(role, body)
        taken = "Taken instructions:\n1. " in body["messages"][1]["content"]
        return answer | ({"same_as": 1} if role == "task_critic" and taken else {})

    server.knows = knows
    synthesize(server, tmp_path, tasks=2, sequential=True, most_attempts=3)
    assert {each["rejection"]["detail"] for each in rejected(tmp_path)} == {
        "asks for the same as support_messages-00000-1"
    }


def test_answers_of_no_use_cost_one_attempt(
    server: FakeOpenAI, oracle: SynthesisOracle, tmp_path: Path
) -> None:
    perfect = server.behaviour

    def garbles(role: str, answer: dict[str, Any], call: int) -> Reply:
        if role == "generator" and call < 2:
            return Reply("no JSON at all")
        reasoning = answer.pop("reasoning", "")
        return Reply(json.dumps(answer), reasoning_field="reasoning", reasoning=reasoning)

    server.behaviour = garbles
    result = synthesize(server, tmp_path, tasks=1, sequential=True)
    assert perfect == "perfect"
    assert result.complete
    first = rejected(tmp_path)[0]["rejection"]
    assert (first["stage"], first["reason"]) == ("generate", "unusable_answer")


def test_waiting_says_for_whom_and_for_how_long(
    server: FakeOpenAI, oracle: SynthesisOracle, tmp_path: Path
) -> None:
    server.behaviour = "down"
    said: list[str] = []
    patience = RetryPolicy(attempts=50, first_wait=0.01, longest_wait=0.05, patience=0.3)
    runner = SynthesisGraph(server.spec, config=SynthesisConfig.model_validate(SMALL), retries=patience)
    with pytest.raises(ModelError, match="503"):
        runner.run(str(MESSAGES), tasks=1, out=tmp_path, sequential=True, on_wait=said.append)
    assert said[0].startswith(f"{server.spec}: HTTP 503, tried again in 1 s, given up in 1 s")
    assert len(said) < 40


def test_a_teacher_without_reasoning_leaves_tasks_to_reinforce_on(
    server: FakeOpenAI, oracle: SynthesisOracle, tmp_path: Path
) -> None:
    server.behaviour = lambda role, answer, call: Reply(
        json.dumps({key: value for key, value in answer.items() if key != "reasoning"})
    )
    synthesize(server, tmp_path, tasks=2)
    assert not list(tmp_path.glob("*/sft.jsonl"))
    assert [row for path in tmp_path.glob("*/rl.jsonl") for row in read_examples(path, RlExample)]
    assert "| no_reasoning | 8 |" in (tmp_path / "card.md").read_text()


def test_tasks_without_traces_can_be_refused(
    server: FakeOpenAI, oracle: SynthesisOracle, tmp_path: Path
) -> None:
    server.knows = replace(oracle, reader_noise=0.0)
    server.behaviour = lambda role, answer, call: Reply(
        json.dumps({key: value for key, value in answer.items() if key != "reasoning"})
    )
    settings = {"distill": {"required": 1}}
    result = synthesize(server, tmp_path, tasks=1, settings=settings, most_attempts=3)
    assert dict(result.rejected)["no_trace"] >= 1


# --- the same, whatever happens on the way ---


def test_order_of_answers_and_number_of_calls_at_once_change_nothing(
    server: FakeOpenAI, oracle: SynthesisOracle, tmp_path: Path
) -> None:
    settings = {"novelty": {"tasks_a_family": 2}}
    synthesize(server, tmp_path / "a", 6, settings, cache=False, sequential=True)

    def uneven(role: str, answer: dict[str, Any], call: int) -> Reply:
        reasoning = answer.pop("reasoning", "")
        delay = 0.03 * (call * 7 % 5)
        return Reply(json.dumps(answer), "reasoning", reasoning, delay=delay)

    server.behaviour = uneven
    synthesize(server, tmp_path / "b", 6, settings, cache=False)
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")


def test_more_tasks_are_added_to_those_there_are(
    server: FakeOpenAI, oracle: SynthesisOracle, tmp_path: Path
) -> None:
    settings = {"novelty": {"tasks_a_family": 3}}
    synthesize(server, tmp_path / "a", 3, settings)
    before = {line for path in (tmp_path / "a").glob("*/rl.jsonl") for line in path.read_text().splitlines()}
    synthesize(server, tmp_path / "a", 7, settings)
    after = {line for path in (tmp_path / "a").glob("*/rl.jsonl") for line in path.read_text().splitlines()}
    assert len(before) == 3
    assert len(after) == 7
    assert before < after
    synthesize(server, tmp_path / "b", 7, settings)
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")


def test_a_finished_run_asks_nothing_again(
    server: FakeOpenAI, oracle: SynthesisOracle, tmp_path: Path
) -> None:
    synthesize(server, tmp_path)
    before = len(server.requests)
    result = synthesize(server, tmp_path, cache=False)
    assert len(server.requests) == before
    assert result.accepted == 3
    assert result.usage.calls == 0


def test_a_journal_that_was_cut_off_is_continued(
    server: FakeOpenAI, oracle: SynthesisOracle, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    synthesize(server, out, tasks=4)
    whole = files_of(out)
    journal = out / JOURNAL
    journal.write_bytes(journal.read_bytes()[:-700])
    synthesize(server, out, tasks=4)
    assert files_of(out) == whole


def test_another_run_in_the_folder_is_refused_and_can_be_replaced(
    server: FakeOpenAI, oracle: SynthesisOracle, tmp_path: Path
) -> None:
    synthesize(server, tmp_path, tasks=1)
    other = {"verify": {"samples": 2}}
    with pytest.raises(InputError, match=r"holds another run \(settings differ\)"):
        synthesize(server, tmp_path, tasks=1, settings=other)
    assert synthesize(server, tmp_path, tasks=1, settings=other, overwrite=True).complete


def test_a_server_that_goes_away_ends_the_run_and_loses_nothing(
    server: FakeOpenAI, oracle: SynthesisOracle, tmp_path: Path
) -> None:
    settings = {"novelty": {"tasks_a_family": 3}}
    synthesize(server, tmp_path / "a", 8, settings, cache=tmp_path / "a.sqlite")

    def dies(role: str, answer: dict[str, Any], call: int) -> Reply:
        reasoning = answer.pop("reasoning", "")
        return Reply(json.dumps(answer), "reasoning", reasoning, status=503 if call > begun + 60 else 200)

    begun = len(server.requests)
    server.behaviour = dies
    with pytest.raises(ModelError, match="503"):
        synthesize(server, tmp_path / "b", 8, settings, cache=tmp_path / "b.sqlite")
    assert "of 8 that were asked for" in (tmp_path / "b" / "card.md").read_text()
    server.behaviour = "perfect"
    synthesize(server, tmp_path / "b", 8, settings, cache=tmp_path / "b.sqlite")
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")


def test_refused_calls_are_repeated_until_they_are_answered(
    server: FakeOpenAI, oracle: SynthesisOracle, tmp_path: Path
) -> None:
    synthesize(server, tmp_path / "a", cache=False)
    seen: Counter[str] = Counter()

    def limited(role: str, answer: dict[str, Any], call: int) -> Reply:
        request = json.dumps(server.requests[call], sort_keys=True)
        seen[request] += 1
        if seen[request] <= 2:
            return Reply(status=429, headers={"Retry-After": "0"}, error="slow down")
        reasoning = answer.pop("reasoning", "")
        return Reply(json.dumps(answer), "reasoning", reasoning)

    server.behaviour = limited
    synthesize(server, tmp_path / "b", cache=False)
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")


def test_a_run_that_was_refused_everything_comes_to_the_same_once_it_is_not(
    server: FakeOpenAI, oracle: SynthesisOracle, tmp_path: Path
) -> None:
    synthesize(server, tmp_path / "a", cache=False)
    server.behaviour = lambda role, answer, call: Reply(status=400, error="unknown parameter")
    with pytest.raises(ModelError, match="attempts were refused"):
        synthesize(server, tmp_path / "b", cache=False)
    server.behaviour = "perfect"
    synthesize(server, tmp_path / "b", cache=False)
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")


@pytest.mark.parametrize("damage", [b"[1]\n", b"{broken\n", b"\xff\n"])
def test_a_damaged_journal_is_named_and_can_be_begun_anew(
    server: FakeOpenAI, oracle: SynthesisOracle, tmp_path: Path, damage: bytes
) -> None:
    synthesize(server, tmp_path / "out", tasks=2)
    whole = files_of(tmp_path / "out")
    journal = tmp_path / "out" / JOURNAL
    lines = journal.read_bytes().splitlines(keepends=True)
    for place in (0, 1):
        journal.write_bytes(b"".join([*lines[:place], damage, *lines[place + 1 :]]))
        with pytest.raises(InputError, match=rf"line {place + 1}: no JSON.* --overwrite"):
            synthesize(server, tmp_path / "out", tasks=2)
        synthesize(server, tmp_path / "out", tasks=2, overwrite=True)
        assert files_of(tmp_path / "out") == whole


def test_corpora_in_another_order_are_another_run(
    server: FakeOpenAI, oracle: SynthesisOracle, tmp_path: Path
) -> None:
    texts = list(oracle.labels)
    corpora = {"a": texts[:90], "b/c |": texts[90:]}
    synthesize(server, tmp_path, tasks=2, corpora=corpora)
    assert "| b-c |" in (tmp_path / "card.md").read_text()
    with pytest.raises(InputError, match="sources differ"):
        synthesize(server, tmp_path, tasks=2, corpora=dict(reversed(corpora.items())))


def test_written_texts_are_in_one_split_only(
    server: FakeOpenAI, oracle: SynthesisOracle, tmp_path: Path
) -> None:
    settings = LOOSE | {
        "screen": {"most_leakage": 1.0, "most_embedding_ami": 1.0},
        "split": {"validation": 0.3, "test": 0.3},
    }
    options: dict[str, Any] = {"domains": ["mails to a shop for gadgets"], "most_attempts": 30}
    synthesize(server, tmp_path, tasks=12, settings=settings, **options)
    splits: dict[str, set[str]] = {}
    for path in tmp_path.glob("*/tasks.jsonl"):
        for task in read_tasks(path):
            splits.setdefault(task.split, set()).update(text.text for text in task.texts)
    assert len(splits) > 1
    assert sum(map(len, splits.values())) == len(set.union(*splits.values()))
    assert any("in another split as well" in each["rejection"]["detail"] for each in rejected(tmp_path))


def test_texts_that_cannot_be_written_end_the_slice_and_cost_what_they_cost(
    server: FakeOpenAI, oracle: SynthesisOracle, tmp_path: Path
) -> None:
    server.behaviour = lambda role, answer, call: Reply("no JSON" if role == "writer" else json.dumps(answer))
    options: dict[str, Any] = {"corpora": (), "domains": ["mails"], "most_attempts": 2}
    result = synthesize(server, tmp_path, tasks=1, sequential=True, **options)
    assert dict(result.rejected) == {"unusable_answer": 2}
    assert {each["attempt"] for each in rejected(tmp_path)} == {0}
    assert all(each["need"]["writer"]["calls"] >= 2 for each in rejected(tmp_path))


def test_a_second_draft_is_not_judged_by_the_first(
    server: FakeOpenAI, oracle: SynthesisOracle, tmp_path: Path
) -> None:
    saying(server, "task_critic", {"verdict": "revise", "findings": ["again"]})
    known = server.knows
    assert known is not None

    def knows(role: str, body: dict[str, Any]) -> dict[str, Any]:
        again = "Your last task" in body["messages"][1]["content"]
        return known(role, body) | ({"labels": []} if role == "generator" and again else {})

    server.knows = knows
    synthesize(server, tmp_path, tasks=1, sequential=True)
    first = rejected(tmp_path)[0]
    assert first["rejection"]["reason"] == "unusable_answer"
    assert first["scores"]["verifier"] is None
    assert first["ratings"] == {}


def test_stopping_to_listen_stops_the_run_and_frees_the_folder(
    server: FakeOpenAI, oracle: SynthesisOracle, tmp_path: Path
) -> None:
    server.latency = 0.05
    config = SynthesisConfig.model_validate(SMALL)
    runner = SynthesisGraph(server.spec, config=config)
    stream = runner.stream(str(MESSAGES), tasks=5, out=tmp_path / "o")
    next(stream)
    stream.close()
    asked = len(server.requests)
    assert runner.run(str(MESSAGES), tasks=1, out=tmp_path / "o").complete
    assert len(server.requests) > asked


def test_an_endpoint_that_refuses_every_request_is_not_asked_for_ever(
    server: FakeOpenAI, oracle: SynthesisOracle, tmp_path: Path
) -> None:
    server.behaviour = lambda role, answer, call: Reply(status=400, error="unknown parameter")
    with pytest.raises(ModelError, match="all 9 attempts were refused"):
        synthesize(server, tmp_path, tasks=50)


@pytest.mark.parametrize("reports_usage", [True, False])
def test_the_budget_is_never_exceeded_and_what_is_finished_is_kept(
    server: FakeOpenAI, oracle: SynthesisOracle, tmp_path: Path, reports_usage: bool
) -> None:
    server.reports_usage = reports_usage
    with pytest.raises(BudgetError, match="the budget of 120000 tokens"):
        synthesize(server, tmp_path, tasks=50, settings=LOOSE, budget_tokens=120_000)
    assert 60_000 < server.tokens < 120_000
    assert (tmp_path / "card.md").is_file()
    server.reports_usage = True
    assert synthesize(server, tmp_path, tasks=2, settings=LOOSE).complete


def test_a_small_budget_makes_what_calls_it_can(
    server: FakeOpenAI, oracle: SynthesisOracle, tmp_path: Path
) -> None:
    with pytest.raises(BudgetError):
        synthesize(server, tmp_path, tasks=5, budget_tokens=8_000)
    assert 0 < server.tokens < 8_000


# --- roles, events, traces ---


def test_each_role_is_asked_of_its_own_model(
    server: FakeOpenAI, oracle: SynthesisOracle, tmp_path: Path
) -> None:
    address = server.spec.partition("@")[2]
    models = {role: f"vllm:{role}@{address}" for role in ("generator", "verifier", "critic", "teacher")}
    server.served = ["fake", *models]
    synthesize(server, tmp_path, tasks=1, models=models)
    asked = {
        (role, request["model"]) for request, role in zip(server.requests, server.roles_asked(), strict=True)
    }
    assert asked == {
        ("generator", "generator"),
        ("verifier", "verifier"),
        ("task_critic", "critic"),
        ("proposer", "teacher"),
    }


def test_blind_readings_and_traces_are_different_samples(
    server: FakeOpenAI, oracle: SynthesisOracle, tmp_path: Path
) -> None:
    synthesize(server, tmp_path, tasks=1, sequential=True)
    seeds: dict[str, set[int]] = {}
    for request, role in zip(server.requests, server.roles_asked(), strict=True):
        seeds.setdefault(role, set()).add(request["seed"])
    assert seeds["verifier"] == {0, 1, 2}
    assert seeds["proposer"] == {0, 1, 2, 3}


def test_events_tell_each_step_and_a_stream_ends_with_the_result(
    server: FakeOpenAI, oracle: SynthesisOracle, tmp_path: Path
) -> None:
    runner = SynthesisGraph(server.spec, config=SynthesisConfig.model_validate(SMALL))
    *events, result = runner.stream(str(MESSAGES), tasks=1, out=tmp_path / "a", sequential=True)
    assert isinstance(result, SynthesisResult)
    first = [e for e in events if isinstance(e, SynthesisEvent) and e.task_id.endswith("00000-1")]
    assert [event.stage for event in first] == [
        "sample",
        "generate",
        "verify",
        "critique",
        "distill",
        "write",
    ]
    assert first[-1].kind == "accepted"

    async def listen() -> list[Any]:
        stream = runner.astream(str(MESSAGES), tasks=1, out=tmp_path / "b", sequential=True)
        return [event async for event in stream]

    assert asyncio.run(listen())[:-1] == events


def test_the_trace_names_attempts_nodes_and_roles(
    server: FakeOpenAI, oracle: SynthesisOracle, tmp_path: Path
) -> None:
    synthesize(server, tmp_path, tasks=1, sequential=True, trace=True)
    records = read_trace(tmp_path / "trace.jsonl")
    names = Counter(record["name"] for record in records)
    assert names["synthesis/support_messages-00000-1"] == 1
    assert {"sample", "generate", "screen", "verify", "critique", "distill", "write"} <= set(names)
    roles = {tag for record in records for tag in record["tags"] if tag.startswith("role:")}
    assert roles == {"role:generator", "role:verifier", "role:critic", "role:teacher"}


def test_the_drawing_shows_the_graph() -> None:
    edges = {(edge.source, edge.target) for edge in compiled.get_graph().edges}
    assert edges == {
        ("__start__", "sample"),
        ("sample", "generate"),
        ("sample", "dead_letter"),
        ("generate", "screen"),
        ("generate", "dead_letter"),
        ("screen", "verify"),
        ("screen", "generate"),
        ("screen", "dead_letter"),
        ("verify", "critique"),
        ("verify", "dead_letter"),
        ("critique", "distill"),
        ("critique", "generate"),
        ("critique", "dead_letter"),
        ("distill", "write"),
        ("distill", "dead_letter"),
        ("write", "__end__"),
        ("dead_letter", "__end__"),
    }


def test_the_graph_runs_alone_on_texts_it_is_given(server: FakeOpenAI, oracle: SynthesisOracle) -> None:
    texts = list(oracle.labels)[:40]
    given: Any = {"texts": texts, "corpus": "mine"}
    context: Any = {"model": server.spec, "config": {"texts": [20, 20]}}
    output = asyncio.run(compiled.ainvoke(given, context=context))
    assert output["outcome"].id == "mine-00000-1"
    assert output["outcome"].task is not None
    assert len(output["outcome"].task.texts) == 20
    repeated: Any = {"texts": [{"id": "1", "text": text} for text in texts]}
    with pytest.raises(InputError, match="same id"):
        asyncio.run(compiled.ainvoke(repeated, context=context))


# --- the real small model ---

CHAT = f"local:{local_server.find_weights()}"
TINY = {"texts": [4, 5], "k": [2, 2], "instructions_a_slice": 1}


def test_the_small_local_model_rejects_itself_with_reasons(tmp_path: Path) -> None:
    config = SynthesisConfig.model_validate(TINY | {"verify": {"samples": 2}})
    result = SynthesisGraph(CHAT, config=config).run(str(MESSAGES), tasks=3, out=tmp_path, most_attempts=2)
    assert result.attempts == 2
    found = rejected(tmp_path)
    assert len(found) == 2 - result.accepted
    assert found
    assert all(each["rejection"]["detail"] for each in found)
    for path in tmp_path.glob("*/*.jsonl"):
        assert check_file(path)


def test_every_node_runs_on_the_small_local_model(
    server: FakeOpenAI, oracle: SynthesisOracle, tmp_path: Path
) -> None:
    bars = {
        "verify": {"samples": 2, "least_ami": -1.0, "least_vote": 0.0, "most_dropped": 1.0},
        "critique": {"revisions": 0, "least_rating": 1},
        "distill": {"samples": 1},
    }
    config = SynthesisConfig.model_validate(TINY | {"texts": [8, 8], "k": [2, 4]} | bars)
    runner = SynthesisGraph(CHAT, models={"generator": server.spec}, config=config)
    stages: set[str] = set()
    runner.run(
        str(MESSAGES), tasks=1, out=tmp_path, most_attempts=3, on_event=lambda event: stages.add(event.stage)
    )
    assert {"generate", "verify", "critique"} <= stages
    card = (tmp_path / "card.md").read_text()
    assert "| verifier |" in card
