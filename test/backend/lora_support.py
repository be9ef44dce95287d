"""Builders for tests with adapters: random ones in PEFT's two files, models with the same update merged into their weights, and an engine that has a store."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from prometheus_client import CollectorRegistry
from safetensors.torch import load, save
from torch import Tensor

from gpu_backend.adapters.content import CONFIG, WEIGHTS, AdapterContent
from gpu_backend.adapters.peft_weights import projection_shapes
from gpu_backend.config import EngineConfig
from gpu_backend.engine.adapter_store import AdapterStore
from gpu_backend.engine.engine import Engine
from gpu_backend.engine.metrics import EngineMetrics
from gpu_backend.engine.model_runner import ModelRunner
from gpu_backend.layers.lora import LoraAdapter
from gpu_backend.layers.low_rank import PROJECTIONS
from gpu_backend.models.causal_lm.config import CausalLMConfig
from gpu_backend.models.causal_lm.model import CausalLM
from gpu_backend.server.served_model import open_adapters
from support import byte_tokenizer

ALL = tuple(name for names in PROJECTIONS.values() for name in names)


def module_name(layer: int, name: str) -> str:
    return f"model.layers.{layer}.{'self_attn' if name in ('q_proj', 'k_proj', 'v_proj', 'o_proj') else 'mlp'}.{name}"


def tensors_of(
    model: CausalLMConfig, *, seed: int = 0, rank: int = 4, names: tuple[str, ...] = ALL, layers: tuple[int, ...] | None = None, size: float = 0.2
) -> dict[str, Tensor]:
    """Random A and B under PEFT's names."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for layer in layers if layers is not None else range(model.num_layers):
        for name in names:
            outputs, inputs = projection_shapes(model)[name]
            prefix = f"base_model.model.{module_name(layer, name)}"
            tensors[f"{prefix}.lora_A.weight"] = torch.randn(rank, inputs, generator=generator) * size
            tensors[f"{prefix}.lora_B.weight"] = torch.randn(outputs, rank, generator=generator) * size
    return tensors


def content_of(tensors: dict[str, Tensor], **config: Any) -> AdapterContent:
    """The two files as PEFT writes them; alpha 4 and rank 4 unless said otherwise."""
    raw = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "bias": "none", "r": 4, "lora_alpha": 4, "target_modules": ["q_proj"], "use_dora": False, **config}
    return AdapterContent(save(tensors), json.dumps(raw).encode())


def store_content(root: Path, content: AdapterContent) -> str:
    folder = root / content.id
    folder.mkdir(parents=True)
    (folder / WEIGHTS).write_bytes(content.weights)
    (folder / CONFIG).write_bytes(content.config)
    return content.id


def random_adapter(root: Path, model: CausalLMConfig, *, rank: int = 4, **choices: Any) -> str:
    """Store an adapter whose alpha is twice its rank. -> its id."""
    return store_content(root, content_of(tensors_of(model, rank=rank, **choices), r=rank, lora_alpha=2 * rank))


def merge(model: CausalLM, content: AdapterContent, scale_of: Callable[[str], float]) -> None:
    """The slow twin: add scale * B A to the weights of a plain float32 model."""
    tensors = load(content.weights)
    for layer, block in enumerate(model.blocks):
        linears = {"qkv": block.qkv, "output": block.output, "gate_up": block.mlp.gate_up, "down": block.mlp.down}
        for site, names in PROJECTIONS.items():
            start = 0
            for name in names:
                width = projection_shapes(model.config)[name][0]
                prefix = f"base_model.model.{module_name(layer, name)}"
                if f"{prefix}.lora_A.weight" in tensors:
                    update = tensors[f"{prefix}.lora_B.weight"] @ tensors[f"{prefix}.lora_A.weight"]
                    linears[site].weight[start : start + width] += scale_of(module_name(layer, name)) * update
                start += width


def store_of(model: CausalLM, root: Path) -> AdapterStore[LoraAdapter]:
    return open_adapters("tiny", model, root, EngineConfig(), EngineMetrics(CollectorRegistry()))


def engine_with_adapters(model: CausalLM, root: Path, **limits: Any) -> Engine:
    """As `support.tiny_engine`, with a store over `root`."""
    config = EngineConfig(**{"max_num_sequences": 4, "max_tokens_per_step": 16, "kv_block_size": 4, "kv_cache_tokens": 256, **limits})
    metrics = EngineMetrics(CollectorRegistry())
    return Engine("tiny", ModelRunner(model, config, open_adapters("tiny", model, root, config, metrics)), byte_tokenizer(), config, (), metrics)
