"""The scorer as a reasoning node: a small model reads each text with the instruction, and code groups its states."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from langchain_core.runnables import RunnableConfig, RunnableLambda

from cluster_r1.agents.clustering.assigner import AssignerInput, Placements
from cluster_r1.agents.clustering.partition import Placement
from cluster_r1.agents.clustering.proposer import Proposal, ProposedCluster, ProposerInput
from cluster_r1.agents.clustering.scorer import answer_prompt, scorer_template
from cluster_r1.agents.ledger import Ledger
from cluster_r1.agents.models.cache import ResponseCache, request_key
from cluster_r1.agents.models.messages import ChatAnswer, ChatRequest
from cluster_r1.agents.models.scorer_model import ScorerModel, States
from cluster_r1.agents.models.static_embedder import count_tokens, embed
from cluster_r1.agents.role import Answered, Given, Role
from cluster_r1.agents.scoring import Answers, group_states, label_scores, shares
from cluster_r1.prompts import Message

_AT_ONCE = 32  # texts that are read between two looks at the budget, and kept together
