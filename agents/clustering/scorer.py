"""The scorer: what a small model reads when it answers the instruction for one text, in a word or two."""

from __future__ import annotations

from cluster_r1.prompts import Template, load_template

TEMPLATE_ID = "clustering/scorer"

LONGEST = 1_500
"""Characters of a text that are read; what a text is like mostly shows by then."""


def scorer_template() -> Template:
    """The scorer's template."""
    return load_template(TEMPLATE_ID)


def answer_prompt(text: str, instruction: str, longest: int = LONGEST) -> str:
    """The beginning of a page that goes on with the text's answer to the instruction.

    The text comes first, so that several questions about it can share what a model has read. Of one that has
    more than `longest` characters, two thirds are its beginning and one its end.
    """
    shown = text if len(text) <= longest else f"{text[: longest * 2 // 3]} ... {text[-(longest // 3) :]}"
    return scorer_template().render(text=shown, instruction=instruction)[1].content


def text_and_question(text: str, instruction: str) -> tuple[str, str]:
    """`answer_prompt` in its two parts; the second begins with a line break."""
    head, line, question = answer_prompt(text, instruction).partition("\n")
    return head, line + question


def answer(label: str) -> str:
    """A label as it stands behind the prompt."""
    return f" {label}"
