"""The chat model that every language model runs behind: cache, retries, pace, then the provider's client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any
from weakref import WeakKeyDictionary

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import LangSmithParams
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import Field, PrivateAttr

from cluster_r1.agents.models import event_loop
from cluster_r1.agents.models.cache import ResponseCache, request_key
from cluster_r1.agents.models.failures import status_of
from cluster_r1.agents.models.messages import ChatAnswer, ChatRequest
from cluster_r1.agents.models.pace import Limits, Pace, PacedCall, shared_pace
from cluster_r1.agents.models.retries import RetryPolicy, with_retries
from cluster_r1.agents.parsing import split_reasoning
from cluster_r1.prompts import Message

_Loop = asyncio.AbstractEventLoop
_ROLES = {"human": "user", "ai": "assistant"}
_CHARACTERS_PER_TOKEN = 4


class ReasoningChatModel(BaseChatModel):
    """One model behind a spec string, as a LangChain chat model, so that each call is one run in a trace.

    Call it with `ainvoke(messages, config, schema=..., sample=..., most_tokens=...)`. The message that comes
    back holds the answer without its reasoning; the reasoning is in `additional_kwargs["reasoning_content"]`,
    and `response_metadata` says `finish_reason` and whether it was `cached`. An answer from the cache carries
    no `usage_metadata`, since nothing was spent.

    Attributes:
        spec: the spec string, as recorded.
        open_client: opens the provider's client; told whether the client may need closing (it may on the
            background loop, which closes it; elsewhere nobody would).
        constrains: whether the server takes a JSON schema for the answer; learnt to be False from a refusal.
        bounds_answers: whether the model is so small that its schema has to bring it to an end.
        parameters: sampling parameters, sent with each call and part of the cache key.
        identity: what else tells this model's answers from another's: the weights, the address.
        sends_seed: whether the server takes the sample's index as its seed.
        context_tokens: how many tokens prompt and answer may have together.
        endpoint: what is asked, however many models are behind it; the spec where it is empty.
        limits: how fast the endpoint may be asked by all models that have the same limits.
    """

    spec: str
    open_client: Callable[[bool], BaseChatModel] = Field(exclude=True, repr=False)
    constrains: bool = False
    bounds_answers: bool = False
    parameters: dict[str, Any] = Field(default_factory=dict)
    identity: dict[str, Any] = Field(default_factory=dict)
    sends_seed: bool = False
    context_tokens: int
    cache_: ResponseCache | None = Field(default=None, exclude=True, repr=False)
    retries: RetryPolicy = Field(default_factory=RetryPolicy)
    endpoint: str = ""
    limits: Limits = Field(default_factory=Limits)

    _clients: WeakKeyDictionary[_Loop, BaseChatModel] = PrivateAttr(default_factory=WeakKeyDictionary)
    _paces: WeakKeyDictionary[_Loop, Pace] = PrivateAttr(default_factory=WeakKeyDictionary)

    @property
    def _llm_type(self) -> str:
        return "cluster-r1"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": self.spec, **self.parameters}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        provider, _, name = self.spec.partition(":")
        return LangSmithParams(ls_provider=provider, ls_model_name=name or provider, ls_model_type="chat")

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return event_loop.run(self._agenerate(messages, stop, None, **kwargs))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        *,
        schema: dict[str, Any] | None = None,
        sample: int = 0,
        most_tokens: int | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        request = ChatRequest(tuple(_message(m) for m in messages), schema, sample)
        answer = await self.answer(request, most_tokens)
        return ChatResult(generations=[ChatGeneration(message=_as_ai_message(answer))])

    async def answer(self, request: ChatRequest, most_tokens: int | None = None) -> ChatAnswer:
        """The answer to a request, from the cache or from the model.

        An answer that was cut off because it may have `most_tokens` only is not kept.

        Raises:
            ModelError: the model could not be reached or refused, after all retries.
        """
        key = self._key(request)
        if self.cache_ and (stored := await event_loop.brief(self.cache_.get, key)):
            return stored
        call = self._pace().call()
        answer = await with_retries(
            lambda: self._send(call, request, most_tokens), self.retries, self.spec, lambda: call.queued
        )
        if self.cache_ and not (most_tokens is not None and answer.truncated):
            await event_loop.brief(self.cache_.put, key, self.spec, answer)
        return answer

    async def stored_answer(self, request: ChatRequest) -> ChatAnswer | None:
        """The answer in the cache, if it is there."""
        return await event_loop.brief(self.cache_.get, self._key(request)) if self.cache_ else None

    def _key(self, request: ChatRequest) -> str:
        return request_key(self.spec, {**self.parameters, **self.identity}, request)

    async def _send(self, call: PacedCall, request: ChatRequest, most_tokens: int | None) -> ChatAnswer:
        if not (request.schema and self.constrains):
            return await self._send_once(call, request, most_tokens, constrained=False)
        try:
            return await self._send_once(call, request, most_tokens, constrained=True)
        except Exception as error:
            if status_of(error) not in (400, 422):
                raise
            answer = await self._send_once(call, request, most_tokens, constrained=False)
            self.constrains = False  # it was the schema that the server refused
            return answer

    async def _send_once(
        self, call: PacedCall, request: ChatRequest, most_tokens: int | None, *, constrained: bool
    ) -> ChatAnswer:
        async with call.attempt(_about_tokens(m.content for m in request.messages)):
            result = await self._complete(request, self._options(request, most_tokens, constrained))
            answer = _as_answer(result)
            call.used(_tokens_of(answer, request))
            return answer

    def _options(self, request: ChatRequest, most_tokens: int | None, constrained: bool) -> dict[str, Any]:
        options = dict(self.parameters)
        if most_tokens is not None:
            options["max_tokens"] = most_tokens
        if constrained:
            schema = {"name": "answer", "strict": True, "schema": request.schema}
            options["response_format"] = {"type": "json_schema", "json_schema": schema}
        if self.sends_seed:
            options["seed"] = request.sample
        return options

    async def _complete(self, request: ChatRequest, options: dict[str, Any]) -> ChatResult:
        prompt = self._convert_input([m._asdict() for m in request.messages]).to_messages()
        return await self._client()._agenerate(prompt, **options)

    def _client(self) -> BaseChatModel:
        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            self._clients[loop] = self.open_client(loop is event_loop.background_loop())
        return self._clients[loop]

    def _pace(self) -> Pace:
        loop = asyncio.get_running_loop()
        pace = self._paces.get(loop)
        if pace is None:
            pace = self._paces[loop] = shared_pace(self.endpoint or self.spec, self.limits)
        return pace


def _message(message: BaseMessage) -> Message:
    return Message(_ROLES.get(message.type, message.type), str(message.content))  # type: ignore[arg-type]


def _about_tokens(texts: Iterable[str]) -> int:
    """About how many tokens texts have, told from their length: the tokenizer would take longer."""
    return sum(map(len, texts)) // _CHARACTERS_PER_TOKEN


def _tokens_of(answer: ChatAnswer, request: ChatRequest) -> int:
    """Those of prompt and answer, estimated where the server does not report them."""
    said = answer.input_tokens + answer.output_tokens
    return said or _about_tokens([answer.text, answer.reasoning, *(m.content for m in request.messages)])


def _as_answer(result: ChatResult) -> ChatAnswer:
    generation = result.generations[0]
    message = generation.message
    if not isinstance(message, AIMessage):
        raise ValueError(f"the server answered with a {message.type} message")
    thought, text = split_reasoning(str(message.text))
    usage: dict[str, Any] = dict(message.usage_metadata or {})
    finish = (generation.generation_info or {}).get("finish_reason") or message.response_metadata.get(
        "finish_reason"
    )
    return ChatAnswer(
        text=text,
        reasoning="\n".join(filter(None, [_sent_beside(message), thought])),
        finish_reason=str(finish or ""),
        input_tokens=usage.get("input_tokens", 0),
        output_tokens=usage.get("output_tokens", 0),
        reasoning_tokens=usage.get("output_token_details", {}).get("reasoning") or 0,
        cached_input_tokens=_found_in_cache(usage),
    )


def _found_in_cache(usage: dict[str, Any]) -> int:
    """Tokens of the prompt that the provider had in its own cache; some servers count more than it has."""
    found: int = usage.get("input_token_details", {}).get("cache_read") or 0
    sent: int = usage.get("input_tokens", 0)
    return min(found, sent)


def _sent_beside(message: AIMessage) -> str:
    """Reasoning that came in a field or block of its own, as each provider has it."""
    if kept := message.additional_kwargs.get("reasoning_content"):
        return str(kept).strip()
    if isinstance(message.content, str):
        return ""
    blocks = (block for block in message.content_blocks if block["type"] == "reasoning")
    return "\n".join(filter(None, (str(block.get("reasoning", "")).strip() for block in blocks)))


def _as_ai_message(answer: ChatAnswer) -> AIMessage:
    usage: UsageMetadata | None = None
    if not answer.cached:
        usage = {
            "input_tokens": answer.input_tokens,
            "output_tokens": answer.output_tokens,
            "total_tokens": answer.input_tokens + answer.output_tokens,
            "input_token_details": {"cache_read": answer.cached_input_tokens},
            "output_token_details": {"reasoning": answer.reasoning_tokens},
        }
    saved = answer.input_tokens + answer.output_tokens if answer.cached else 0
    return AIMessage(
        answer.text,
        additional_kwargs={"reasoning_content": answer.reasoning} if answer.reasoning else {},
        usage_metadata=usage,
        response_metadata={
            "finish_reason": answer.finish_reason,
            "cached": answer.cached,
            "saved_tokens": saved,
            "saved_output_tokens": answer.output_tokens if answer.cached else 0,
        },
    )


def read_message(message: AIMessage) -> ChatAnswer:
    """The answer in a message that `ReasoningChatModel` returned."""
    usage: dict[str, Any] = dict(message.usage_metadata or {})
    metadata = message.response_metadata
    saved_output = metadata["saved_output_tokens"]
    return ChatAnswer(
        text=str(message.text),
        reasoning=message.additional_kwargs.get("reasoning_content", ""),
        finish_reason=metadata["finish_reason"],
        input_tokens=usage.get("input_tokens", metadata["saved_tokens"] - saved_output),
        output_tokens=usage.get("output_tokens", saved_output),
        reasoning_tokens=usage.get("output_token_details", {}).get("reasoning", 0),
        cached=metadata["cached"],
        cached_input_tokens=usage.get("input_token_details", {}).get("cache_read", 0),
    )
