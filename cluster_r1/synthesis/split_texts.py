"""Which texts are in which split, so that written ones, too, are in one only."""

from __future__ import annotations

import hashlib

from cluster_r1.graphs.synthesis.config import Split
from cluster_r1.graphs.synthesis.outcome import Outcome
from cluster_r1.graphs.synthesis.slicing import SliceStore
from cluster_r1.types import Text


class SplitTexts:
    """Remembers wordings by split, eight bytes each. The texts of corpora are apart already.

    Args:
        store: the corpora. They are looked through only if texts are written as well.
    """

    def __init__(self, store: SliceStore) -> None:
        self._splits: dict[bytes, Split] = {}
        if any(source.domain for source in store.sources.values()):
            self._splits = {_key(text): split for split, text in store.divided()}

    def add(self, outcome: Outcome) -> None:
        """Remember the texts of an accepted task, if they were written for it."""
        if outcome.written and outcome.task is not None:
            self._splits |= {_key(text): outcome.split for text in outcome.task.texts}

    def refusal(self, outcome: Outcome) -> str | None:
        """Why a task may not be accepted: a text that was written for it stands in another split."""
        if not outcome.written or outcome.task is None:
            return None
        elsewhere = [
            text
            for text in outcome.task.texts
            if self._splits.get(_key(text), outcome.split) != outcome.split
        ]
        return f"{len(elsewhere)} of its texts are in another split as well" if elsewhere else None


def _key(text: Text) -> bytes:
    wording = " ".join(text.text.casefold().split())
    return hashlib.sha256(wording.encode("utf-8", "replace")).digest()[:8]
