"""What comes into the clustering graph: reads it, and refuses what cannot be grouped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cluster_r1.agents.clustering.partition import Placement
from cluster_r1.agents.clustering.proposer import Proposal, ProposedCluster
from cluster_r1.columns import without_surrogates
from cluster_r1.errors import InputError
from cluster_r1.types import KRange, Text


def read_input(texts: Sequence[Any], instruction: str) -> list[Text]:
    """The texts of a graph's input: strings (ids count from 1), objects `{id, text}` or `Text`.

    Raises:
        InputError: an instruction or texts are missing, or ids repeat.
    """
    if not instruction.strip():
        raise InputError(
            'the instruction is empty. Say what the grouping should follow, e.g. "by root cause"'
        )
    if not texts:
        raise InputError("there are no texts")
    read = [read_text(item, number) for number, item in enumerate(texts, 1)]
    if len({text.id for text in read}) < len(read):
        raise InputError("several texts have the same id. Give each its own, or none")
    return read


def read_text(item: Any, number: int) -> Text:
    """One text of a graph's input; without an id it gets its number.

    Raises:
        InputError: it is no text.
    """
    if isinstance(item, Text):
        return item
    if isinstance(item, str):
        return Text(id=str(number), text=without_surrogates(item))
    if isinstance(item, Mapping) and isinstance(item.get("text"), str):
        return Text(id=str(item.get("id", number)), text=without_surrogates(item["text"]))
    raise InputError(f"text {number} is neither a string nor an object with the key 'text'")


def refuse_k_beyond(k: KRange | None, texts: int) -> None:
    """Raise an InputError when more clusters are wanted than there are different texts."""
    if k is not None and texts and k.low > texts:
        raise InputError(f"k is {k}, but there are only {texts} different texts. Lower k")


def trivial_proposal(shown: tuple[str, ...]) -> Proposal:
    """The only possible partition of no text or one."""
    if not shown:
        return Proposal(clusters=(), placements=())
    place = Placement(text=1, cluster="C1", confidence=1.0, reason="the only text there is")
    return Proposal(clusters=(ProposedCluster(id="C1"),), placements=(place,))
