"""Rollouts: how a model fares on each RL row, so that rows which teach nothing can be left out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from cluster_r1.agents.models import event_loop
from cluster_r1.agents.models.cache import ResponseCache
from cluster_r1.agents.models.messages import ChatAnswer, ChatRequest
from cluster_r1.agents.models.opening import ModelOptions, open_model
from cluster_r1.agents.models.reasoning_chat_model import ReasoningChatModel
from cluster_r1.agents.models.specs import ModelSpec
from cluster_r1.prompts import Message
from cluster_r1.training.examples import RlExample
from cluster_r1.training.rewards import DEFAULT, RewardSettings, reward


def rollout_rewards(
    rows: Sequence[RlExample],
    model: str,
    *,
    rollouts: int = 8,
    temperature: float = 1.0,
    settings: RewardSettings = DEFAULT,
    cache: ResponseCache | None = None,
) -> dict[str, list[float]]:
    """The rewards of several free answers to each row, by its id.

    Args:
        rows: what is asked.
        model: a spec string, usually the checkpoint that reinforcement starts from.
        rollouts: answers to each row.
        temperature: of the answers.
        settings: what the reward is made of.
        cache: keeps the answers, so that a killed run goes on where it was.

    Raises:
        InputError: the model cannot be opened.
        ModelError: it cannot be reached.
    """
    opened = open_model(ModelSpec.parse(model), ModelOptions(temperature=temperature), cache)
    return event_loop.run(_all_rewards(opened, rows, rollouts, settings))


async def _all_rewards(
    model: ReasoningChatModel, rows: Sequence[RlExample], rollouts: int, settings: RewardSettings
) -> dict[str, list[float]]:
    async def rewards_of(row: RlExample) -> list[float]:
        messages = tuple(Message(turn.role, turn.content) for turn in row.prompt)
        requests = [ChatRequest(messages, sample=sample) for sample in range(rollouts)]
        answers = await asyncio.gather(*map(model.answer, requests))
        return [
            reward(_completion(answer), row.reference, settings, tokens=answer.output_tokens)
            for answer in answers
        ]

    found = await asyncio.gather(*map(rewards_of, rows))
    return {row.id: rewards for row, rewards in zip(rows, found, strict=True)}


def _completion(answer: ChatAnswer) -> str:
    return f"<think>\n{answer.reasoning}\n</think>\n\n{answer.text}" if answer.reasoning else answer.text
