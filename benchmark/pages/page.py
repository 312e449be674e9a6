"""The result page: one HTML file with all results, answers and texts, which needs nothing but a browser."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from cluster_r1.benchmark.results import Results
from cluster_r1.benchmark.runner import StoredAnswer, task_digest
from cluster_r1.benchmark.systems.system import PANELS
from cluster_r1.task import Task

# They could end the script element that holds the data, begin something in it, or end a line of a script.
_NOT_IN_SCRIPTS = re.compile("[<>&\u2028\u2029]")


def page(results: Results, tasks: Sequence[Task], answers: Iterable[StoredAnswer]) -> str:
    """The page as HTML.

    Args:
        results: of these tasks and answers.
        tasks: whose texts and reference labels are shown.
        answers: of any systems; those to the instructions themselves, in the texts' own order, are shown.
    """
    texts = {(task.corpus, text.id) for task in tasks for text in task.texts}
    systems = {result.system for panel in results.panels.values() for result in panel}
    return _template().render(
        version=results.version,
        counts={"task": len(results.tasks), "system": len(systems), "text": len(texts)},
        data=Markup(_for_script(_data(results, tasks, answers))),
    )


def _data(results: Results, tasks: Sequence[Task], answers: Iterable[StoredAnswer]) -> dict[str, Any]:
    """What the page's script reads; texts stand there once for all tasks that have the same ones."""
    lists = list(dict.fromkeys(_wordings(task) for task in tasks))
    return {
        "results": results.model_dump(mode="json"),
        "texts": lists,
        "references": {task.id: _reference(task, lists.index(_wordings(task))) for task in tasks},
        "answers": [_answer(answer) for answer in _shown(tasks, answers)],
    }


def _wordings(task: Task) -> tuple[str, ...]:
    return tuple(text.text for text in task.texts)


def _reference(task: Task, texts: int) -> dict[str, Any]:
    """The reference of a task: its labels, and which of them each text has.

    Args:
        task: whose.
        texts: the number of its list of texts.
    """
    labels = list(dict.fromkeys(task.labels))
    number = {label: place for place, label in enumerate(labels)}
    return {"texts": texts, "labels": labels, "of": [number[label] for label in task.labels]}


def _shown(tasks: Sequence[Task], answers: Iterable[StoredAnswer]) -> list[StoredAnswer]:
    """Of each task, system and panel the latest answer that results are of."""
    digests = {(task.id, panel): task_digest(task, panel) for task in tasks for panel in PANELS}
    return list(
        {
            (answer.task, answer.system, answer.panel): answer
            for answer in answers
            if answer.wording == answer.shuffle == 0
            and answer.asked == digests.get((answer.task, answer.panel))
        }.values()
    )


def _answer(answer: StoredAnswer) -> dict[str, Any]:
    """An answer without what the results hold already; names and reasons only where there are some."""
    shown: dict[str, Any] = {
        "task": answer.task,
        "system": answer.system,
        "panel": answer.panel,
        "labels": answer.labels,
    }
    if answer.names:
        shown["names"] = {str(label): name for label, name in answer.names.items()}
    if any(answer.reasons):
        shown["reasons"] = answer.reasons
    if answer.stop_reason:
        shown["stopped"] = answer.stop_reason
    return shown


def _for_script(data: Mapping[str, Any]) -> str:
    """JSON that can stand in a script element, whatever the texts hold."""
    written = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return _NOT_IN_SCRIPTS.sub(lambda found: f"\\u{ord(found[0]):04x}", written)


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=True
    )
    environment.filters["csp_hash"] = _csp_hash
    file = resources.files("cluster_r1.benchmark.pages").joinpath("page.html.jinja2")
    return environment.from_string(file.read_text(encoding="utf-8"))


def _csp_hash(source: str) -> str:
    """By which a content security policy allows one inline script or style, and no other."""
    return f"sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}"
