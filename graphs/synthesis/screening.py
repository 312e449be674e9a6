"""What a program can say against a draft before anybody is paid to read it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from cluster_r1.agents.models.agglomerative import cluster_embeddings
from cluster_r1.agents.models.static_embedder import embed
from cluster_r1.agents.synthesis.draft import Draft
from cluster_r1.graphs.synthesis.outcome import Fault
from cluster_r1.graphs.synthesis.state import Earlier
from cluster_r1.metrics import adjusted_mutual_info

_WORD = re.compile(r"[^\W_]+")
# Words that carry no meaning of their own. Longer lists hold words such as "bill", "first" or "serious".
_FUNCTION_WORDS = frozenset(
    re.findall(
        r"\w+",
        "a an the and or but nor not no of to in on at by for from with without as is are was were be been "
        "it its this that these those there here than then so such any some all other others about into over",
    )
)
_NUMBER_OF_GROUPS = re.compile(
    r"\b(?:\d+|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve)\s+(?:\w+\s+){0,2}"
    r"(?:groups?|clusters?|categories|classes|kinds|types|piles|buckets|sets)\b",
    re.IGNORECASE,
)
_ENDINGS = re.compile(r"(?:ing|edly|ed|ies|es|s|ly)$")
_LEAST_STEM = 3  # letters that are left when an ending is taken off
_SHARED = 8  # texts that two tasks must share before their labels are compared
_QUOTED_FAULTS = 5


def partition_fault(draft: Draft, k: tuple[int, int], most_share: float) -> Fault | None:
    """Whether the labels are a partition worth asking for: neither one cluster nor mostly single texts."""
    sizes = Counter(label.category for label in draft.labels if label is not None)
    labelled = sum(sizes.values())
    if labelled < 0.5 * len(draft.labels):
        said = f"only {labelled} of {len(draft.labels)} texts have a label"
    elif len(sizes) < k[0]:
        said = f"the texts fall into {len(sizes)} categories only; at least {k[0]} are needed"
    elif len(sizes) > k[1]:
        said = f"the texts fall into {len(sizes)} categories; at most {k[1]} are wanted"
    elif 2 * len(sizes) > labelled:
        said = f"{len(sizes)} categories for {labelled} texts: too many stand alone"
    elif max(sizes.values()) > most_share * labelled:
        said = f"{max(sizes.values())} of {labelled} texts are in one category"
    else:
        return None
    return Fault(reason="partition", detail=said)


def evidence_fault(draft: Draft, texts: Sequence[str], least: float) -> Fault | None:
    """Whether the quotations stand in their texts; ellipses may leave words out."""
    unfounded = [
        number
        for number, (label, text) in enumerate(zip(draft.labels, texts, strict=True), 1)
        if label is not None and not _quoted(label.evidence, text)
    ]
    labelled = sum(label is not None for label in draft.labels)
    if len(unfounded) <= (1 - least) * labelled:
        return None
    listed = ", ".join(map(str, unfounded[:_QUOTED_FAULTS]))
    more = " and others" if len(unfounded) > _QUOTED_FAULTS else ""
    return Fault(reason="evidence", detail=f"the evidence of texts {listed}{more} is no quotation from them")


def leakage_fault(draft: Draft, texts: Sequence[str], most: float) -> Fault | None:
    """Whether labels can be read off words of their texts, or categories and k off the instruction."""
    if number := _NUMBER_OF_GROUPS.search(draft.instruction):
        return Fault(reason="leakage", detail=f"the instruction names a number of groups: {number[0]!r}")
    named = [category.name for category in draft.used if _holds(draft.instruction, category.name)]
    if 2 * len(named) >= len(draft.used):
        return Fault(
            reason="leakage",
            detail=f"the instruction names categories: {', '.join(sorted(named)[:_QUOTED_FAULTS])}",
        )
    labelled = [(label, text) for label, text in zip(draft.labels, texts, strict=True) if label is not None]
    leaking = [label.category for label, text in labelled if _holds(text, label.category)]
    if len(leaking) <= most * len(labelled):
        return None
    worst = ", ".join(name for name, _ in Counter(leaking).most_common(3))
    return Fault(
        reason="leakage",
        detail=f"{len(leaking)} of {len(labelled)} texts hold the words of their own label ({worst})",
    )


def embedding_ami(draft: Draft, texts: Sequence[str]) -> float:
    """AMI of the labels with a grouping by static embeddings that is told the number of clusters."""
    labelled = [(label.category, text) for label, text in zip(draft.labels, texts, strict=True) if label]
    labels = [label for label, _ in labelled]
    k = len(set(labels))
    found = cluster_embeddings(embed([text for _, text in labelled]), (k, k))
    return adjusted_mutual_info(labels, [int(group) for group in found])


def repetition_fault(
    labels: Mapping[str, str], earlier: Mapping[str, Earlier], most_ami: float
) -> Fault | None:
    """Whether the labels divide the texts as those of an accepted task do.

    Args:
        labels: label by text id.
        earlier: accepted tasks of the same slice, by id.
        most_ami: up to which two partitions count as different.
    """
    for task_id, task in earlier.items():
        known = task.labels
        shared = [text_id for text_id in labels if text_id in known]
        if len(shared) < _SHARED:
            continue
        ami = adjusted_mutual_info([known[text] for text in shared], [labels[text] for text in shared])
        if ami > most_ami:
            return Fault(
                reason="duplicate",
                detail=f"divides the texts as {task_id} does (AMI {ami:.2f})",
                mendable=False,
            )
    return None


def _quoted(evidence: str, text: str) -> bool:
    """Whether all pieces of a quotation stand in the text, case and punctuation aside."""
    words = " ".join(_WORD.findall(text.casefold()))
    pieces = [" ".join(_WORD.findall(piece.casefold())) for piece in re.split(r"\.\.\.|…", evidence)]
    found = [piece for piece in pieces if piece]
    return bool(found) and all(piece in words for piece in found)


def _holds(text: str, name: str) -> bool:
    """Whether all words of a name that mean something stand in a text, in any form."""
    wanted = _stems(name)
    return bool(wanted) and wanted <= _stems(text)


def _stems(text: str) -> set[str]:
    words = _WORD.findall(text.casefold())
    return {_stem(word) for word in words if word not in _FUNCTION_WORDS} or set(words)


def _stem(word: str) -> str:
    cut = _ENDINGS.sub("", word)
    return cut if len(cut) >= _LEAST_STEM else word
