"""A LangSmith endpoint that keeps the runs it is sent."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Run = dict[str, Any]

_INGEST = {
    "use_multipart_endpoint": False,
    "size_limit": 100,
    "size_limit_bytes": 20_971_520,
    "scale_up_nthreads_limit": 16,
    "scale_up_qsize_trigger": 1000,
    "scale_down_nempty_trigger": 4,
}


class FakeLangSmith:
    """`runs` holds every run by id, its later parts merged into its first."""

    def __init__(self, address: str) -> None:
        self.url = address
        self.runs: dict[str, Run] = {}
        self.raw: list[bytes] = []

    def take(self, batch: dict[str, list[Run]]) -> None:
        for run in [*batch.get("post", []), *batch.get("patch", [])]:
            known = self.runs.setdefault(run["id"], {})
            known |= {key: value for key, value in run.items() if value is not None}

    def children(self, parent: Run) -> list[Run]:
        found = [run for run in self.runs.values() if run.get("parent_run_id") == parent["id"]]
        return sorted(found, key=lambda run: str(run["dotted_order"]))

    def roots(self) -> list[Run]:
        return [run for run in self.runs.values() if not run.get("parent_run_id")]


@contextmanager
def running_langsmith() -> Iterator[FakeLangSmith]:
    """The endpoint for the length of a block."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._reply({"batch_ingest_config": _INGEST})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            fake.raw.append(body)
            fake.take(json.loads(body))
            self._reply({})

        def _reply(self, content: Any) -> None:
            body = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Keep the test's output clean."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    fake = FakeLangSmith(f"http://127.0.0.1:{http.server_address[1]}")
    threading.Thread(target=http.serve_forever, daemon=True).start()
    try:
        yield fake
    finally:
        http.shutdown()
        http.server_close()
