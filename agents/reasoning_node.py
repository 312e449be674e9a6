"""The reasoning node: whatever plays the roles, a language model, a baseline or a checkpoint."""

from __future__ import annotations

import json
import math
from collections.abc import Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig

from cluster_r1.agents.clustering.assigner import Assigner
from cluster_r1.agents.clustering.critic import Critic
from cluster_r1.agents.clustering.proposer import Proposer
from cluster_r1.agents.clustering.refiner import Refiner
from cluster_r1.agents.ledger import Ledger
from cluster_r1.agents.models.messages import ChatAnswer, ChatRequest
from cluster_r1.agents.models.reasoning_chat_model import ReasoningChatModel, read_message
from cluster_r1.agents.models.static_embedder import count_tokens
from cluster_r1.agents.parsing import AnswerError
from cluster_r1.agents.role import Answered, Given, Role
from cluster_r1.errors import ModelError
from cluster_r1.prompts import Message

ALL_ROLES = frozenset({"proposer", "assigner", "critic", "refiner"})

_ASKS = 2  # an unusable answer is sent back once, with what was wrong named
_TOKENS_PER_MESSAGE = 8  # that chat templates put around a message
_MARGIN = 1.05  # of our count over that of other tokenizers
_QUOTED = 2_000  # characters of an unusable answer that are shown to its writer


class ReasoningNode(Protocol):
    """What the graphs ask.

    Attributes:
        spec: the spec string, as recorded.
        context_tokens: what prompt and answer may take together; None when there is no limit.
        roles: the names of the roles it can play.
        templates: the prompts it is asked in, sha256 by id; recorded in results.
    """

    @property
    def spec(self) -> str: ...

    @property
    def context_tokens(self) -> int | None: ...

    @property
    def roles(self) -> frozenset[str]: ...

    @property
    def templates(self) -> Mapping[str, str]: ...

    async def ask(
        self, role: Role[Given, Answered], given: Given, *, texts: int, round: int, ledger: Ledger
    ) -> Answered:
        """Have a role played.

        Args:
            role: the job.
            given: its input.
            texts: how many texts the answer will speak of; sizes the budget check.
            round: of the graph; recorded in the trace.
            ledger: where the calls are entered.

        Raises:
            AnswerError: no usable answer, though asked again.
            ModelError: the model could not be reached.
            BudgetError: the call may not be paid from the ledger's budget.
        """
        ...


class LanguageModelNode:
    """A language model that plays roles by chat.

    Args:
        model: the chat model.
        sample: which of the model's possible answers: another number asks anew past the cache.
        roles: the roles that it may be asked to play; all, if it was not trained for some.
    """

    def __init__(self, model: ReasoningChatModel, sample: int = 0, roles: frozenset[str] = ALL_ROLES) -> None:
        self.roles = roles
        self._model = model
        self._sample = sample

    @property
    def spec(self) -> str:
        """The model's spec string."""
        return self._model.spec

    @property
    def context_tokens(self) -> int:
        """The model's context, in tokens."""
        return self._model.context_tokens

    @property
    def templates(self) -> dict[str, str]:
        """Those of the roles it plays."""
        roles = (Proposer(), Assigner(), Critic(), Refiner())
        return {role.template_id: role.template.sha256 for role in roles if role.name in self.roles}

    async def ask(
        self,
        role: Role[Given, Answered],
        given: Given,
        *,
        texts: int,
        round: int,
        ledger: Ledger,
        sample: int = 0,
    ) -> Answered:
        """Ask, and ask again with the error named when the answer cannot be used.

        `sample` is which of several answers to the same question this is.
        """
        (request,) = self._requests(role, given, range(sample, sample + 1))
        return await self._ask(request, role, given, texts, round, ledger)

    def ask_often(
        self,
        role: Role[Given, Answered],
        given: Given,
        *,
        texts: int,
        round: int,
        ledger: Ledger,
        samples: int,
    ) -> list[Coroutine[Any, Any, Answered]]:
        """`ask` for several answers to the same question, all different samples, to be awaited."""
        return [
            self._ask(request, role, given, texts, round, ledger)
            for request in self._requests(role, given, range(samples))
        ]

    def sample(
        self, role: Role[Given, Answered], given: Given, *, texts: int, ledger: Ledger, samples: int
    ) -> list[Coroutine[Any, Any, ChatAnswer]]:
        """Answers as they come, with their reasoning and unread, whatever they are worth; see `ask_often`."""
        about = _About(round=0, attempt=1)
        return [
            self._call(request, role, texts, about, ledger)
            for request in self._requests(role, given, range(samples))
        ]

    async def _ask(
        self,
        request: ChatRequest,
        role: Role[Given, Answered],
        given: Given,
        texts: int,
        round: int,
        ledger: Ledger,
    ) -> Answered:
        attempt = 0
        while True:
            attempt += 1
            answer = await self._call(request, role, texts, _About(round, attempt), ledger)
            try:
                return role.parse(answer.text, given)
            except AnswerError as error:
                problem = "it was cut off at the length limit" if answer.truncated else str(error)
                if attempt == _ASKS:
                    raise AnswerError(
                        f"{self.spec} gave no usable answer as {role.name}: {problem}"
                    ) from error
            request = replace(request, messages=(*request.messages, *_ask_again(answer, problem)))

    def _requests(self, role: Role[Given, Answered], given: Given, samples: range) -> list[ChatRequest]:
        """One for each sample; they share prompt and schema, which take time to make."""
        messages = role.render(given)
        schema = role.schema(given, bounded=self._model.bounds_answers)
        return [ChatRequest(messages, schema, self._sample + number) for number in samples]

    async def _call(
        self,
        request: ChatRequest,
        role: Role[Given, Answered],
        texts: int,
        about: _About,
        ledger: Ledger,
    ) -> ChatAnswer:
        async with await self._held(request, role, texts, ledger) as most_tokens:
            chat = [message._asdict() for message in request.messages]
            config = _run_config(role, self.spec, about)
            try:
                message = await self._model.ainvoke(
                    chat, config, schema=request.schema, sample=request.sample, most_tokens=most_tokens
                )
            except ModelError:
                ledger.record_failure()
                raise
            assert isinstance(message, AIMessage)
            answer = read_message(message)
            if ledger.limited or ledger.price is not None:
                answer = _with_usage(answer, request)
            too_few = ledger.cut_short(most_tokens, role.name) if answer.truncated else None
            ledger.record(answer)
            if too_few is not None:
                raise too_few
            return answer

    async def _held(
        self, request: ChatRequest, role: Role[Given, Answered], texts: int, ledger: Ledger
    ) -> AbstractAsyncContextManager[int | None]:
        """What the budget sets aside for the call; an answer in the cache costs nothing."""
        if not ledger.limited or await self._model.stored_answer(request) is not None:
            return nullcontext()
        return ledger.hold(_prompt_tokens(request), role.tokens_per_text * texts, role.name)


def _prompt_tokens(request: ChatRequest) -> int:
    """About how many tokens a prompt has, rather more: messages, what chat templates add, the schema."""
    contents = [message.content for message in request.messages]
    schema = json.dumps(request.schema) if request.schema else ""
    counted = sum(count_tokens([*contents, schema])) + _TOKENS_PER_MESSAGE * len(contents)
    return math.ceil(counted * _MARGIN)


def _with_usage(answer: ChatAnswer, request: ChatRequest) -> ChatAnswer:
    """The answer with its tokens counted here, where the server does not report them."""
    if answer.input_tokens or answer.output_tokens:
        return answer
    said = sum(count_tokens([answer.reasoning, answer.text]))
    return replace(answer, input_tokens=_prompt_tokens(request), output_tokens=said)


class _About(NamedTuple):
    """Which call of a role this is; recorded in traces."""

    round: int
    attempt: int


def _run_config(role: Role[Given, Answered], spec: str, about: _About) -> RunnableConfig:
    """How the call is named and described in traces."""
    return {
        "run_name": role.name,
        "tags": [f"role:{role.name}"],
        "metadata": {
            "role": role.name,
            "round": about.round,
            "attempt": about.attempt,
            "model": spec,
            "template": role.template.id,
            "template_sha256": role.template.sha256,
        },
    }


def _ask_again(answer: ChatAnswer, problem: str) -> tuple[Message, Message]:
    said = answer.text[:_QUOTED] or "(nothing)"
    return (
        Message("assistant", said),
        Message(
            "user",
            f"That answer could not be used: {problem}. "
            "Answer again with the one JSON object that was asked for, and nothing after it.",
        ),
    )
