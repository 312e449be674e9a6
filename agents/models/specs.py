"""Spec strings: how a user names the model that plays the roles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from cluster_r1.errors import InputError

Kind = Literal["hosted", "vllm", "local", "checkpoint", "embedding"]

_FORMS = "embedding, local, local:<file.gguf>, vllm:<name>@<url>, openai:<name> or another <provider>:<name>"

_VLLM_FORM = "Form: vllm:<name>@http://<host>:<port>/v1"


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
        raise InputError(f"model {spec!r} is not understood. Known forms: {_FORMS}")

    def __str__(self) -> str:
        if self.kind == "hosted":
            return f"{self.provider}:{self.name}"
        if self.kind == "vllm":
            return f"vllm:{self.name}@{self.url}"
        return f"{self.kind}:{self.name}" if self.name else self.kind


def _vllm(rest: str) -> ModelSpec:
    name, at, url = rest.partition("@http")
    if not (name and at):
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
