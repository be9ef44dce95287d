"""Builds the decoder from a folder of safetensors (one file or shards with an index) or from one GGUF file. Never from pickle."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from safetensors import safe_open
from torch import Tensor
from torch.nn import functional

from gpu_backend.kernels.native import NativeKernels, PackedMatrix
from gpu_backend.kernels.packing import BLOCK, LANES, pack_bfloat16, pack_int8
from gpu_backend.layers.attention import Attention
from gpu_backend.layers.linear import AnyLinear, Linear, PackedLinear, can_pack
from gpu_backend.layers.mlp import SwiGLU
from gpu_backend.layers.norm import RMSNorm
from gpu_backend.layers.rope import RotaryTable
from gpu_backend.models.causal_lm.config import CausalLMConfig, UnsupportedModelError, parse_config
from gpu_backend.models.causal_lm.fused import FusedLayers
from gpu_backend.models.causal_lm.model import CausalLM, DecoderLayer

PACKED_FILE = "packed.safetensors"
WeightDtype = Literal["auto", "int8"]


class TensorSource(Protocol):
    """Tensors under their Hugging Face names."""

    def tensor(self, name: str) -> Tensor:
        """Raises UnsupportedModelError when there is none of this name."""

    def packed(self, name: str) -> Tensor | None:
        """The same weight as kernels/packing.py packs it, where the source has it with fewer bits."""


def load_causal_lm(
    path: Path, *, dtype: torch.dtype, device: torch.device, native: NativeKernels | None = None, weight_dtype: WeightDtype = "auto"
) -> CausalLM:
    """Read weights and configuration. Raises UnsupportedModelError or FileNotFoundError with what is missing.

    `weight_dtype` "int8" rounds weights of more than 8 bits to 8, where the C operators run; "auto" keeps them.
    """
    if path.suffix == ".gguf":
        # Imported here: a start from a folder needs none of it.
        from gpu_backend.models.causal_lm.gguf_file import GgufFile

        file = GgufFile(path)
        return build(parse_config(file.config()), file, dtype=dtype, device=device, native=native, weight_dtype=weight_dtype)
    config = parse_config(json.loads((path / "config.json").read_text(encoding="utf-8")))
    with ExitStack() as stack:
        return build(config, _Folder(path, stack), dtype=dtype, device=device, native=native, weight_dtype=weight_dtype)


class _Folder:
    """Memory-mapped safetensors: one file or shards with an index, and maybe a file of packed weights beside them."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        index = folder / "model.safetensors.index.json"
        names = sorted(set(json.loads(index.read_text())["weight_map"].values())) if index.exists() else ["model.safetensors"]
        self._handles: dict[str, Any] = {}
        for name in names:
            if not (folder / name).is_file():
                raise FileNotFoundError(f"{folder / name} is missing: run `python -m gpu_backend.prepare`")
            self._handles |= self._open(folder / name, stack)
        packed = folder / PACKED_FILE
        self._packed = self._open(packed, stack) if packed.exists() else {}

    @staticmethod
    def _open(file: Path, stack: ExitStack) -> dict[str, Any]:
        handle = stack.enter_context(safe_open(file, framework="pt"))
        return dict.fromkeys(handle.keys(), handle)

    def tensor(self, name: str) -> Tensor:
        if name not in self._handles:
            raise UnsupportedModelError(f"the weights have no tensor {name!r}")
        stored: Tensor = self._handles[name].get_tensor(name)
        return stored

    def packed(self, name: str) -> Tensor | None:
        return self._packed[name].get_tensor(name) if name in self._packed else None


def build(
    config: CausalLMConfig,
    source: TensorSource,
    *,
    dtype: torch.dtype,
    device: torch.device,
    native: NativeKernels | None = None,
    weight_dtype: WeightDtype = "auto",
) -> CausalLM:
    """Assemble the model; q, k, v and gate, up are fused into one matrix each, and packed where that pays."""
    is_packed = can_pack(dtype, device)
    if native is not None and not native.supports(
        head_dim=config.head_dim,
        num_heads=config.num_heads,
        num_kv_heads=config.num_kv_heads,
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
    ):
        native = None
    rotary = RotaryTable(config.rope, config.max_positions, device)

    def tensor(name: str) -> Tensor:
        # A copy always: one tensor used as it lies in the file would keep the whole file mapped.
        return source.tensor(name).to(device=device, dtype=dtype, copy=True)

    def linear(names: list[str], num_outputs: int, num_inputs: int, has_bias: bool = False) -> AnyLinear:
        bias = torch.cat([tensor(f"{name}.bias") for name in names]) if has_bias else None
        if native is not None:
            return PackedLinear(_pack([f"{name}.weight" for name in names], num_outputs, num_inputs, source, bias, weight_dtype), native)
        layer = Linear(torch.cat([tensor(f"{name}.weight") for name in names]), bias)
        if is_packed:
            layer.pack()
        return layer

    def norm(name: str) -> RMSNorm:
        return RMSNorm(tensor(f"{name}.weight"), config.rms_norm_eps, native)

    def block(index: int) -> DecoderLayer:
        prefix = f"model.layers.{index}"
        attention, mlp = f"{prefix}.self_attn", f"{prefix}.mlp"
        return DecoderLayer(
            head_dim=config.head_dim,
            attention_norm=norm(f"{prefix}.input_layernorm"),
            qkv=linear([f"{attention}.{part}_proj" for part in "qkv"], config.q_size + 2 * config.kv_size, config.hidden_size, config.qkv_bias),
            attention=Attention(
                config.num_heads,
                config.num_kv_heads,
                rotary,
                q_norm=norm(f"{attention}.q_norm") if config.qk_norm else None,
                k_norm=norm(f"{attention}.k_norm") if config.qk_norm else None,
                native=native,
            ),
            output=linear([f"{attention}.o_proj"], config.hidden_size, config.q_size, config.output_bias),
            mlp_norm=norm(f"{prefix}.post_attention_layernorm"),
            mlp=SwiGLU(
                linear([f"{mlp}.gate_proj", f"{mlp}.up_proj"], 2 * config.intermediate_size, config.hidden_size, config.mlp_bias),
                linear([f"{mlp}.down_proj"], config.hidden_size, config.intermediate_size, config.mlp_bias),
                native,
            ),
        )

    head = linear(["model.embed_tokens" if config.tie_word_embeddings else "lm_head"], config.vocab_size, config.hidden_size)
    is_shared = native is not None and config.tie_word_embeddings
    blocks = [block(index) for index in range(config.num_layers)]
    fused = None if native is None else FusedLayers(blocks, rotary, config.num_heads, native)
    return CausalLM(config, None if is_shared else tensor("model.embed_tokens.weight"), blocks, norm("model.norm"), head, fused).eval()


def _pack(names: list[str], num_outputs: int, num_inputs: int, source: TensorSource, bias: Tensor | None, weight_dtype: WeightDtype) -> PackedMatrix:
    """These weights below each other in one packed matrix: as the source has them if all are of one kind, else in 8 bits or bfloat16."""
    packed = [source.packed(name) for name in names]
    parts = [part for part in packed if part is not None]
    if len(parts) == len(names) and len({part.shape[-1] for part in parts}) == 1:
        records = torch.cat(parts)
    else:
        pack = pack_int8 if weight_dtype == "int8" else pack_bfloat16
        records = pack(torch.cat([source.tensor(name) for name in names]))
    if records.shape[:2] != (-(-num_outputs // LANES), num_inputs // BLOCK):
        raise UnsupportedModelError(f"the weights {', '.join(names)} do not have the shape ({num_outputs}, {num_inputs}) that the configuration says")
    if bias is not None:
        bias = functional.pad(bias.float(), (0, -num_outputs % LANES))
    return PackedMatrix(records, num_outputs, bias)
