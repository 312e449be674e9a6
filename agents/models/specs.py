"""Spec strings: how a user names the model that plays the roles."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from cluster_r1.errors import InputError

Kind = Literal["hosted", "vllm", "local", "checkpoint", "embedding"]

_FORMS = (
    "embedding, local, local:<file.gguf>, checkpoint:<folder>, vllm:<name>@<url>, openai:<name> "
    "or another <provider>:<name>"
)

_VLLM_FORM = "Form: vllm:<name>@http://<host>:<port>/v1"

_KINDS = ("embedding", "local", "checkpoint", "vllm")
# Not all that LangChain knows: those a misspelt name is compared with.
_PROVIDERS = (
    *("openai", "anthropic", "google_genai", "google_vertexai", "mistralai", "groq", "ollama", "cohere"),
    *("azure_openai", "bedrock", "deepseek", "xai", "together", "fireworks", "huggingface", "openrouter"),
)
_PROVIDER_OF_NAME = {"gpt": "openai", "o": "openai", "claude": "anthropic", "gemini": "google_genai"}


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A parsed spec string. `provider` is set for hosted models, `url` for vLLM servers."""

    kind: Kind
    name: str = ""
    provider: str = ""
    url: str = ""

    @classmethod
    def parse(cls, spec: str) -> ModelSpec:
        """Read a spec string.

        Raises:
            InputError: it has none of the known forms, or holds a password.
        """
        head, colon, rest = spec.strip().partition(":")
        if head in ("embedding", "local") and not colon:
            return cls(head)  # type: ignore[arg-type]
        if head == "local" and rest:
            return cls("local", name=rest)
        if head == "vllm":
            return _vllm(rest)
        if head == "checkpoint" and rest:
            return cls("checkpoint", name=rest)
        if head and rest and head != "embedding" and not rest.startswith("//"):
            return cls("hosted", name=rest, provider=head)
        meant = f": did you mean {_meant(spec.strip())}?" if _meant(spec.strip()) else "."
        raise InputError(f"model {spec!r} is not understood{meant} Known forms: {_FORMS}")

    def __str__(self) -> str:
        if self.kind == "hosted":
            return f"{self.provider}:{self.name}"
        if self.kind == "vllm":
            return f"vllm:{self.name}@{self.url}"
        return f"{self.kind}:{self.name}" if self.name else self.kind


def _vllm(rest: str) -> ModelSpec:
    name, at, url = rest.partition("@http")
    if not (name and at):
        if re.fullmatch(r"[^@:\s]+@[\w.-]+(:\d+)?(/[^@\s]*)?", rest):
            raise InputError(f"the address needs http://: vllm:{rest.replace('@', '@http://')}")
        raise InputError(f"model 'vllm:...' is not understood. {_VLLM_FORM}")
    url = f"http{url}".rstrip("/")
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise InputError(f"the vLLM address cannot be read ({error}). {_VLLM_FORM}") from None
    if parts.username or parts.password:
        raise InputError("the vLLM address holds a user or password: leave it out and set VLLM_API_KEY")
    if not parts.hostname:
        raise InputError(f"the vLLM address {url!r} names no host. {_VLLM_FORM}")
    return ModelSpec("vllm", name=name, url=url if parts.path.strip("/") else f"{url}/v1")


def closest(word: str) -> str:
    """The kind or provider that a misspelt one is most like; empty if it is like none."""
    near = difflib.get_close_matches(word.casefold(), (*_KINDS, *_PROVIDERS), n=1, cutoff=0.7)
    return near[0] if near else ""


def _meant(spec: str) -> str:
    """The spec that was probably meant by one that is none; empty if nobody can tell."""
    if ":" in spec:
        return ""
    family = re.match(r"(gpt|o|claude|gemini)-?\d", spec) or re.match(r"(claude|gemini)-", spec)
    if family:
        return f"{_PROVIDER_OF_NAME[family[1]]}:{spec}"
    return closest(spec) if closest(spec) in ("embedding", "local") else ""
