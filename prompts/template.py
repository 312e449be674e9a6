"""Loads a role's template, renders it to chat messages, and keeps texts from being read as anything else."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from importlib import resources
from typing import Any, Literal, NamedTuple

import jinja2


class Message(NamedTuple):
    """One chat message."""

    role: Literal["system", "user", "assistant"]
    content: str


class Template:
    """A role's prompt: a Jinja2 file with a `system` and a `user` block.

    Attributes:
        id: where it stands under `prompts/`, without its ending, e.g. `clustering/proposer`.
        sha256: of the file; recorded in traces, results and data sets.
    """

    def __init__(self, id: str, source: str) -> None:
        self.id = id
        self.sha256 = hashlib.sha256(source.encode()).hexdigest()
        self._template = _environment().from_string(source)

    def render(self, **values: Any) -> tuple[Message, Message]:
        """Fill in the values; a missing one raises `jinja2.UndefinedError`."""
        return Message("system", self._block("system", values)), Message("user", self._block("user", values))

    def _block(self, name: str, values: dict[str, Any]) -> str:
        context = self._template.new_context(values)
        return "".join(self._template.blocks[name](context)).strip()


@cache
def load_template(id: str) -> Template:
    """The template with this id (`clustering/critic`).

    Raises:
        FileNotFoundError: there is none.
    """
    source = resources.files("cluster_r1.prompts").joinpath(f"{id}.jinja2").read_text(encoding="utf-8")
    return Template(id, source)


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
    )
    environment.filters["one_line"] = one_line
    return environment


# What a chat template or a reader of tags could take for structure: the start of any tag, and the markers of
# ChatML, Llama, Mistral and DeepSeek. A text keeps its words; only one character is swapped for a look-alike.
_TAG_START = re.compile(r"<(?=[|｜/!A-Za-z_])")
_MARKER_END = re.compile(r"([|｜])>")
_BRACKET_MARKER = re.compile(r"\[(?=/?[A-Z][A-Z_]{2,}\])")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_SUSPECT = re.compile(r"[<\[\x00-\x1f\x7f-\x9f]|[|｜]>")


def one_line(text: str) -> str:
    """A text as data: on one line, unable to open or close a tag, a fence or a chat turn."""
    text = " ".join(text.split())
    if not _SUSPECT.search(text):  # nearly always
        return text
    text = " ".join(_CONTROL.sub(" ", text).split())
    text = _TAG_START.sub("‹", text)
    text = _MARKER_END.sub(r"\1›", text)
    return _BRACKET_MARKER.sub("⟦", text)
