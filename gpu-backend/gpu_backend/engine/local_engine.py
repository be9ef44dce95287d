"""An engine without a server around it: the model as the server loads it, for measurements that run through the scheduler and its cache."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from prometheus_client import CollectorRegistry

from gpu_backend.adapters.content import AdapterContent
from gpu_backend.adapters.peft_weights import parse_adapter
from gpu_backend.config import EngineConfig
from gpu_backend.engine.adapter_store import AdapterStore
from gpu_backend.engine.engine import Engine
from gpu_backend.engine.metrics import EngineMetrics
from gpu_backend.engine.model_runner import ModelRunner
from gpu_backend.kernels.native import load_native
from gpu_backend.layers.linear import can_pack
from gpu_backend.layers.placement import pick_device, pick_dtype
from gpu_backend.models.causal_lm.model import CausalLM
from gpu_backend.models.causal_lm.texts import load_texts
from gpu_backend.models.causal_lm.weights import load_causal_lm
from gpu_backend.tokenizer import Tokenizer


def open_model(base_folder: Path, models_dir: Path) -> CausalLM:
    """The base in bfloat16 where the machine computes that natively."""
    device = pick_device("auto")
    dtype = pick_dtype("auto", device)
    native = load_native(models_dir / ".native") if can_pack(dtype, device) else None
    return load_causal_lm(base_folder, dtype=dtype, device=device, native=native)


def open_engine(base_folder: Path, models_dir: Path, adapter: AdapterContent | None = None) -> Engine:
    """Around that model; the adapter is served by its content's hash."""
    tokenizer, _, end_ids = load_texts(base_folder)
    return engine_around(open_model(base_folder, models_dir), tokenizer, adapter, EngineConfig(), end_ids)


def engine_around(model: CausalLM, tokenizer: Tokenizer, adapter: AdapterContent | None, config: EngineConfig, end_ids: Iterable[int] = ()) -> Engine:
    metrics = EngineMetrics(CollectorRegistry())
    known = {} if adapter is None else {adapter.id: adapter}
    store = AdapterStore(
        lambda adapter_id: parse_adapter(known[adapter_id], model.config, model.device, is_packed=model.fused is not None),
        config.adapter_cache_bytes,
        metrics,
        "eval",
    )
    return Engine("eval", ModelRunner(model, config, store), tokenizer, config, end_ids, metrics)
