"""Turns an adapter's two files into tensors for one model. Nothing in them is believed before it is checked, and pickle is never read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor

from gpu_backend.adapters.content import WEIGHTS, AdapterContent, read_content
from gpu_backend.adapters.peft_config import LoraConfig, parse_lora_config
from gpu_backend.core import AdapterError
from gpu_backend.layers.lora import LoraAdapter
from gpu_backend.layers.low_rank import PROJECTIONS, LowRank
from gpu_backend.layers.packed_lora import PackedAdapter
from gpu_backend.layers.torch_lora import TorchAdapter, fuse
from gpu_backend.models.causal_lm.config import CausalLMConfig

_MAX_HEADER_BYTES = 1024 * 1024
_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_ATTENTION, _MLP = "q_proj|k_proj|v_proj|o_proj", "gate_proj|up_proj|down_proj"
_NAME = re.compile(rf"base_model\.model\.(model\.layers\.(0|[1-9][0-9]{{0,3}})\.(?:self_attn\.({_ATTENTION})|mlp\.({_MLP})))\.lora_([AB])\.weight")
# A tensor of one layer: its layer, projection and letter.
_Key = tuple[int, str, str]


def load_adapter(root: Path, adapter_id: str, model: CausalLMConfig, device: torch.device, *, is_packed: bool) -> LoraAdapter:
    """Read, check and lay out, packed for the C operators or for torch's. Raises AdapterNotFoundError, or AdapterError with what is wrong."""
    return parse_adapter(read_content(root, adapter_id), model, device, is_packed=is_packed)


def parse_adapter(content: AdapterContent, model: CausalLMConfig, device: torch.device, *, is_packed: bool) -> LoraAdapter:
    """Raises AdapterError unless every tensor has a place in this model, the right shape, a known number type and finite numbers."""
    config = parse_lora_config(content.config)
    tensors, modules = _named(_read_tensors(content.weights), model)
    shapes = projection_shapes(model)
    parts = {(layer, name): _low_rank(tensors, layer, name, module, config, shapes[name]) for (layer, name), module in modules.items()}
    if is_packed:
        return PackedAdapter(parts, {name: num_outputs for name, (num_outputs, _) in shapes.items()}, model.num_layers)
    return TorchAdapter(
        {
            (layer, site): fuse([parts.get((layer, name)) for name in names], [shapes[name][0] for name in names], shapes[names[0]][1], device)
            for site, names in PROJECTIONS.items()
            for layer in sorted({layer for layer, name in parts if name in names})
        }
    )


def projection_shapes(model: CausalLMConfig) -> dict[str, tuple[int, int]]:
    """(outputs, inputs) of every projection."""
    hidden, inner = model.hidden_size, model.intermediate_size
    attention = {"q_proj": (model.q_size, hidden), "k_proj": (model.kv_size, hidden), "v_proj": (model.kv_size, hidden), "o_proj": (hidden, model.q_size)}
    return {**attention, "gate_proj": (inner, hidden), "up_proj": (inner, hidden), "down_proj": (hidden, inner)}


def _read_tensors(data: bytes) -> dict[str, Tensor]:
    if int.from_bytes(data[:8], "little") > _MAX_HEADER_BYTES:
        raise AdapterError(f"the header of {WEIGHTS} has more than {_MAX_HEADER_BYTES} bytes")
    try:
        return load_safetensors(data)
    except (SafetensorError, KeyError, ValueError) as error:
        raise AdapterError(f"{WEIGHTS} is not a file of safetensors with numbers that PyTorch knows") from error


def _named(tensors: dict[str, Tensor], model: CausalLMConfig) -> tuple[dict[_Key, Tensor], dict[tuple[int, str], str]]:
    """-> tensors by layer, projection and letter; and the dotted name of each module, which the configuration's patterns look at."""
    max_tensors = 2 * len(projection_shapes(model)) * model.num_layers
    if not 0 < len(tensors) <= max_tensors:
        raise AdapterError(f"it has {len(tensors)} tensors; this model takes between 1 and {max_tensors}")
    found: dict[_Key, Tensor] = {}
    modules: dict[tuple[int, str], str] = {}
    for name, tensor in tensors.items():
        match = _NAME.fullmatch(name)
        if match is None or int(match[2]) >= model.num_layers:
            raise AdapterError(f"the tensor {name[:120]!r} has no place in this model")
        layer, projection = int(match[2]), match[3] or match[4]
        found[layer, projection, match[5]] = tensor
        modules[layer, projection] = match[1]
    return found, modules


def _low_rank(tensors: Mapping[_Key, Tensor], layer: int, name: str, module: str, config: LoraConfig, shape: tuple[int, int]) -> LowRank:
    rank, scale = config.rank_of(module), config.scale_of(module)
    a_RI, b_OR = tensors.get((layer, name, "A")), tensors.get((layer, name, "B"))
    if a_RI is None or b_OR is None:
        raise AdapterError(f"{module} has only one of lora_A and lora_B")
    for letter, tensor, expected in (("A", a_RI, (rank, shape[1])), ("B", b_OR, (shape[0], rank))):
        if tensor.dtype not in _DTYPES:
            raise AdapterError(f"{module}.lora_{letter} has numbers of type {tensor.dtype}; float32, float16 and bfloat16 are supported")
        if tuple(tensor.shape) != expected:
            raise AdapterError(f"{module}.lora_{letter} has shape {tuple(tensor.shape)}; with rank {rank} this model takes {expected}")
        if not (tensor.float() * (scale if letter == "B" else 1)).bfloat16().isfinite().all():
            raise AdapterError(f"{module}.lora_{letter} has numbers that are not finite")
    return LowRank(a_RI, b_OR, scale)
