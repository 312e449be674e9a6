"""A checkpoint as a LangChain chat model, which takes the options that servers take."""

from __future__ import annotations

from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, convert_to_openai_messages
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import Field, SkipValidation

from cluster_r1.agents.models import event_loop
from cluster_r1.agents.models.checkpoint_generator import (
    CheckpointGenerator,
    Completion,
    GenerationRequest,
)


class CheckpointChatModel(BaseChatModel):
    """Chat with the model of a checkpoint, in this process.

    It takes `temperature`, `max_tokens`, `seed` and `response_format` with a JSON schema, as OpenAI does. Its
    messages hold reasoning and answer as they were written.

    Attributes:
        generator: runs the model.
        context_tokens: what prompt and answer may take together.
        timeout: seconds that writing an answer may take.
    """

    generator: SkipValidation[CheckpointGenerator] = Field(exclude=True, repr=False)
    context_tokens: int
    timeout: float = 600.0

    @property
    def _llm_type(self) -> str:
        return "cluster-r1-checkpoint"

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
        temperature: float | None = None,
        max_tokens: int | None = None,
        seed: int = 0,
        response_format: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        request = GenerationRequest(
            messages=convert_to_openai_messages(messages),
            context_tokens=self.context_tokens,
            most_tokens=max_tokens,
            schema=response_format["json_schema"]["schema"] if response_format else None,
            temperature=temperature or 0.0,
            seed=seed,
            timeout=self.timeout,
        )
        return _as_result(await self.generator.generate(request))


def _as_result(completion: Completion) -> ChatResult:
    message = AIMessage(
        completion.text,
        usage_metadata={
            "input_tokens": completion.input_tokens,
            "output_tokens": completion.output_tokens,
            "total_tokens": completion.input_tokens + completion.output_tokens,
            "output_token_details": {"reasoning": completion.reasoning_tokens},
        },
        response_metadata={"finish_reason": completion.finish_reason},
    )
    generation = ChatGeneration(message=message, generation_info={"finish_reason": completion.finish_reason})
    return ChatResult(generations=[generation])
