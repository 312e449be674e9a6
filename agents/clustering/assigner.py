"""The assigner: puts texts into clusters that already exist."""

from __future__ import annotations

from cluster_r1.agents.clustering.partition import Placement, assignments_schema, read_placements
from cluster_r1.agents.clustering.proposer import ProposedCluster
from cluster_r1.agents.parsing import AnswerError, read_object
from cluster_r1.agents.role import Role, Schema, object_of
from cluster_r1.prompts import Message
from cluster_r1.types import NO_CLUSTER, Record


class AssignerInput(Record):
    """What the assigner sees: the taxonomy, and texts addressed by their position, from 1."""

    instruction: str
    clusters: tuple[ProposedCluster, ...]
    texts: tuple[str, ...]


class Placements(Record):
    """Where the texts go, as the model wrote it."""

    placements: tuple[Placement, ...]


class Assigner(Role[AssignerInput, Placements]):
    """Assigns texts to the clusters of a taxonomy."""

    name = "assigner"
    template_id = "clustering/assigner"
    tokens_per_text = 32

    def schema(self, given: AssignerInput, *, bounded: bool) -> Schema:
        """The assignments."""
        ids = [*(cluster.id for cluster in given.clusters), NO_CLUSTER]
        return object_of(assignments=assignments_schema(len(given.texts), ids, bounded=bounded))

    def render(self, given: AssignerInput) -> tuple[Message, ...]:
        """The prompt."""
        return self.template.render(instruction=given.instruction, clusters=given.clusters, texts=given.texts)

    def parse(self, answer: str, given: AssignerInput) -> Placements:
        """Read the placements."""
        placements = read_placements(read_object(answer, "assignments")["assignments"])
        if not placements:
            raise AnswerError('"assignments" places no text in any cluster')
        return Placements(placements=placements)
