"""From a spec string to a language model that is ready to be asked, or one clear line why not."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from langchain_core.language_models.chat_models import BaseChatModel

from cluster_r1.agents.models import event_loop, local_server
from cluster_r1.agents.models.cache import ResponseCache
from cluster_r1.agents.models.pace import Limits
from cluster_r1.agents.models.reasoning_chat_model import ReasoningChatModel
from cluster_r1.agents.models.retries import RetryPolicy
from cluster_r1.agents.models.specs import ModelSpec, closest
from cluster_r1.errors import InputError, MissingDependencyError, MissingKeyError, ModelError
from cluster_r1.secrets import redact

_HOSTED_CONTEXT = 128_000  # assumed where the provider's profile does not say
_VLLM_CONTEXT = 32_768  # likewise where the server does not say

_BOUNDED_BELOW = 1_000_000_000  # parameters; smaller models do not reliably bring an answer to its end

# The key's variable and the integration package of providers whose names do not give them away.
_KEYS = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY", "google_genai": "GOOGLE_API_KEY"}


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """What may be set about a model besides its spec.

    Attributes:
        temperature: sent when given; reasoning models of several providers refuse any but their own.
        context_tokens: overrides what is known of the model's context.
        timeout: seconds a single call may take.
        concurrency: calls under way at once, of all models at the same endpoint.
        requests_per_minute: that are begun at the endpoint, likewise; None for no limit.
        tokens_per_minute: of prompts and answers, likewise; None for no limit.
        reasoning: False tells the model not to think before it answers; None leaves it to the model.
    """

    temperature: float | None = None
    context_tokens: int | None = None
    timeout: float = 600.0
    concurrency: int = 64
    retries: RetryPolicy = field(default_factory=RetryPolicy)
    reasoning: Literal[False] | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None


def open_model(spec: ModelSpec, options: ModelOptions, cache: ResponseCache | None) -> ReasoningChatModel:
    """The chat model behind a spec string; any kind but `embedding`.

    Raises:
        InputError: a key, package, file or server that it needs is missing, a limit is below 1, or it cannot
            be told not to reason; the message says which.
        ModelError: a vLLM server cannot be reached.
    """
    if options.reasoning is False:
        _thinking(spec, options)  # refused at once where it cannot be
    match spec.kind:
        case "hosted":
            return _hosted(spec, options, cache)
        case "vllm":
            return _vllm(spec, options, cache)
        case "local":
            return _local(spec, options, cache)
        case "checkpoint":
            return _checkpoint(spec, options, cache)
    raise InputError(f"{spec} cannot be asked in words. Give it to open_node, or name a language model")


def presumed_context(spec: ModelSpec) -> int:
    """The context of a model that cannot be opened here, as far as it is known, in tokens."""
    if spec.kind == "hosted" and spec.provider == "openai":
        return _profiled_context(_open_openai(spec.name, None, "unset", ModelOptions(), False))
    known = {"local": local_server.CONTEXT_TOKENS, "vllm": _VLLM_CONTEXT}
    return known.get(spec.kind, _HOSTED_CONTEXT)


def _hosted(spec: ModelSpec, options: ModelOptions, cache: ResponseCache | None) -> ReasoningChatModel:
    key_name = _KEYS.get(spec.provider)
    if key_name and not os.environ.get(key_name):
        raise MissingKeyError(
            f"{spec} needs the environment variable {key_name}. Set it, or name "
            "another model: `cluster-r1 models` lists them"
        )
    is_openai = spec.provider == "openai"
    endpoint = os.environ.get("OPENAI_BASE_URL", "") if is_openai else ""
    if is_openai:
        open_client = partial(_open_openai, spec.name, None, None, options)
    else:
        open_client = partial(_open_provider, spec, options)
    return ReasoningChatModel(
        spec=str(spec),
        open_client=open_client,
        constrains=is_openai,
        parameters={**_parameters(options), **_thinking(spec, options)},
        identity={"endpoint": endpoint} if is_openai else {},
        context_tokens=options.context_tokens or _profiled_context(open_client(False)),
        cache_=cache,
        retries=options.retries,
        endpoint=f"{spec.provider} {endpoint}",
        limits=_limits(options),
    )


def _vllm(spec: ModelSpec, options: ModelOptions, cache: ResponseCache | None) -> ReasoningChatModel:
    key = os.environ.get("VLLM_API_KEY") or "EMPTY"
    return ReasoningChatModel(
        spec=str(spec),
        open_client=partial(_open_openai, spec.name, spec.url, key, options),
        constrains=True,
        sends_seed=True,
        parameters={**_parameters(options), **_thinking(spec, options)},
        context_tokens=options.context_tokens or _served_context(spec, key),
        cache_=cache,
        retries=options.retries,
        endpoint=spec.url,
        limits=_limits(options),
    )


def _local(spec: ModelSpec, options: ModelOptions, cache: ResponseCache | None) -> ReasoningChatModel:
    weights = local_server.find_weights(spec.name)
    context_tokens = options.context_tokens or local_server.CONTEXT_TOKENS

    def open_client(closes: bool) -> BaseChatModel:
        server = local_server.start(weights, context_tokens)
        return _open_openai("local", server.url, server.key, options, closes)

    return ReasoningChatModel(
        spec=str(spec),
        open_client=open_client,
        constrains=True,
        bounds_answers=True,
        sends_seed=True,
        parameters={"temperature": 0.0, **_parameters(options)},
        identity={"weights": f"{weights.name} {weights.stat().st_size}"},
        context_tokens=context_tokens,
        cache_=cache,
        retries=options.retries,
        endpoint=f"local {weights} {context_tokens}",
        limits=_limits(options, local_server.SLOTS),
    )


def _checkpoint(spec: ModelSpec, options: ModelOptions, cache: ResponseCache | None) -> ReasoningChatModel:
    from cluster_r1.agents.models.checkpoint_folder import inspect_checkpoint
    from cluster_r1.agents.models.checkpoint_generator import MOST_ROWS, shared_generator
    from cluster_r1.agents.models.checkpoint_model import CheckpointChatModel

    checkpoint = inspect_checkpoint(spec.name)
    context_tokens = options.context_tokens or checkpoint.context_tokens
    client = CheckpointChatModel(
        generator=shared_generator(checkpoint), context_tokens=context_tokens, timeout=options.timeout
    )
    return ReasoningChatModel(
        spec=str(spec),
        open_client=lambda _: client,
        constrains=True,
        bounds_answers=checkpoint.parameters < _BOUNDED_BELOW,
        sends_seed=True,
        parameters={"temperature": 0.0, **_parameters(options)},
        identity={"weights": checkpoint.identity, "most_tokens": checkpoint.info.max_answer_tokens},
        context_tokens=context_tokens,
        cache_=cache,
        retries=options.retries,
        endpoint=f"checkpoint {checkpoint.identity}",
        limits=_limits(options, min(options.concurrency, MOST_ROWS)),
    )


def _open_openai(
    name: str, url: str | None, key: str | None, options: ModelOptions, closes: bool
) -> BaseChatModel:
    from openai import DefaultAioHttpClient

    from cluster_r1.agents.models.openai_compatible import ReasoningChatOpenAI

    transport: dict[str, Any] = {}
    if closes:  # aiohttp is twice as fast with many calls at once, but must be closed
        http = DefaultAioHttpClient(timeout=options.timeout)
        event_loop.close_with_loop(http.aclose)
        transport["http_async_client"] = http
    if url is not None:
        transport["base_url"] = url
    if key is not None:
        transport["api_key"] = key
    return ReasoningChatOpenAI(model=name, max_retries=0, timeout=options.timeout, **transport)


def _open_provider(spec: ModelSpec, options: ModelOptions, closes: bool) -> BaseChatModel:
    from langchain.chat_models import init_chat_model

    try:
        model: BaseChatModel = init_chat_model(
            spec.name, model_provider=spec.provider, max_retries=0, timeout=options.timeout
        )
    except ImportError as error:
        package = getattr(error, "name", None) or f"langchain-{spec.provider.replace('_', '-')}"
        raise MissingDependencyError(
            f"{spec} needs a package: pip install {package.replace('_', '-')}"
        ) from error
    except Exception as error:
        if "Unsupported provider" in str(error):
            meant = f"; did you mean {closest(spec.provider)}?" if closest(spec.provider) else "."
            raise InputError(
                f"unknown provider {spec.provider!r}{meant} `cluster-r1 models` shows what can be named"
            ) from None
        said = " ".join(redact(str(error)).split())[:300]
        raise InputError(f"{spec} cannot be opened: {said}. `cluster-r1 models` shows what can") from error
    return model


def _limits(options: ModelOptions, concurrency: int | None = None) -> Limits:
    """How fast the endpoint may be asked; what runs here has a concurrency of its own."""
    return Limits(
        options.concurrency if concurrency is None else concurrency,
        options.requests_per_minute,
        options.tokens_per_minute,
    )


def _parameters(options: ModelOptions) -> dict[str, Any]:
    return {} if options.temperature is None else {"temperature": options.temperature}


def _thinking(spec: ModelSpec, options: ModelOptions) -> dict[str, Any]:
    """What tells a model not to think: chat templates have a switch, OpenAI's models a least effort."""
    if options.reasoning is None:
        return {}
    if spec.kind == "vllm":
        return {"chat_template_kwargs": {"enable_thinking": False}}
    if spec.kind == "hosted" and spec.provider == "openai":
        return {"reasoning_effort": "minimal"}
    raise InputError(f"{spec} cannot be told not to reason. Models of OpenAI or on a vLLM server can")


def _profiled_context(client: BaseChatModel) -> int:
    profile = getattr(client, "profile", None) or {}
    return int(profile.get("max_input_tokens") or _HOSTED_CONTEXT)


def _served_context(spec: ModelSpec, key: str) -> int:
    """What the server says of the model; asked first, so that a wrong address shows at once."""
    import httpx

    try:
        response = httpx.get(f"{spec.url}/models", headers={"Authorization": f"Bearer {key}"}, timeout=10)
        response.raise_for_status()
        served = {model["id"]: model for model in response.json()["data"]}
    except json.JSONDecodeError:
        raise ModelError(
            f"{spec.url} answers no JSON: it is no vLLM server, or a proxy wants a login. Check the address"
        ) from None
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        said = redact(str(error)) or type(error).__name__
        raise ModelError(f"no vLLM server answers at {spec.url}: {said}. Is it running?") from error
    if spec.name not in served:
        raise InputError(f"{spec.url} serves {', '.join(sorted(served))}, but not {spec.name!r}")
    return int(served[spec.name].get("max_model_len") or _VLLM_CONTEXT)
