"""A checkpoint folder, inspected before anything heavy is loaded: what it is, can do and needs."""

from __future__ import annotations

import json
import logging
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from cluster_r1.agents.models.base_weights import base_folder, missing_commands
from cluster_r1.errors import InputError, MissingDependencyError
from cluster_r1.prompts import load_template
from cluster_r1.types import Record

_log = logging.getLogger(__name__)

INFO_FILE = "cluster_r1.json"

_CONFIG, _ADAPTER = "config.json", "adapter_config.json"
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin", "adapter_model*.bin")
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
_CONTEXT = 4096  # assumed where neither the trainer nor the config says

RoleName = Literal["proposer", "assigner", "critic", "refiner"]


class CheckpointInfo(Record):
    """What the trainer writes beside the weights, in `cluster_r1.json`.

    Attributes:
        format: of this file.
        base: what an adapter belongs to, as `load_base` takes it; goes before what PEFT wrote down.
        base_sha256: of the base's weights, if known.
        stage: what made it, e.g. `sft` or `grpo`.
        roles: the roles it was trained for; it is asked for no other.
        context_tokens: what prompt and answer may take together; None: what the model's config says.
        max_answer_tokens: the most tokens of one answer, reasoning included; None: what the context leaves.
        templates: sha256 of each prompt template it was trained on, by template id.
        weights_sha256: of the weights beside it; makes cached answers survive a copy of the folder.
    """

    format: Literal[1] = 1
    base: str | None = None
    base_sha256: str | None = None
    stage: str | None = None
    roles: tuple[RoleName, ...] = ("proposer", "assigner", "critic", "refiner")
    context_tokens: int | None = Field(default=None, ge=1)
    max_answer_tokens: int | None = Field(default=None, ge=1)
    templates: dict[str, str] = Field(default_factory=dict)
    weights_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A folder that can be opened.

    Attributes:
        folder: as resolved.
        base: the folder of an adapter's base; None where `folder` is a full model.
        info: what the trainer says of it.
        context_tokens: what prompt and answer may take together.
        parameters: of the model, or of the adapter's base.
        identity: tells its answers from those of other weights.
    """

    folder: Path
    base: Path | None
    info: CheckpointInfo
    context_tokens: int
    parameters: int
    identity: str

    @property
    def tokenizer_folder(self) -> Path:
        """Where its tokenizer is: an adapter may have that of its base."""
        return _tokenizer_folder(self.folder, self.base)


def write_info(folder: Path, info: CheckpointInfo) -> None:
    """Write `cluster_r1.json`; it appears whole or not at all."""
    path = folder / INFO_FILE
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.write_text(info.model_dump_json(indent=2) + "\n", encoding="utf-8")
    unfinished.replace(path)


def read_info(folder: Path) -> CheckpointInfo:
    """What `cluster_r1.json` says; the defaults where it is absent.

    Raises:
        InputError: it cannot be read.
    """
    path = folder / INFO_FILE
    if not path.is_file():
        return CheckpointInfo()
    try:
        return CheckpointInfo.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(
            f"{path} cannot be read: {where + ': ' if where else ''}{first['msg']}. "
            "Have the trainer write it anew, or remove it"
        ) from error


def inspect_checkpoint(name: str) -> Checkpoint:
    """The checkpoint in a folder: a full model, or an adapter whose base is fetched where need be.

    Raises:
        InputError: no such folder, no checkpoint in it, no chat template, or the base cannot be had.
        MissingDependencyError: a package that it needs is not installed.
    """
    folder = Path(name).expanduser().resolve()
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder. Name one that holds a model: checkpoint:<folder>")
    is_adapter = (folder / _ADAPTER).is_file()
    if not (is_adapter or (folder / _CONFIG).is_file()):
        raise InputError(
            f"{folder} holds neither {_CONFIG} nor {_ADAPTER}. Name the folder of a model or a PEFT adapter"
        )
    if missing := missing_commands(*(("peft",) if is_adapter else ())):
        raise MissingDependencyError(f"checkpoint:{name} needs: {' && '.join(missing)}")
    info = read_info(folder)
    base = base_folder(_base_name(folder, info)) if is_adapter else None
    _require_weights(folder)
    _require_chat_template(_tokenizer_folder(folder, base))
    _warn_of_other_prompts(name, info)
    return Checkpoint(
        folder=folder,
        base=base,
        info=info,
        context_tokens=info.context_tokens or _configured_context(base or folder),
        parameters=_parameter_count(base or folder),
        identity=_identity(folder, base, info),
    )


def _base_name(folder: Path, info: CheckpointInfo) -> str:
    name = info.base or _read_json(folder / _ADAPTER).get("base_model_name_or_path")
    if not isinstance(name, str) or not name:
        raise InputError(f'{folder / _ADAPTER} names no base. Add "base_model_name_or_path": "<folder>"')
    return name


def _require_weights(folder: Path) -> None:
    if not _weight_files(folder):
        raise InputError(f"{folder} holds no weights (*.safetensors). Was training stopped before it saved?")


def _require_chat_template(folder: Path) -> None:
    has_file = (folder / "chat_template.jinja").is_file() or (folder / "additional_chat_templates").is_dir()
    config = folder / "tokenizer_config.json"
    if not has_file and not (config.is_file() and _read_json(config).get("chat_template")):
        raise InputError(
            f"the tokenizer in {folder} has no chat template, so that it cannot be asked. "
            "Use an instruct model, or save the template it was trained with as chat_template.jinja"
        )


def _warn_of_other_prompts(name: str, info: CheckpointInfo) -> None:
    changed = [id for id, sha256 in sorted(info.templates.items()) if sha256 != _installed_sha256(id)]
    if changed:
        _log.warning(
            "checkpoint:%s was trained on other prompts than are installed (%s): it may answer worse",
            name,
            ", ".join(changed),
        )


def _installed_sha256(template_id: str) -> str | None:
    try:
        return load_template(template_id).sha256
    except FileNotFoundError:
        return None


def _tokenizer_folder(folder: Path, base: Path | None) -> Path:
    if base is None or any((folder / name).is_file() for name in _TOKENIZER):
        return folder
    return base


def _configured_context(folder: Path) -> int:
    config = _read_json(folder / _CONFIG)
    config = config.get("text_config") or config  # of a model that also sees
    return int(config.get("max_position_embeddings") or _CONTEXT)


def _parameter_count(folder: Path) -> int:
    """From the headers of safetensors files; of other formats guessed by two bytes a parameter."""
    return sum(map(_counted, _weight_files(folder)))


def _counted(file: Path) -> int:
    if file.suffix != ".safetensors":
        return file.stat().st_size // 2
    try:
        with file.open("rb") as opened:
            (length,) = struct.unpack("<Q", opened.read(8))
            header = json.loads(opened.read(min(length, file.stat().st_size)))
        return sum(prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{file} is damaged: its header cannot be read. Copy or train it anew") from error


def _identity(folder: Path, base: Path | None, info: CheckpointInfo) -> str:
    own = info.weights_sha256 or _stamp(folder)
    return own if base is None else f"{own} on {info.base_sha256 or _stamp(base)}"


def _stamp(folder: Path) -> str:
    """Names, sizes and times of the weight files; to hash gigabytes takes longer than to load them."""
    stats = ((file.name, file.stat()) for file in _weight_files(folder))
    return ", ".join(f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats)


def _weight_files(folder: Path) -> list[Path]:
    return sorted(file for pattern in _WEIGHTS for file in folder.glob(pattern))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}. Was the folder copied whole?") from error
    if not isinstance(value, dict):
        raise InputError(f"{path} holds no JSON object. Was the folder copied whole?")
    return value
