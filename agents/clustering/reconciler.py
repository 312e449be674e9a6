"""The reconciler: makes one taxonomy of the clusters that were found in several batches of a corpus."""

from __future__ import annotations

from cluster_r1.agents.parsing import AnswerError, as_list, as_string, read_object
from cluster_r1.agents.role import Role, Schema, list_of, object_of, one_of, string
from cluster_r1.prompts import Message
from cluster_r1.types import KRange, Record


class FoundGroup(Record):
    """Clusters that were found to be one already: the largest's name, how many texts, some of them."""

    id: str
    name: str
    description: str = ""
    texts: int
    examples: tuple[str, ...] = ()


class ReconcilerInput(Record):
    """What the reconciler sees."""

    instruction: str
    groups: tuple[FoundGroup, ...]
    k: KRange | None = None


class JoinedCategory(Record):
    """A category of the taxonomy, and the groups that it is made of, by id."""

    name: str
    description: str = ""
    groups: tuple[str, ...]


class Joined(Record):
    """The taxonomy as the model wrote it, and why it has so many categories."""

    categories: tuple[JoinedCategory, ...]
    reason: str = ""


class Reconciler(Role[ReconcilerInput, Joined]):
    """Joins groups that mean the same, and names what comes of it."""

    name = "reconciler"
    template_id = "clustering/reconciler"
    tokens_per_text = 40

    def schema(self, given: ReconcilerInput, *, bounded: bool) -> Schema:
        """Reason and categories."""
        ids = [group.id for group in given.groups]
        category = object_of(
            name=string(30 if bounded else None),
            description=string(80 if bounded else None),
            groups=list_of(one_of(ids) if bounded else string(), at_most=len(ids) if bounded else None),
        )
        most = given.k.high if given.k else len(ids)
        return object_of(
            reason=string(120 if bounded else None),
            categories=list_of(category, at_most=most if bounded else None),
        )

    def render(self, given: ReconcilerInput) -> tuple[Message, ...]:
        """The prompt."""
        return self.template.render(**dict(given))

    def parse(self, answer: str, given: ReconcilerInput) -> Joined:
        """Read the categories; a group that is named twice stays where it was named first."""
        found = read_object(answer, "categories")
        left = {group.id.casefold(): group.id for group in given.groups}
        categories = []
        for entry in as_list(found["categories"]):
            if not isinstance(entry, dict):
                continue
            named = [as_string(item).casefold() for item in as_list(entry.get("groups"))]
            groups = tuple(left.pop(name) for name in dict.fromkeys(named) if name in left)
            if groups:
                name, description = as_string(entry.get("name")), as_string(entry.get("description"))
                categories.append(JoinedCategory(name=name, description=description, groups=groups))
        if not categories:
            raise AnswerError('"categories" holds none of the groups')
        return Joined(categories=tuple(categories), reason=as_string(found.get("reason")))
