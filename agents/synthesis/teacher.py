"""The teacher: does an accepted task as an agent would, so that its reasoning can be learnt."""

from __future__ import annotations

from cluster_r1.agents.clustering.proposer import Proposer


class Teacher(Proposer):
    """Asked in the proposer's own template: what it answers is trained on under the prompt of inference."""

    name = "teacher"
