"""Shape of a decoder of the Llama and Qwen families, read from a `config.json` in the field's usual format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gpu_backend.layers.rope import RopeConfig

SUPPORTED_TYPES = ("llama", "qwen2", "qwen3")


class UnsupportedModelError(ValueError):
    """The files describe a model that this decoder does not compute; the message says what differs."""


@dataclass(frozen=True, kw_only=True)
class CausalLMConfig:
    model_type: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_positions: int
    rms_norm_eps: float
    rope: RopeConfig
    tie_word_embeddings: bool
    qkv_bias: bool
    output_bias: bool
    mlp_bias: bool
    qk_norm: bool

    def __post_init__(self) -> None:
        if self.num_heads % self.num_kv_heads:
            raise UnsupportedModelError(f"{self.num_heads} query heads cannot share {self.num_kv_heads} key/value heads evenly")

    @property
    def q_size(self) -> int:
        return self.num_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        return self.num_kv_heads * self.head_dim


def parse_config(raw: dict[str, Any]) -> CausalLMConfig:
    """Translate a `config.json`. Raises UnsupportedModelError for anything that would change the numbers and is not supported."""
    model_type = raw.get("model_type", "")
    if model_type not in SUPPORTED_TYPES:
        raise UnsupportedModelError(f"model_type {model_type!r} is not one of {', '.join(SUPPORTED_TYPES)}")
    if raw.get("hidden_act", "silu") != "silu":
        raise UnsupportedModelError(f"hidden_act {raw['hidden_act']!r}: only silu is supported")
    if raw.get("use_sliding_window") or "sliding_attention" in (raw.get("layer_types") or []):
        raise UnsupportedModelError("sliding-window attention is not supported")
    is_qwen2, is_qwen3 = model_type == "qwen2", model_type == "qwen3"
    num_heads = raw["num_attention_heads"]
    head_dim = raw.get("head_dim") or raw["hidden_size"] // num_heads
    attention_bias = bool(raw.get("attention_bias", False))
    return CausalLMConfig(
        model_type=model_type,
        vocab_size=raw["vocab_size"],
        hidden_size=raw["hidden_size"],
        intermediate_size=raw["intermediate_size"],
        num_layers=raw["num_hidden_layers"],
        num_heads=num_heads,
        num_kv_heads=raw.get("num_key_value_heads") or num_heads,
        head_dim=head_dim,
        max_positions=raw["max_position_embeddings"],
        rms_norm_eps=raw["rms_norm_eps"],
        rope=RopeConfig.from_raw(raw, head_dim),
        tie_word_embeddings=bool(raw.get("tie_word_embeddings", False)),
        # Qwen2 always has biases on q, k and v and none on the output projection; Llama and Qwen3 follow `attention_bias` for all four.
        qkv_bias=True if is_qwen2 else attention_bias,
        output_bias=False if is_qwen2 else attention_bias,
        mlp_bias=bool(raw.get("mlp_bias", False)),
        qk_norm=is_qwen3,
    )
