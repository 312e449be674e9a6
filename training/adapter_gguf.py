"""Writes an adapter of PEFT as a GGUF file, which llama.cpp puts on a base at run time."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster_r1.agents.models.base_weights import base_folder
from cluster_r1.errors import InputError

_ARCHITECTURE = "llama"
_MODULES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_TENSOR = re.compile(r"layers\.(\d+)\.(.+)\.lora_([AB])\.weight$")


def write_adapter_gguf(folder: Path, file: Path) -> Path:
    """Write the adapter in a folder, of a model of the Llama architecture, in half precision.

    Raises:
        InputError: the base has another architecture, or the adapter changes something llama.cpp cannot.
    """
    from gguf import GGUFWriter
    from safetensors.numpy import load_file

    settings = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    heads = _heads(str(settings["base_model_name_or_path"]))
    writer = GGUFWriter(str(file), _ARCHITECTURE)
    writer.add_string("general.type", "adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(settings["lora_alpha"]))
    for key, weights in sorted(load_file(folder / "adapter_model.safetensors").items()):
        found = _TENSOR.search(key)
        if found is None or found[2] not in _MODULES:
            raise InputError(f"{folder}: {key} cannot be written to GGUF: adapt linear layers only")
        layer, module, side = found[1], found[2], found[3].lower()
        name = _MODULES[module]
        if side == "b" and name in heads:
            weights = _interleaved(weights, heads[name])
        writer.add_tensor(f"blk.{layer}.{name}.weight.lora_{side}", weights.astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _heads(base: str) -> dict[str, int]:
    """Attention heads behind the rows of the projections that llama.cpp orders otherwise."""
    config = json.loads((base_folder(base) / "config.json").read_text(encoding="utf-8"))
    if config.get("model_type") != _ARCHITECTURE:
        raise InputError(
            f"{base} is a {config.get('model_type')} model: only adapters of Llama models are known"
        )
    heads = int(config["num_attention_heads"])
    return {"attn_q": heads, "attn_k": int(config.get("num_key_value_heads") or heads)}


def _interleaved(rows: NDArray[Any], heads: int) -> NDArray[Any]:
    """Rows in llama.cpp's order: it rotates neighbours in a head, transformers a head's two halves."""
    pairs = rows.reshape(heads, 2, rows.shape[0] // heads // 2, rows.shape[1])
    return np.ascontiguousarray(pairs.swapaxes(1, 2).reshape(rows.shape))
