"""Records every run of a graph as JSON lines: the same tree that LangSmith shows, kept locally."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, LLMResult
from pydantic import BaseModel

from cluster_r1.run_folder import write_whole
from cluster_r1.secrets import redact, redact_values

_log = logging.getLogger(__name__)

TraceRecord = dict[str, Any]


class TraceRecorder(BaseCallbackHandler):
    """Keeps one record for each finished run of the tree, in the order they finish.

    A record has `id`, `parent`, `name`, `type` (chain, llm), `start` (ISO 8601), `seconds`, `tags`,
    `metadata`, `inputs`, `outputs`, `usage`, `error`. LangChain's own tracers build a LangSmith run for each
    event, which takes longer than the rest of the graph; this one notes what it is told.

    Args:
        path: where the records are also written line by line, so that a killed process leaves its trace.
        keep: whether they are kept in `records`; else the file alone holds them, and is added to.
    """

    run_inline = True  # quick and without waiting: no need to leave the event loop's thread

    def __init__(self, path: Path | None = None, *, keep: bool = True) -> None:
        self.records: list[TraceRecord] = []
        self._keep = keep
        self._open: dict[UUID, tuple[float, TraceRecord]] = {}
        self._file: TextIO | None = path.open("w" if keep else "a", encoding="utf-8") if path else None

    def on_chain_start(
        self, serialized: dict[str, Any] | None, inputs: Any, *, run_id: UUID, **about: Any
    ) -> None:
        """A graph or a node begins."""
        self._begin("chain", run_id, inputs, about)

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **about: Any) -> None:
        """A graph or a node ends."""
        self._finish(run_id, {"outputs": outputs})

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **about: Any) -> None:
        """A graph or a node fails."""
        self._finish(run_id, {"error": _in_words(error)})

    def on_chat_model_start(
        self, serialized: dict[str, Any], messages: list[list[BaseMessage]], *, run_id: UUID, **about: Any
    ) -> None:
        """A model is asked."""
        prompt = [{"role": m.type, "content": m.content} for batch in messages for m in batch]
        self._begin("llm", run_id, prompt, about)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **about: Any) -> None:
        """A model has answered."""
        self._finish(run_id, _answer_fields(response))

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **about: Any) -> None:
        """A model has failed."""
        self._finish(run_id, {"error": _in_words(error)})

    def close(self) -> None:
        """Close the file."""
        if self._file:
            self._file.close()
            self._file = None

    def _begin(self, type: str, run_id: UUID, inputs: Any, about: dict[str, Any]) -> None:
        parent = about.get("parent_run_id")
        record = {
            "id": str(run_id),
            "parent": str(parent) if parent else None,
            "name": about.get("name") or type,
            "type": type,
            "start": datetime.now(UTC).isoformat(),
            "seconds": 0.0,
            "tags": list(about.get("tags") or ()),
            "metadata": dict(about.get("metadata") or {}),
            "inputs": inputs,
            "outputs": None,
            "usage": None,
            "error": None,
        }
        self._open[run_id] = (time.perf_counter(), record)

    def _finish(self, run_id: UUID, fields: TraceRecord) -> None:
        started, record = self._open.pop(run_id)
        record |= {**fields, "seconds": round(time.perf_counter() - started, 6)}
        if self._keep:
            self.records.append(record)
        if self._file:
            try:
                self._file.write(_line(record))
                self._file.flush()
            except OSError as error:  # a full disk: what the run is for goes on
                _log.warning("the trace ends here, it cannot be written: %s", error.strerror)
                self._give_up()

    def _give_up(self) -> None:
        assert self._file is not None
        with suppress(OSError):  # what is not written yet fails once more
            self._file.close()
        self._file = None


def _line(record: TraceRecord) -> str:
    """A record as one line of JSON, without the values of key-like environment variables."""
    return redact_values(json.dumps(record, ensure_ascii=False, default=_plain)) + "\n"


def write_trace(path: Path, records: Iterable[TraceRecord]) -> None:
    """Write records as JSON lines.

    Raises:
        InputError: the file cannot be written.
    """
    write_whole(path, "".join(map(_line, records)))


def read_trace(path: Path) -> list[TraceRecord]:
    """Read records; a last line that was cut off by a killed process is left out."""
    records = []
    for line in path.read_text(encoding="utf-8").split("\n"):
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records


def seconds_by_name(records: Sequence[TraceRecord], names: Iterable[str]) -> dict[str, float]:
    """Total seconds of the runs with each of these names."""
    return {
        name: round(sum(record["seconds"] for record in records if record["name"] == name), 3)
        for name in names
    }


def _answer_fields(response: LLMResult) -> TraceRecord:
    """Reasoning, answer and tokens of a chat model's answer."""
    generation = response.generations[0][0]
    message = generation.message if isinstance(generation, ChatGeneration) else AIMessage(generation.text)
    outputs = {
        "reasoning": message.additional_kwargs.get("reasoning_content", ""),
        "answer": message.content,
        **message.response_metadata,
    }
    usage = message.usage_metadata if isinstance(message, AIMessage) else None
    return {"outputs": outputs, "usage": usage}


def _in_words(error: BaseException) -> str:
    if isinstance(error, asyncio.CancelledError | KeyboardInterrupt):
        return "stopped"
    return redact(f"{type(error).__name__}: {error}")


def _plain(value: Any) -> Any:
    """What JSON has no form for."""
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else str(value)
