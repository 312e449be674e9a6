"""What a training run will take, worked out before anything is loaded: sizes, and an estimate of memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster_r1.errors import InputError
from cluster_r1.training.recipe import GrpoRecipe, ModelSettings, SftRecipe

_BYTES = {"float32": 4, "bfloat16": 2}
_ADAM = 8  # two moments in float32 for each trained weight
_MASTER = 4  # what is trained is held in float32
_ACTIVATIONS = (
    34  # bytes a token, layer and unit of width that a step keeps (Korthikanti et al., arXiv 2205.05198)
)
_CHECKPOINTED = 2  # the same with gradient checkpointing: only each layer's input


@dataclass(frozen=True, slots=True)
class Sizes:
    """Counts, and gigabytes on one device. Memory is an estimate: fragmentation and buffers come on top.

    Attributes:
        parameters: of the model.
        trained: of them (or of its adapter).
        tokens_a_step: at most, in an optimizer step on one device.
        weights_gb, training_gb, activations_gb, logits_gb: weights; gradients and optimizer; what a batch
            leaves for the backward pass; the scores over the vocabulary.
    """

    parameters: int
    trained: int
    tokens_a_step: int
    weights_gb: float
    training_gb: float
    activations_gb: float
    logits_gb: float

    @property
    def total_gb(self) -> float:
        """All of it."""
        return self.weights_gb + self.training_gb + self.activations_gb + self.logits_gb


def estimate(recipe: SftRecipe | GrpoRecipe) -> Sizes:
    """The sizes of a run.

    Raises:
        InputError: the base's configuration cannot be found.
    """
    config = _config(recipe)
    parameters = _parameters(config)
    trained = _adapter(config, recipe.model.lora.r) if recipe.model.lora else parameters
    longest = recipe.data.max_tokens + (recipe.max_completion if isinstance(recipe, GrpoRecipe) else 0)
    tokens = recipe.batch * longest
    kept = _CHECKPOINTED if recipe.gradient_checkpointing else _ACTIVATIONS
    width = _BYTES[weights_dtype(recipe.model)]
    return Sizes(
        parameters=parameters,
        trained=trained,
        tokens_a_step=tokens * recipe.accumulate,
        weights_gb=parameters * width / 1e9,
        training_gb=trained * (_ADAM + _MASTER + width) / 1e9,
        activations_gb=tokens * config.num_hidden_layers * config.hidden_size * kept * width / 2 / 1e9,
        logits_gb=2 * tokens * config.vocab_size * 4 / 1e9,
    )


def weights_dtype(model: ModelSettings) -> str:
    """The name of PyTorch's type for the weights; `auto` looks at the hardware.

    A processor without bfloat16 instructions emulates them, tens of times slower than float32.
    """
    if model.dtype != "auto":
        return model.dtype
    import torch

    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)  # the only one there is
    return "bfloat16" if torch.cuda.is_available() or supported() else "float32"


def _config(recipe: SftRecipe | GrpoRecipe) -> Any:
    from transformers import AutoConfig, LlamaConfig, Qwen3Config

    base, tiny = recipe.model.base, recipe.model.tiny
    if base == "tiny":
        return Qwen3Config(
            vocab_size=tiny.vocabulary,
            hidden_size=tiny.hidden,
            intermediate_size=2 * tiny.hidden,
            num_hidden_layers=tiny.layers,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=32,
            tie_word_embeddings=True,
        )
    if base == "smollm2-135m":  # as its model card has it
        return LlamaConfig(
            vocab_size=49152,
            hidden_size=576,
            intermediate_size=1536,
            num_hidden_layers=30,
            num_attention_heads=9,
            num_key_value_heads=3,
            tie_word_embeddings=True,
        )
    try:
        return AutoConfig.from_pretrained(_with_config(base))
    except (OSError, ValueError) as error:
        raise InputError(
            f"no model at {base!r}: neither a folder with config.json nor a name on the Hugging Face hub "
            f"({' '.join(str(error).split())[:120]})"
        ) from error


def _with_config(base: str) -> str:
    """The base itself, or the base below an adapter."""
    if not (Path(base) / "adapter_config.json").is_file():
        return base
    from peft import PeftConfig

    return str(PeftConfig.from_pretrained(base).base_model_name_or_path)


def _parameters(config: Any) -> int:
    """Counted on a model without memory."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    return int(model.num_parameters())


def _adapter(config: Any, rank: int) -> int:
    """Weights of LoRA on all linear layers: rank times the sum of each layer's sides."""
    import torch
    from torch import nn
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    linear = (m for name, m in model.named_modules() if isinstance(m, nn.Linear) and name != "lm_head")
    return sum(rank * (module.in_features + module.out_features) for module in linear)
