"""The scorer as a reasoning node: a small model reads texts with the instruction, code groups its states."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from dataclasses import dataclass
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
from cluster_r1.agents.models.retries import tell_wait
from cluster_r1.agents.models.scorer_model import ScorerModel, States
from cluster_r1.agents.models.static_embedder import count_tokens, embed
from cluster_r1.agents.role import Answered, Given, Role
from cluster_r1.agents.scoring import (
    Floats,
    centres,
    find_groups,
    label_shares,
    share_of_centre,
)
from cluster_r1.agents.state_words import group_names, likely_words
from cluster_r1.prompts import Message

ANSWERS = "The model answers: "
"""How descriptions and reasons begin."""

# Read with every batch, so that a batch of one has something to be compared with.
_SAYING_NOTHING = ("N/A", "...", "(no text)")
_AT_ONCE = 32  # texts that are read, kept and told of together
_SHOWN_WORDS = 3  # of an answer, in a reason
_DESCRIBING_WORDS = 6  # of a cluster


@dataclass(frozen=True, slots=True)
class Reading:
    """What the model makes of texts under an instruction.

    Attributes:
        states: behind each text, shape (texts, width).
        usual: behind texts at large, shape (width,).
    """

    states: States
    usual: States


class ScorerNode:
    """Plays proposer and assigner with a scorer; it can neither criticise nor refine.

    Args:
        spec: the spec string, as recorded.
        model: reads texts.
        cache: keeps what was read; None reads anew.
    """

    context_tokens = None  # texts are read one by one
    roles = frozenset({"proposer", "assigner"})

    def __init__(self, spec: str, model: ScorerModel, cache: ResponseCache | None = None) -> None:
        self.spec = spec
        self._model = model
        self._cache = cache

    @property
    def templates(self) -> dict[str, str]:
        """The one prompt that every text is read in."""
        template = scorer_template()
        return {template.id: template.sha256}

    async def ask(
        self, role: Role[Given, Answered], given: Given, *, texts: int, round: int, ledger: Ledger
    ) -> Answered:
        """Read the texts, then group or assign them by what was read.

        Raises:
            ModelError: llama.cpp refuses a text.
            BudgetError: reading the texts may cost more than is left.
        """
        if not isinstance(given, ProposerInput | AssignerInput):
            raise TypeError(f"a scorer cannot play the {role.name}")
        reading = await self._read_all(role.name, given, round, ledger)
        work: Any = self._propose if isinstance(given, ProposerInput) else self._assign
        return cast(Answered, await asyncio.to_thread(work, given, reading))

    async def _read_all(
        self, role: str, given: ProposerInput | AssignerInput, round: int, ledger: Ledger
    ) -> Reading:
        """What is read anew or was kept from before; one run in the trace, with the answers in words."""
        template = scorer_template()
        config: RunnableConfig = {
            "run_name": role,
            "tags": [f"role:{role}"],
            "metadata": {
                "role": role,
                "round": round,
                "model": self.spec,
                "template": template.id,
                "template_sha256": template.sha256,
            },
        }
        texts = (*given.texts, *_SAYING_NOTHING)
        found: list[Reading] = []

        async def read(asked: dict[str, Any]) -> dict[str, Any]:
            parts = []
            for start in range(0, len(texts), _AT_ONCE):
                parts.append(
                    await self._read(texts[start : start + _AT_ONCE], given.instruction, role, ledger)
                )
                _tell(f"read {min(start + _AT_ONCE, len(given.texts))} of {len(given.texts)} texts")
            states = np.vstack(parts)
            found.append(Reading(states[: len(given.texts)], states.mean(axis=0)))
            return {"answers": [", ".join(words) for words in self._answers(found[0])]}

        await RunnableLambda(read).ainvoke(
            {"instruction": given.instruction, "texts": len(given.texts)}, config
        )
        return found[0]

    async def _read(self, texts: Sequence[str], instruction: str, role: str, ledger: Ledger) -> States:
        requests = [ChatRequest((Message("user", answer_prompt(text, instruction)),)) for text in texts]
        keys = [request_key(self._model.identity, {}, request) for request in requests]
        kept = [self._cache.get(key) if self._cache else None for key in keys]
        missing = [number for number, answer in enumerate(kept) if answer is None]
        if missing:
            tokens = count_tokens([requests[number].messages[0].content for number in missing])
            ledger.allow(sum(tokens), 0, role)
            states = await asyncio.to_thread(
                self._model.states, [texts[number] for number in missing], instruction
            )
            for number, state, count in zip(missing, states, tokens, strict=True):
                answer = ChatAnswer(text=_packed(state), input_tokens=count)
                kept[number] = answer
                if self._cache:
                    self._cache.put(keys[number], self.spec, answer)
        answers = [answer for answer in kept if answer is not None]
        for answer in answers:
            ledger.record(answer)
        return np.stack([_unpacked(answer.text) for answer in answers])

    def _propose(self, given: ProposerInput, reading: Reading) -> Proposal:
        states, words = reading.states, embed(given.texts)
        rows, labels = find_groups(states, words, (given.k.low, given.k.high) if given.k else None)
        middle = centres(rows, labels)
        means = np.vstack([states[labels == group].mean(axis=0) for group in range(len(middle))])
        said = likely_words(means, reading.usual, *self._model.words, _DESCRIBING_WORDS)
        clusters = tuple(
            ProposedCluster(id=f"C{number}", name=name, description=f"{ANSWERS}{', '.join(listed)}.")
            for number, (name, listed) in enumerate(zip(group_names(said), said, strict=True), 1)
        )
        ids = [clusters[label].id for label in labels]
        placements = self._placements(ids, reading, share_of_centre(rows, middle, labels))
        return Proposal(criterion=given.instruction, clusters=clusters, placements=placements)

    def _assign(self, given: AssignerInput, reading: Reading) -> Placements:
        names = [cluster.name or cluster.id for cluster in given.clusters]
        described = embed([f"{cluster.name}. {cluster.description}" for cluster in given.clusters])
        vectors = self._model.label_vectors(names)
        shares = label_shares(reading.states, embed(given.texts), (vectors, described), reading.usual)
        ids = [given.clusters[best].id for best in shares.argmax(axis=1)]
        return Placements(placements=self._placements(ids, reading, shares.max(axis=1)))

    def _placements(
        self, clusters: Sequence[str], reading: Reading, confidence: Floats
    ) -> tuple[Placement, ...]:
        placed = zip(clusters, confidence, self._answers(reading), strict=True)
        return tuple(
            Placement(
                text=number,
                cluster=cluster,
                confidence=round(float(sure), 3),
                reason=f"{ANSWERS}{', '.join(words)}",
            )
            for number, (cluster, sure, words) in enumerate(placed, 1)
        )

    def _answers(self, reading: Reading) -> list[list[str]]:
        return likely_words(reading.states, reading.usual, *self._model.words, _SHOWN_WORDS)


def _packed(state: States) -> str:
    """A state as text, in half precision."""
    return base64.b64encode(state.astype(np.float16).tobytes()).decode("ascii")


def _unpacked(text: str) -> States:
    return np.frombuffer(base64.b64decode(text), dtype=np.float16).astype(np.float32)


def _tell(message: str) -> None:
    """Tell whoever shows progress; long lists are read for minutes."""
    if tell := tell_wait.get():
        tell(message)
