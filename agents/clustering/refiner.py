"""The refiner: turns findings into edits of the clustering."""

from __future__ import annotations

from typing import Any, get_args

from cluster_r1.agents.clustering.grouping_view import GroupingView
from cluster_r1.agents.parsing import as_list, as_string, read_object
from cluster_r1.agents.role import Role, Schema, list_of, object_of, one_of, string
from cluster_r1.edits import Edit, EditKind
from cluster_r1.prompts import Message
from cluster_r1.types import Finding, KRange, Record

_KINDS = get_args(EditKind)


class RefinerInput(Record):
    """What the refiner sees."""

    instruction: str
    view: GroupingView
    findings: tuple[Finding, ...]
    k: KRange | None = None


class Refinement(Record):
    """The edits to make, in order; none means that the clustering stays as it is."""

    edits: tuple[Edit, ...]


class Refiner(Role[RefinerInput, Refinement]):
    """Answers findings with edits, which code carries out."""

    name = "refiner"
    template_id = "clustering/refiner"
    tokens_per_text = 12

    def schema(self, given: RefinerInput, *, bounded: bool) -> Schema:
        """The edits."""
        edit = object_of(
            kind=one_of(_KINDS),
            clusters=given.view.clusters_schema(bounded=bounded),
            texts=given.view.texts_schema(bounded=bounded),
            name=string(30 if bounded else None),
            description=string(80 if bounded else None),
            reason=string(40 if bounded else None),
        )
        return object_of(edits=list_of(edit, at_most=3 if bounded else None))

    def render(self, given: RefinerInput) -> tuple[Message, ...]:
        """The prompt."""
        numbered = [
            {**finding.model_dump(), "texts": given.view.numbers(finding.texts)} for finding in given.findings
        ]
        return self.template.render(
            instruction=given.instruction, groups=given.view.groups, k=given.k, findings=numbered
        )

    def parse(self, answer: str, given: RefinerInput) -> Refinement:
        """Read the edits; whether they can be carried out is found out by carrying them out."""
        entries = as_list(read_object(answer, "edits")["edits"])
        edits = [_edit(entry, given.view) for entry in entries if isinstance(entry, dict)]
        return Refinement(edits=tuple(edit for edit in edits if edit is not None))


def _edit(entry: dict[str, Any], view: GroupingView) -> Edit | None:
    kind = as_string(entry.get("kind")).casefold()
    if kind not in _KINDS:
        return None
    return Edit(
        kind=kind,
        clusters=view.cluster_ids(entry.get("clusters")),
        texts=view.text_ids(entry.get("texts")),
        name=as_string(entry.get("name")),
        description=as_string(entry.get("description")),
        reason=as_string(entry.get("reason")),
    )
