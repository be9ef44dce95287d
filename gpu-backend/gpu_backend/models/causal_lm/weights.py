"""Builds the decoder from a folder of safetensors (one file or shards with an index) or from one GGUF file. Never from pickle."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from gpu_backend.kernels.native import NativeKernels
from gpu_backend.layers.attention import Attention
from gpu_backend.layers.linear import Linear, can_pack
from gpu_backend.layers.mlp import SwiGLU
from gpu_backend.layers.norm import RMSNorm
from gpu_backend.layers.rope import RotaryTable
from gpu_backend.models.causal_lm.config import CausalLMConfig, UnsupportedModelError, parse_config
from gpu_backend.models.causal_lm.model import CausalLM, DecoderLayer

TensorSource = Callable[[str], Tensor]


def load_causal_lm(path: Path, *, dtype: torch.dtype, device: torch.device, native: NativeKernels | None = None) -> CausalLM:
    """Read weights and configuration. Raises UnsupportedModelError or FileNotFoundError with what is missing."""
    if path.suffix == ".gguf":
        # Imported here: a start from a folder needs none of it.
        from gpu_backend.models.causal_lm.gguf_file import GgufFile

        file = GgufFile(path)
        return build(parse_config(file.config()), file.tensor, dtype=dtype, device=device, native=native)
    config = parse_config(json.loads((path / "config.json").read_text(encoding="utf-8")))
    with ExitStack() as stack:
        return build(config, _open_safetensors(path, stack), dtype=dtype, device=device, native=native)


def _open_safetensors(folder: Path, stack: ExitStack) -> TensorSource:
    """A function from tensor name to memory-mapped tensor, over all shards."""
    index = folder / "model.safetensors.index.json"
    names = sorted(set(json.loads(index.read_text())["weight_map"].values())) if index.exists() else ["model.safetensors"]
    handles = {}
    for name in names:
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder / name} is missing: run `python -m gpu_backend.prepare`")
        shard = stack.enter_context(safe_open(folder / name, framework="pt"))
        handles.update(dict.fromkeys(shard.keys(), shard))

    def read(name: str) -> Tensor:
        if name not in handles:
            raise UnsupportedModelError(f"the weights have no tensor {name!r}")
        return handles[name].get_tensor(name)

    return read


def build(config: CausalLMConfig, read: TensorSource, *, dtype: torch.dtype, device: torch.device, native: NativeKernels | None = None) -> CausalLM:
    """Assemble the model; q, k, v and gate, up are fused into one matrix each, and packed where that pays."""
    is_packed = can_pack(dtype, device)
    if native is not None and not native.supports(
        head_dim=config.head_dim, num_heads=config.num_heads, num_kv_heads=config.num_kv_heads, hidden_size=config.hidden_size
    ):
        native = None
    attend = Attention(config.num_heads, config.num_kv_heads, RotaryTable(config.rope, config.max_positions, device), native)

    def tensor(name: str) -> Tensor:
        # A copy always: one tensor used as it lies in the file would keep the whole file mapped.
        return read(name).to(device=device, dtype=dtype, copy=True)

    def linear(prefix: str, names: tuple[str, ...], has_bias: bool) -> Linear:
        weight = torch.cat([tensor(f"{prefix}.{name}.weight") for name in names])
        bias = torch.cat([tensor(f"{prefix}.{name}.bias") for name in names]) if has_bias else None
        layer = Linear(weight, bias)
        if is_packed:
            layer.pack()
        return layer

    def norm(name: str) -> RMSNorm:
        return RMSNorm(tensor(f"{name}.weight"), config.rms_norm_eps, native)

    def block(index: int) -> DecoderLayer:
        prefix = f"model.layers.{index}"
        attention, mlp = f"{prefix}.self_attn", f"{prefix}.mlp"
        return DecoderLayer(
            config,
            attention_norm=norm(f"{prefix}.input_layernorm"),
            qkv=linear(attention, ("q_proj", "k_proj", "v_proj"), config.qkv_bias),
            q_norm=norm(f"{attention}.q_norm") if config.qk_norm else None,
            k_norm=norm(f"{attention}.k_norm") if config.qk_norm else None,
            attention=attend,
            output=linear(attention, ("o_proj",), config.output_bias),
            mlp_norm=norm(f"{prefix}.post_attention_layernorm"),
            mlp=SwiGLU(linear(mlp, ("gate_proj", "up_proj"), config.mlp_bias), linear(mlp, ("down_proj",), config.mlp_bias), native),
        )

    embedding = tensor("model.embed_tokens.weight")
    head = Linear(embedding if config.tie_word_embeddings else tensor("lm_head.weight"))
    if is_packed and native is None:
        head.pack()
    return CausalLM(config, embedding, [block(index) for index in range(config.num_layers)], norm("model.norm"), head, native).eval()
