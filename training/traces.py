"""Reasoning traces written from the reference, for where no teacher model is at hand.

They show the form of the reasoning (one line a text: its number, its beginning, its value) and what follows
from it, but not why a text has its value; a teacher's traces are better where there is one.
"""

from __future__ import annotations

import json
from collections import Counter

from cluster_r1.prompts.template import one_line
from cluster_r1.task import Task

_QUOTED_WORDS = 5  # of each text, so that a model finds the text again and copies, which small ones do well
_CONFIDENCE = 0.9


def write_trace(task: Task) -> str:
    """Reasoning and answer that lead to the task's reference, as a model should write them."""
    return f"<think>\n{_reasoning(task)}\n</think>\n\n{_answer(task)}"


def _reasoning(task: Task) -> str:
    criterion = _criterion(task)
    lines = [f"The instruction asks for {criterion}."]
    for number, (text, label) in enumerate(zip(task.texts, task.labels, strict=True), 1):
        lines.append(f"[{number}] {_beginning(text.text)}: {label}")
    sizes = Counter(task.labels)
    listed = ", ".join(f"{label} ({size})" for label, size in sizes.items())
    lines.append(f"Values: {listed}. That makes {len(sizes)} clusters.")
    return "\n".join(lines)


def _answer(task: Task) -> str:
    ids = {label: f"C{number}" for number, label in enumerate(dict.fromkeys(task.labels), 1)}
    clusters = [
        {"id": id, "name": label, "description": f"Texts whose {_criterion(task)} is: {label}."}
        for label, id in ids.items()
    ]
    assignments = [
        {"text": number, "reason": label, "cluster": ids[label], "confidence": _CONFIDENCE}
        for number, label in enumerate(task.labels, 1)
    ]
    answer = {"criterion": _criterion(task), "clusters": clusters, "assignments": assignments}
    return json.dumps(answer, ensure_ascii=False)


def _criterion(task: Task) -> str:
    return str(task.meta.get("criterion") or task.instruction)


def _beginning(text: str) -> str:
    words = one_line(text).split()
    return " ".join(words[:_QUOTED_WORDS]) + (" …" if len(words) > _QUOTED_WORDS else "")
