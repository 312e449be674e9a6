"""A real HTTP server that speaks OpenAI's chat API and plays a model with chosen manners.

It knows the answer: a text `label: anything` belongs to the cluster `label`. How it says so is its behaviour.
Run as a module (`python -m tests.fakes.openai_server --port 8000 --latency 0.2`) it serves measurements.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import itertools
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

_ROLE_BY_OPENING = {
    "You group texts": "proposer",
    "You sort texts": "assigner",
    "You review": "critic",
    "You improve": "refiner",
    "You join groupings": "reconciler",
    "You invent tasks": "generator",
    "You plan collections": "designer",
    "You write texts": "writer",
    "You test whether": "verifier",
    "You decide whether": "task_critic",
}
_LINE = re.compile(r"^\s*\[(\d+)\] (.*)$", re.MULTILINE)
_GROUP = re.compile(r"^(G\d+) \(\d+ texts\): (.*?)(?: - .*)?$", re.MULTILINE)
_CLUSTER = re.compile(r"^(C\d+): (.*?)(?: - .*)?$", re.MULTILINE)

Answer = dict[str, Any]


@dataclass
class Reply:
    """What goes over the wire: a chat completion, or a failure."""

    content: str = ""
    reasoning_field: str | None = None
    reasoning: str = ""
    finish_reason: str = "stop"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    error: str = ""
    drop: bool = False
    delay: float = 0.0
    raw: bytes | None = None
    content_type: str = "application/json"


Behaviour = Callable[[str, Answer, int], Reply]
"""From role, perfect answer and number of the call (from 0) to the reply."""


def label_of(text: str) -> str:
    """The cluster that the fake model puts a text in."""
    head, colon, _ = text.partition(":")
    return head.strip() if colon else "unlabelled"


def _perfect(role: str, answer: Answer, call: int) -> Reply:
    if reasoning := answer.pop("reasoning", None):
        return Reply(json.dumps(answer), reasoning_field="reasoning", reasoning=reasoning)
    return Reply(json.dumps(answer))


def _changed(change: Callable[[Answer], Any], roles: tuple[str, ...] = ("proposer",)) -> Behaviour:
    """The perfect answer with a change made by some roles."""

    def reply(role: str, answer: Answer, call: int) -> Reply:
        return Reply(json.dumps(change(answer) if role in roles else answer))

    return reply


def _every_second(failure: Reply) -> Behaviour:
    return lambda role, answer, call: failure if call % 2 == 0 else _perfect(role, answer, call)


def _assignments(change: Callable[[list[Any]], Any]) -> Callable[[Answer], Answer]:
    return lambda answer: {**answer, "assignments": change(answer["assignments"])}


def _nested(answer: Answer) -> Answer:
    """Members inside their clusters, no list of assignments."""
    clusters = [
        {**cluster, "members": [a["text"] for a in answer["assignments"] if a["cluster"] == cluster["id"]]}
        for cluster in answer["clusters"]
    ]
    return {"clusters": clusters}


def _wrong_types(answer: Answer) -> Answer:
    entries = [
        {**entry, "text": f"[{entry['text']}]", "confidence": "90%", "reason": ["a", 1]}
        for entry in answer["assignments"]
    ]
    return {**answer, "criterion": 7, "assignments": entries}


def _garbage(role: str, answer: Answer, call: int) -> Reply:
    return Reply("I am sorry, here are some thoughts about your texts {but no JSON")


BEHAVIOURS: dict[str, Behaviour] = {
    "perfect": _perfect,
    "lazy": _changed(_assignments(lambda entries: entries[: len(entries) // 2])),
    "lazier": _changed(_assignments(lambda entries: entries[: len(entries) // 3]), ("proposer", "assigner")),
    "truncating": lambda role, answer, call: Reply(
        json.dumps(answer)[: len(json.dumps(answer)) * 2 // 3], finish_reason="length"
    ),
    "fenced": lambda role, answer, call: Reply(
        f"Sure! Here it is:\n```json\n{json.dumps(answer, indent=1)}\n```\nHope this helps {{:"
    ),
    "think": lambda role, answer, call: Reply(
        f'<think>first {{"clusters": []}} then\nmore</think>\n{json.dumps(answer)}'
    ),
    "unclosed_think": lambda role, answer, call: Reply("<think>still thinking", finish_reason="length"),
    "reasoning": lambda role, answer, call: Reply(
        json.dumps(answer), reasoning_field="reasoning", reasoning="because of the labels"
    ),
    "reasoning_content": lambda role, answer, call: Reply(
        json.dumps(answer), reasoning_field="reasoning_content", reasoning="because of the labels"
    ),
    "wrong_types": _changed(_wrong_types),
    "nested": _changed(_nested),
    "mapping": _changed(_assignments(lambda es: {str(e["text"]): e["cluster"] for e in es})),
    "repeated": _changed(
        _assignments(lambda es: es + [{**e, "cluster": es[0]["cluster"], "confidence": 0.1} for e in es[:5]])
    ),
    "unknown": _changed(_assignments(lambda es: [*es, {**es[0], "text": 99999}, {**es[0], "text": -1}])),
    "unlisted": _changed(lambda answer: {**answer, "clusters": answer["clusters"][:1]}),
    "nameless": _changed(
        lambda answer: {**answer, "clusters": [{**c, "name": ""} for c in answer["clusters"]]}
    ),
    "missing": _changed(_assignments(lambda es: es[::2])),
    "singletons": _changed(
        lambda answer: {
            "clusters": [{"id": f"C{e['text']}", "name": f"n{e['text']}"} for e in answer["assignments"]],
            "assignments": [{**e, "cluster": f"C{e['text']}"} for e in answer["assignments"]],
        }
    ),
    "empty": lambda role, answer, call: Reply(""),
    "garbage": _garbage,
    "null": _changed(lambda answer: None, ("proposer", "assigner", "critic", "refiner")),
    "slow": lambda role, answer, call: Reply(json.dumps(answer), delay=0.2),
    "rate_limited": _every_second(Reply(status=429, headers={"Retry-After": "0"}, error="slow down")),
    "storm": lambda role, answer, call: (
        Reply(status=500, error="boom") if call % 4 else _perfect(role, answer, call)
    ),
    "down": lambda role, answer, call: Reply(status=503, error="no capacity"),
    "dropping": _every_second(Reply(drop=True)),
    "not_json": _every_second(Reply(raw=b"<html>gateway</html>")),
    "login_page": lambda role, answer, call: Reply(
        raw=b"<html><title>Log in</title></html>", content_type="text/html"
    ),
    "no_choices": _every_second(Reply(raw=b'{"choices": null}')),
    "bad_key": lambda role, answer, call: Reply(
        status=401, error="Incorrect API key provided: sk-test-0123456789abcdef"
    ),
}


class FakeOpenAI:
    """The server, in a thread of its own.

    Attributes:
        behaviour: a name in `BEHAVIOURS`, or a behaviour of one's own.
        roles: the roles that show it; the others are perfect. None for all.
        critiques: what the critic says in turn; afterwards it accepts.
        edits: what the refiner answers.
        requests: the bodies of all requests, in order.
        knows: from role and request to the perfect answer, where the texts do not tell it; its key
            `reasoning` is sent as reasoning.
        reports_usage: whether answers say how many tokens they took; `tokens` counts them all the same.
        cached_tokens: how many tokens of each prompt the server says it had in its own cache.
        keeps_requests: whether `requests` are kept; a server that runs for long keeps their hashes only.
        refuses_from: from which call on all are refused with 429, and for how many seconds.
        refuses_schema: answer 400 to a request with a JSON schema, like servers that know none.
    """

    def __init__(self, latency: float = 0.0) -> None:
        self.behaviour: str | Behaviour = "perfect"
        self.roles: tuple[str, ...] | None = None
        self.critiques: list[Answer] = []
        self.edits: list[Answer] = []
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.latency = latency
        self.knows: Callable[[str, dict[str, Any]], Answer] | None = None
        self.refuses_schema = False
        self.max_model_len = 100_000
        self.served = ["fake"]
        self.keeps_requests = True
        self.refuses_from: tuple[int, float] | None = None
        self.reports_usage = True
        self.cached_tokens = 0
        self.tokens = 0
        self.calls = 0
        self.asked_again = 0
        self._answered: set[bytes] = set()
        self._refuses_until: float | None = None
        self.most_at_once = 0
        self._at_once = 0
        self._loop = asyncio.new_event_loop()
        self._port = 0
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    @property
    def spec(self) -> str:
        return f"vllm:fake@{self.url}"

    def roles_asked(self) -> list[str]:
        """The role of each request."""
        return [_role(request["messages"]) for request in self.requests]

    def reset(self) -> None:
        """Be as new."""
        self.behaviour, self.roles, self.refuses_schema = "perfect", None, False
        self.knows = None
        for kept in (self.critiques, self.edits, self.requests, self.headers):
            kept.clear()
        self.calls = self.tokens = self.asked_again = 0
        self._answered.clear()
        self.reports_usage = True
        self.cached_tokens = 0
        self.most_at_once = 0
        self.latency = 0.0
        self.max_model_len = 100_000
        self.served = ["fake"]

    def start(self) -> None:
        ready = threading.Event()

        def serve() -> None:
            asyncio.set_event_loop(self._loop)
            self._loop.run_until_complete(self._listen(0))
            ready.set()
            self._loop.run_forever()

        threading.Thread(target=serve, daemon=True).start()
        assert ready.wait(10)

    def stop(self) -> None:
        assert self._runner is not None
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)

    async def _listen(self, port: int) -> None:
        app = web.Application(client_max_size=2**28)
        app.router.add_post("/v1/chat/completions", self._complete)
        app.router.add_post("/v1/embeddings", self._embed)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/oracle", self._become_oracle)
        app.router.add_get("/calls", self._count_calls)
        self._runner = runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        self._port = runner.addresses[0][1]

    async def _models(self, request: web.Request) -> web.Response:
        served = [{"id": name, "max_model_len": self.max_model_len} for name in self.served]
        return web.json_response({"data": served})

    async def _become_oracle(self, request: web.Request) -> web.Response:
        """Know the labels of another file from now on: `{"file": ..., options of SynthesisOracle}`.

        With an `attribute` among the options, they are those of CorpusLabeller.
        """
        options = await request.json()
        self.knows = _oracle(Path(options.pop("file")), options)
        return web.json_response({})

    async def _count_calls(self, request: web.Request) -> web.Response:
        """How many calls there were, and how many of them had been answered before."""
        return web.json_response({"calls": self.calls, "asked_again": self.asked_again})

    async def _embed(self, request: web.Request) -> web.Response:
        """Counts of characters, so that texts of the same letters are alike."""
        body = await request.json()
        self.requests.append(body)
        rows = [[float(text.count(chr(code))) for code in range(97, 123)] for text in body["input"]]
        data = [{"object": "embedding", "index": n, "embedding": row} for n, row in enumerate(rows)]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        return web.json_response({"object": "list", "data": data, "model": body["model"], "usage": usage})

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            return await self._answer(request, body)
        finally:
            self._at_once -= 1

    async def _answer(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        for message in body["messages"]:
            message["content"] = _text_of(message["content"])
        call = self.calls
        self.calls += 1
        if self.keeps_requests:
            self.requests.append(body)
            self.headers.append(dict(request.headers))
        if self._refuses_now(call):
            return web.json_response({"error": {"message": "slow down"}}, status=429)
        if self.refuses_schema and "response_format" in body:
            return web.json_response({"error": {"message": "response_format is not supported"}}, status=400)
        role = _role(body["messages"])
        behaviour = self.behaviour if callable(self.behaviour) else BEHAVIOURS[self.behaviour]
        if self.roles is not None and role not in self.roles:
            behaviour = _perfect
        if self.knows is not None:
            answer = self.knows(role, body)
        else:
            answer = self._know(role, body["messages"][-1]["content"])
        reply = behaviour(role, answer, call)
        await asyncio.sleep(self.latency + reply.delay)
        if reply.drop:
            assert request.transport is not None
            request.transport.abort()
        if reply.raw is not None:
            return web.Response(body=reply.raw, content_type=reply.content_type)
        if reply.status != 200:
            error = {"error": {"message": reply.error}}
            return web.json_response(error, status=reply.status, headers=reply.headers)
        if not self.keeps_requests:
            asked = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).digest()
            self.asked_again += asked in self._answered
            if request.transport is not None and not request.transport.is_closing():
                self._answered.add(asked)
        completion = _completion(reply, body)
        self.tokens += completion["usage"]["total_tokens"]
        if self.cached_tokens:
            completion["usage"]["prompt_tokens_details"] = {"cached_tokens": self.cached_tokens}
        if not self.reports_usage:
            del completion["usage"]
        return web.json_response(completion)

    def _refuses_now(self, call: int) -> bool:
        """Whether it is one of the seconds in which every call is refused."""
        if self.refuses_from is None or call < self.refuses_from[0]:
            return False
        if self._refuses_until is None:
            self._refuses_until = time.monotonic() + self.refuses_from[1]
        return time.monotonic() < self._refuses_until

    def _know(self, role: str, prompt: str) -> Answer:
        if role == "critic":
            if self.critiques:
                return self.critiques.pop(0)
            return {"findings": [], "score": 90, "verdict": "accept"}
        if role == "refiner":
            return {"edits": list(self.edits)}
        if role == "reconciler":
            return _joined(prompt)
        lines = _LINE.findall(prompt.partition("<texts>")[2].rpartition("</texts>")[0])
        if role == "assigner":
            known = {name: id for id, name in _CLUSTER.findall(prompt.partition("<texts>")[0])}
            return {"assignments": _entries(lines, known, new=False)}
        ids: dict[str, str] = {}
        entries = _entries(lines, ids, new=True)
        clusters = [{"id": id, "name": name, "description": f"about {name}"} for name, id in ids.items()]
        return {"criterion": "the label", "clusters": clusters, "assignments": entries}


def _text_of(content: str | list[dict[str, str]]) -> str:
    """A message's content, also of clients that send it as blocks of text."""
    return content if isinstance(content, str) else "".join(block["text"] for block in content)


def _joined(prompt: str) -> Answer:
    """Groups of the same name are one category."""
    groups: dict[str, list[str]] = {}
    for id, name in _GROUP.findall(prompt):
        groups.setdefault(name, []).append(id)
    categories = [
        {"name": name, "description": f"about {name}", "groups": ids} for name, ids in groups.items()
    ]
    return {"reason": "one for each name", "categories": categories}


def _entries(lines: list[tuple[str, str]], ids: dict[str, str], *, new: bool) -> list[Answer]:
    entries = []
    for number, text in lines:
        label = label_of(text)
        if new:
            ids.setdefault(label, f"C{len(ids) + 1}")
        cluster = ids.get(label, "none")
        entries.append(
            {"text": int(number), "reason": f"says {label}", "cluster": cluster, "confidence": 0.9}
        )
    return entries


def _role(messages: list[dict[str, str]]) -> str:
    opening = messages[0]["content"]
    return next((role for start, role in _ROLE_BY_OPENING.items() if opening.startswith(start)), "unknown")


_ids = itertools.count()


def _completion(reply: Reply, body: dict[str, Any]) -> dict[str, Any]:
    message = {"role": "assistant", "content": reply.content}
    if reply.reasoning_field:
        message[reply.reasoning_field] = reply.reasoning
    prompt_tokens = sum(len(m["content"]) for m in body["messages"]) // 4
    answer_tokens = len(reply.content) // 4
    return {
        "id": f"chatcmpl-{next(_ids)}",
        "object": "chat.completion",
        "created": 1,
        "model": body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": reply.finish_reason}],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": answer_tokens,
            "total_tokens": prompt_tokens + answer_tokens,
        },
    }


def _oracle(file: Path, options: dict[str, Any]) -> Callable[[str, dict[str, Any]], Answer]:
    from tests.fakes.corpus_labeller import CorpusLabeller
    from tests.fakes.synthesis_oracle import SynthesisOracle

    if "attribute" in options:
        return CorpusLabeller.of_file(file, **options)
    return SynthesisOracle.of_file(file, **options)


@contextmanager
def running_server() -> Iterator[FakeOpenAI]:
    """The server for the length of a block."""
    server = FakeOpenAI()
    server.start()
    try:
        yield server
    finally:
        server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--oracle", type=Path, help="labelled file whose labels the server knows")
    parser.add_argument(
        "--refuse", type=float, nargs=2, metavar=("CALL", "SECONDS"), help="answer 429 from a call on"
    )
    arguments = parser.parse_args()
    server = FakeOpenAI(arguments.latency)
    server.keeps_requests = False
    if arguments.refuse:
        server.refuses_from = int(arguments.refuse[0]), arguments.refuse[1]
    if arguments.oracle:
        server.knows = _oracle(arguments.oracle, {})

    async def serve() -> None:
        await server._listen(arguments.port)
        print(server.url, flush=True)  # noqa: T201 - whoever started it reads the address
        await asyncio.Event().wait()

    asyncio.run(serve())


if __name__ == "__main__":
    main()
