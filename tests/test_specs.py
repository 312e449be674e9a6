"""Between a spec string and an answer: spec and k are read, keys hidden, answers kept, calls repeated."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster_r1.agents.ledger import Ledger
from cluster_r1.agents.models.cache import ResponseCache, default_cache_path, request_key
from cluster_r1.agents.models.failures import status_of, worth_repeating
from cluster_r1.agents.models.messages import ChatAnswer, ChatRequest
from cluster_r1.agents.models.retries import RetryPolicy, tell_wait, with_retries
from cluster_r1.agents.models.specs import ModelSpec
from cluster_r1.errors import BudgetError, InputError, ModelError
from cluster_r1.prompts import Message
from cluster_r1.secrets import HIDDEN, redact, redact_values
from cluster_r1.types import KRange, Usage

QUICK = settings(max_examples=100, deadline=None)

# --- spec strings


@pytest.mark.parametrize(
    ("spec", "expected", "written"),
    [
        ("embedding", ModelSpec("embedding"), "embedding"),
        (" local\n", ModelSpec("local"), "local"),
        ("local:/models/a b.gguf", ModelSpec("local", name="/models/a b.gguf"), "local:/models/a b.gguf"),
        ("local:C:\\a.gguf", ModelSpec("local", name="C:\\a.gguf"), "local:C:\\a.gguf"),
        ("checkpoint:out/x", ModelSpec("checkpoint", name="out/x"), "checkpoint:out/x"),
        ("openai:gpt-5-mini", ModelSpec("hosted", "gpt-5-mini", "openai"), "openai:gpt-5-mini"),
        ("openai:ft:gpt:org::7", ModelSpec("hosted", "ft:gpt:org::7", "openai"), "openai:ft:gpt:org::7"),
        (
            "vllm:Qwen/Qwen3-8B@http://host:8000",
            ModelSpec("vllm", "Qwen/Qwen3-8B", url="http://host:8000/v1"),
            "vllm:Qwen/Qwen3-8B@http://host:8000/v1",
        ),
        ("vllm:a@b@https://h/", ModelSpec("vllm", "a@b", url="https://h/v1"), "vllm:a@b@https://h/v1"),
        (
            "vllm:m@http://[::1]:1/x/",
            ModelSpec("vllm", "m", url="http://[::1]:1/x"),
            "vllm:m@http://[::1]:1/x",
        ),
    ],
)
def test_every_form_of_spec_is_read_and_written_back(spec: str, expected: ModelSpec, written: str) -> None:
    parsed = ModelSpec.parse(spec)
    assert parsed == expected
    assert str(parsed) == written
    assert ModelSpec.parse(str(parsed)) == parsed


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        *[
            (spec, "Known forms: embedding, local")
            for spec in ("", " ", "gpt-5-mini", "openai:", ":gpt", "local:")
        ],
        *[(spec, "Known forms: embedding, local") for spec in ("embedding:x", "checkpoint:", "checkpoint")],
        *[
            (spec, "Form: vllm:<name>@http")
            for spec in ("vllm", "vllm:", "vllm:m", "vllm:@http://h", "vllm:m@u:p@h")
        ],
        *[(spec, "names no host") for spec in ("vllm:m@http://", "vllm:m@http:///v1", "vllm:m@httpfoo")],
        *[(spec, "VLLM_API_KEY") for spec in ("vllm:m@http://u:geheim@h/v1", "vllm:m@https://:geheim@h")],
    ],
)
def test_what_is_no_spec_is_refused_with_the_forms(spec: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        ModelSpec.parse(spec)
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("vllm:x@localhost:8000", "the address needs http://: vllm:x@http://localhost:8000"),
        ("vllm:a/b@host/v1", "the address needs http://: vllm:a/b@http://host/v1"),
        ("embeding", "did you mean embedding?"),
        ("Local", "did you mean local?"),
        ("gpt-5-mini", "did you mean openai:gpt-5-mini?"),
        ("claude-sonnet-4-5", "did you mean anthropic:claude-sonnet-4-5?"),
    ],
)
def test_what_was_probably_meant_is_said(spec: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        ModelSpec.parse(spec)
    assert said in str(caught.value)


def test_an_address_that_is_no_url_is_refused_as_input() -> None:
    with pytest.raises(InputError):
        ModelSpec.parse("vllm:m@http://[::1")


def test_a_password_is_not_repeated_where_the_name_is_forgotten() -> None:
    with pytest.raises(InputError) as caught:
        ModelSpec.parse("vllm:http://u:geheim@h/v1")
    assert "geheim" not in str(caught.value)


@QUICK
@given(
    st.text() | st.lists(st.sampled_from(["vllm", "local", ":", "@http", "://", "h", "/", " "])).map("".join)
)
def test_any_spec_is_read_or_refused(spec: str) -> None:
    try:
        parsed = ModelSpec.parse(spec)
    except InputError:
        return
    assert str(ModelSpec.parse(str(parsed))) == str(parsed)


# --- the number of clusters


@pytest.mark.parametrize(
    ("k", "low", "high"),
    [
        *[
            (5, 5, 5),
            ("5", 5, 5),
            (" 5 ", 5, 5),
            (np.int64(5), 5, 5),
            (1, 1, 1),
            (KRange(low=2, high=3), 2, 3),
        ],
        *[("4..12", 4, 12), ("4-12", 4, 12), ("4:12", 4, 12), (" 4 .. 12 ", 4, 12), ("4..4", 4, 4)],
        *[((4, 12), 4, 12), ([4, 12], 4, 12), (range(4, 13), 4, 12), (range(12, 3, -1), 4, 12)],
        *[((np.int32(4), 12), 4, 12)],
    ],
)
def test_every_form_of_k_is_read(k: Any, low: int, high: int) -> None:
    parsed = KRange.parse(k)
    assert parsed == KRange(low=low, high=high)
    assert KRange.parse(str(parsed)) == parsed


def test_no_k_leaves_the_number_to_the_model() -> None:
    assert KRange.parse(None) is None


WRONG_K: list[Any] = [
    0,
    -1,
    "0",
    "0..3",
    "12..4",
    (3, 2),
    (0, 0),
    range(0),
    range(3),
    True,
    np.True_,
    5.0,
    "5.0",
    "",
]
WRONG_K += [
    "many",
    "..5",
    "5..",
    "1..2..3",
    "-3",
    (1,),
    (1, 2, 3),
    (1.0, 2.0),
    (True, True),
    {1, 2},
    {"low": 1},
    b"",
]


@pytest.mark.parametrize("k", WRONG_K, ids=repr)
def test_what_is_no_number_of_clusters_is_refused(k: Any) -> None:
    with pytest.raises(InputError, match=r"give a number of at least 1, or a range such as 4\.\.12"):
        KRange.parse(k)


@pytest.mark.parametrize("k", [np.array([4, 12]), "9" * 5_000, b"ab"], ids=["array", "digits", "bytes"])
def test_what_only_looks_like_a_number_of_clusters_is_refused_too(k: Any) -> None:
    with pytest.raises(InputError):
        KRange.parse(k)


# --- keys


@pytest.mark.parametrize(
    "key",
    [
        "sk-proj-AbC123_def-456",
        "sk-ant-api03-AbCdEf123456",
        "sk-***********abcd",
        "gsk_AbCdEf123456",
        "hf_AbCdEf123456",
        "xai-AbCdEf123456",
        "nvapi-AbCdEf123456",
        "lsv2_pt_0123456789abcdef",
        "AIzaSyA0123456789abcdefghijk",
        "ls__0123456789abcdef",
    ],
)
def test_what_looks_like_a_key_is_hidden(key: str) -> None:
    assert redact(f"Incorrect API key provided: {key}.") in (
        f"Incorrect API key provided: {HIDDEN}",
        f"Incorrect API key provided: {HIDDEN}.",
    )
    assert key not in redact(f'{{"Authorization": "Bearer {key}"}}')


@pytest.mark.parametrize(
    "name", ["OPENAI_API_KEY", "APIKEY", "HF_TOKEN", "my_secret", "DB_PASSWORD", "AWS_SECRET_ACCESS_KEY"]
)
def test_the_values_of_key_like_variables_are_hidden(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "plain words")
    assert redact("it said: plain words!") == redact_values("it said: plain words!") == f"it said: {HIDDEN}!"


def test_of_two_secrets_the_longer_is_hidden_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_TOKEN", "abcdefgh")
    monkeypatch.setenv("B_TOKEN", "abcdefgh-ijkl")
    assert redact("abcdefgh-ijkl abcdefgh") == f"{HIDDEN} {HIDDEN}"


@pytest.mark.parametrize(
    ("name", "value"), [("VLLM_API_KEY", "EMPTY"), ("OPENAI_API_KEY", ""), ("TOKENIZER", "plain words")]
)
def test_placeholders_and_other_variables_hide_nothing(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    said = "EMPTY plain words about task-1 and risk_assessment, Bearer of news, skating"
    assert redact(said) == said


def test_user_data_keeps_what_only_looks_like_a_key() -> None:
    assert redact_values("my key is sk-abcdefgh12345") == "my key is sk-abcdefgh12345"


# --- the ledger


def test_the_ledger_counts_what_is_spent_and_what_is_saved() -> None:
    ledger = Ledger(usage=Usage(calls=1, input_tokens=10))
    answer = ChatAnswer("x", input_tokens=5, output_tokens=7, reasoning_tokens=3)
    ledger.record(answer)
    ledger.record(replace(answer, cached=True))
    ledger.record_failure()
    assert ledger.usage == Usage(
        calls=2,
        input_tokens=15,
        output_tokens=7,
        reasoning_tokens=3,
        saved_calls=1,
        saved_tokens=12,
        failed_calls=1,
    )
    assert ledger.usage.total_tokens == 22


def test_a_call_beyond_the_budget_is_refused_before_it_is_made() -> None:
    ledger = Ledger(budget_tokens=100, usage=Usage(input_tokens=30, output_tokens=30))
    assert ledger.allow(30, 10, "critic") == 10
    assert ledger.allow(5, 10, "critic") == 35
    with pytest.raises(BudgetError, match=r"100 tokens has 40 left, and the critic needs about 41") as caught:
        ledger.allow(30, 11, "critic")
    assert "--budget-tokens" in str(caught.value)
    ledger.record(ChatAnswer("x", input_tokens=500))
    with pytest.raises(BudgetError, match="has 0 left"):
        ledger.allow(1, 0, "critic")
    assert Ledger().allow(10**12, 1, "critic") is None


def test_a_budget_of_nothing_still_takes_saved_answers() -> None:
    ledger = Ledger(budget_tokens=0)
    ledger.record(ChatAnswer("x", input_tokens=500, cached=True))
    assert ledger.allow(0, 0, "critic") == 0
    assert ledger.usage.total_tokens == 0


# --- the response cache

ANSWER = ChatAnswer(
    '{"a": "né\u2028\x00😀"}', "so", "stop", input_tokens=5, output_tokens=7, reasoning_tokens=3
)
REQUEST = ChatRequest((Message("system", "s"), Message("user", "u")), {"type": "object"}, 0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "answers.sqlite"


@pytest.fixture
def opened(path: Path) -> Iterator[ResponseCache]:
    cache = ResponseCache(path)
    yield cache
    cache.close()


def test_an_answer_survives_reopening_and_comes_back_marked(path: Path, opened: ResponseCache) -> None:
    assert opened.get("k") is None
    opened.put("k", "m", ANSWER)
    opened.put("other", "m", replace(ANSWER, text="x"))
    again = ResponseCache(path)
    assert again.get("k") == opened.get("k") == replace(ANSWER, cached=True)
    opened.put("k", "m", replace(ANSWER, text="newer"))
    assert again.get("k") == replace(ANSWER, text="newer", cached=True)
    again.close()


def test_an_answer_with_half_a_surrogate_pair_is_kept(opened: ResponseCache) -> None:
    opened.put("k", "m", ChatAnswer("\ud83d"))
    assert opened.get("k") == ChatAnswer("\ud83d", cached=True)


def test_only_the_owner_can_read_the_files(path: Path, opened: ResponseCache) -> None:
    opened.put("k", "m", ANSWER)
    files = sorted(file.name for file in path.parent.iterdir())
    assert files == [f"answers.sqlite{ending}" for ending in ("", "-shm", "-wal")]
    assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o600}


@pytest.mark.parametrize(
    "content", [b"not a database", b"SQLite format 3\x00" + b"\xff" * 5_000, b"x" * 100_000]
)
def test_a_damaged_file_is_set_aside_and_begun_anew(
    path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        cache = ResponseCache(path)
    assert "is damaged" in caplog.text
    cache.put("k", "m", ANSWER)
    cache.close()
    again = ResponseCache(path)
    assert again.get("k") == replace(ANSWER, cached=True)
    again.close()
    assert path.with_name("answers.sqlite.damaged").read_bytes() == content
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("first", ["get", "put"])
def test_damage_that_shows_only_later_is_met_in_the_same_way(
    path: Path, first: str, caplog: pytest.LogCaptureFixture
) -> None:
    cache = ResponseCache(path)
    for number in range(300):
        cache.put(f"key {number}", "m", replace(ANSWER, text="x" * 500))
    cache.close()
    content = bytearray(path.read_bytes())
    content[4_096:] = b"\xa5" * (len(content) - 4_096)
    path.write_bytes(content)
    damaged = ResponseCache(path)
    with caplog.at_level(logging.WARNING):
        if first == "get":
            assert damaged.get("key 7") is None
        damaged.put("k", "m", ANSWER)
    assert damaged.get("k") == replace(ANSWER, cached=True)
    assert "is damaged" in caplog.text
    damaged.close()


def test_a_locked_file_costs_neither_the_answer_nor_the_file(
    path: Path, opened: ResponseCache, caplog: pytest.LogCaptureFixture
) -> None:
    opened.put("k", "m", ANSWER)
    opened._connection.execute("PRAGMA busy_timeout = 10")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with caplog.at_level(logging.WARNING):
        opened.put("k2", "m", ANSWER)
    assert "could not be kept" in caplog.text
    assert opened.get("k") == replace(ANSWER, cached=True)
    assert opened.get("k2") is None
    other.execute("ROLLBACK")
    other.close()
    opened.put("k2", "m", ANSWER)
    assert opened.get("k2") == replace(ANSWER, cached=True)
    assert not path.with_name("answers.sqlite.damaged").exists()


@pytest.mark.parametrize("inside", ["", "answers.sqlite"])
def test_a_path_that_can_be_no_cache_is_refused_and_left_alone(tmp_path: Path, inside: str) -> None:
    taken = tmp_path / "documents"
    if inside:
        taken.write_text("ten years of work")
    else:
        taken.mkdir()
        (taken / "thesis.txt").write_text("ten years of work")
    with pytest.raises(InputError, match="CLUSTER_R1_CACHE"):
        ResponseCache(taken / inside)
    kept = taken if inside else taken / "thesis.txt"
    assert kept.read_text() == "ten years of work"


WRITER = """
import sys
from pathlib import Path
from cluster_r1.agents.models.cache import ResponseCache
from cluster_r1.agents.models.messages import ChatAnswer
sys.stdin.readline()
cache = ResponseCache(Path(sys.argv[1]))
for number in range(60):
    cache.put(f"{sys.argv[2]} {number}", "m", ChatAnswer(f"{sys.argv[2]} says {number}"))
    cache.put("shared", "m", ChatAnswer("the same"))
"""


def test_processes_that_write_at_once_lose_nothing(path: Path, opened: ResponseCache) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), name],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("one", "two")
    ]
    for writer in writers:
        assert writer.stdin
        writer.stdin.write("go\n")
        writer.stdin.flush()
    errors = [writer.communicate(timeout=60)[1] for writer in writers]
    assert errors == ["", ""]
    for name in ("one", "two"):
        for number in range(60):
            assert opened.get(f"{name} {number}") == ChatAnswer(f"{name} says {number}", cached=True)
    assert opened.get("shared") == ChatAnswer("the same", cached=True)
    assert not path.with_name("answers.sqlite.damaged").exists()


def test_a_file_that_another_process_is_just_making_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "answers.sqlite"
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    done = threading.Timer(0.2, other.execute, ["COMMIT"])
    done.start()
    try:
        ResponseCache(path).close()
    finally:
        done.join()
        other.close()
    assert path.exists()


def test_a_key_tells_apart_everything_that_decides_the_answer() -> None:
    keys = {
        request_key("m", {"t": 1}, REQUEST),
        request_key("n", {"t": 1}, REQUEST),
        request_key("m", {"t": 2}, REQUEST),
        request_key("m", {"t": 1}, replace(REQUEST, sample=1)),
        request_key("m", {"t": 1}, replace(REQUEST, schema=None)),
        request_key("m", {"t": 1}, replace(REQUEST, messages=REQUEST.messages[:1])),
        request_key("m", {"t": 1}, replace(REQUEST, messages=REQUEST.messages[::-1])),
    }
    assert len(keys) == 7
    assert request_key("m", {"a": 1, "b": 2}, REQUEST) == request_key("m", {"b": 2, "a": 1}, REQUEST)


def test_the_cache_stands_where_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("CLUSTER_R1_CACHE", raising=False)
    assert default_cache_path() == tmp_path / ".cache" / "cluster-r1" / "answers.sqlite"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_cache_path() == tmp_path / "xdg" / "cluster-r1" / "answers.sqlite"
    monkeypatch.setenv("CLUSTER_R1_CACHE", str(tmp_path / "mine.db"))
    assert default_cache_path() == tmp_path / "mine.db"


# --- retries

HTTP = httpx.Request("POST", "http://h/v1/chat/completions")


def http_error(status: int, body: str = "", **headers: str) -> httpx.HTTPStatusError:
    response = httpx.Response(
        status,
        request=HTTP,
        text=body,
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )
    return httpx.HTTPStatusError(f"HTTP {status} {body}", request=HTTP, response=response)


def openai_error(status: int, code: str, **headers: str) -> openai.APIStatusError:
    response = http_error(status, **headers).response
    kind = openai.RateLimitError if status == 429 else openai.APIStatusError
    return kind(f"Error code: {status} - {code}", response=response, body={"code": code})


class ProviderError(Exception):
    """An exception of a library that is not known here."""


class TransportError(ProviderError):
    """One that says by its name that no answer came."""


@pytest.mark.parametrize(
    ("error", "status", "repeated"),
    [
        *[(http_error(status), status, True) for status in (408, 409, 425, 429, 500, 502, 503, 529)],
        *[(http_error(status), status, False) for status in (400, 401, 403, 404, 413, 422)],
        (openai_error(429, "rate_limit_exceeded"), 429, True),
        (openai_error(429, "insufficient_quota"), 429, False),
        (openai_error(503, "overloaded"), 503, True),
        (openai.APIConnectionError(request=HTTP), None, True),
        (openai.APITimeoutError(request=HTTP), None, True),
        (httpx.ConnectError("refused"), None, True),
        (httpx.ReadTimeout("slow"), None, True),
        (ConnectionResetError(), None, True),
        (TimeoutError(), None, True),
        (json.JSONDecodeError("no", "x", 0), None, True),
        (ValueError("no completion"), None, True),
        (KeyError("choices"), None, True),
        (TransportError(), None, True),
        (ProviderError(), None, False),
        (ModelError("no"), None, False),
        (UnicodeEncodeError("utf-8", "\ud83d", 0, 1, "no"), None, False),
        (RuntimeError("bug"), None, False),
    ],
    ids=lambda value: repr(value)[:60] if isinstance(value, Exception) else None,
)
def test_only_what_may_pass_is_repeated(error: Exception, status: int | None, repeated: bool) -> None:
    assert status_of(error) == status
    assert worth_repeating(error) is repeated


TINY = RetryPolicy(attempts=3, first_wait=0.001, longest_wait=0.002)


def failing(times: int, error: Exception) -> tuple[Callable[[], Any], list[int]]:
    """A call that fails so often and then gives "done", and the list of its calls."""
    calls: list[int] = []

    async def call() -> str:
        calls.append(len(calls))
        if len(calls) <= times:
            raise error
        return "done"

    return call, calls


@pytest.mark.parametrize("times", [0, 1, 2])
def test_a_passing_failure_is_survived(times: int) -> None:
    call, calls = failing(times, http_error(503))
    assert asyncio.run(with_retries(call, TINY, "m")) == "done"
    assert len(calls) == times + 1


@pytest.mark.parametrize(
    ("error", "attempts", "said"),
    [
        (http_error(503, "busy"), 3, r"openai:x failed after 3 attempts \(HTTP 503\): HTTP 503 busy"),
        (http_error(401), 1, r"failed at the first attempt \(HTTP 401\).*Check the API key"),
        (http_error(404), 1, r"Check the model's name and the server's address"),
        (openai_error(429, "slow_down"), 3, r"after 3 attempts \(HTTP 429\).*lower the concurrency"),
        (openai_error(429, "insufficient_quota"), 1, r"at the first attempt \(HTTP 429\)"),
        (ConnectionResetError(), 3, r"after 3 attempts: ConnectionResetError\. Check that the server runs"),
        (
            openai.APITimeoutError(request=HTTP),
            3,
            r"attempts: Request timed out\. Check that the server runs",
        ),
        (
            ConnectionRefusedError(),
            3,
            r"^cannot connect to the server of openai:x \(3 attempts\): connection refused\. Is the server r",
        ),
        (json.JSONDecodeError("no", "x", 0), 3, r"the server answered no JSON\. "),
        (RuntimeError("a\n  bug"), 1, r"at the first attempt: a bug$"),
    ],
)
def test_a_lasting_failure_is_told_in_one_line_with_its_remedy(
    error: Exception, attempts: int, said: str
) -> None:
    call, calls = failing(99, error)
    with pytest.raises(ModelError, match=said) as caught:
        asyncio.run(with_retries(call, TINY, "openai:x"))
    assert len(calls) == attempts
    assert "\n" not in str(caught.value)


def test_whoever_shows_progress_is_told_of_each_wait() -> None:
    told: list[str] = []

    async def watched() -> None:
        tell_wait.set(told.append)
        call, _ = failing(2, http_error(503))
        await with_retries(call, TINY, "m")

    asyncio.run(watched())
    assert told == ["HTTP 503, attempt 2 of 3 in 1 s", "HTTP 503, attempt 3 of 3 in 1 s"]


def test_no_key_that_a_provider_quotes_is_told_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROVIDER_API_KEY", "correct-horse-battery")
    call, _ = failing(99, http_error(401, "Incorrect key sk-abcdefgh12345 or correct-horse-battery"))
    with pytest.raises(ModelError) as caught:
        asyncio.run(with_retries(call, TINY, "m"))
    assert "sk-abc" not in str(caught.value)
    assert "correct-horse" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_cancelling_is_no_failure() -> None:
    async def call() -> str:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(with_retries(call, TINY, "m"))


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that would have been waited."""
    asked: list[float] = []

    async def sleep(seconds: float) -> None:
        asked.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    return asked


POLICY = RetryPolicy(attempts=6, first_wait=0.5, longest_wait=60.0)


def in_seconds(seconds: float) -> Callable[[], str]:
    """The HTTP date at so many seconds from when it is asked for."""
    return lambda: format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [
        ("7", 7.0, 7.05),
        (" 1.5 ", 1.5, 1.55),
        ("0", 0.0, 0.05),
        ("86400", 60.0, 60.05),
        (in_seconds(40), 20.0, 40.05),
        (in_seconds(-40), 0.0, 0.05),
        (in_seconds(4_000), 60.0, 60.05),
        ("soon", 0.0, 1.0),
        ("-5", 0.0, 1.0),
        ("", 0.0, 1.0),
        ("Wed, 21 Oct 2015 07:28:00 -0000", 0.0, 1.0),
    ],
)
def test_a_server_that_says_when_to_come_back_is_obeyed(
    waits: list[float], header: str | Callable[[], str], least: float, most: float
) -> None:
    said = header if isinstance(header, str) else header()
    for error in (http_error(429, retry_after=said), openai_error(429, "slow_down", retry_after=said)):
        call, _ = failing(1, error)
        assert asyncio.run(with_retries(call, POLICY, "m")) == "done"
    assert len(waits) == 2
    assert all(least <= wait <= most for wait in waits)


def test_waits_double_up_to_the_longest_with_full_jitter(
    waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: high if low == 0 else None)
    call, calls = failing(99, http_error(503))
    with pytest.raises(ModelError):
        asyncio.run(with_retries(call, replace(POLICY, longest_wait=5.0), "m"))
    assert len(calls) == 6
    assert waits == [1.0, 2.0, 4.0, 5.0, 5.0]
