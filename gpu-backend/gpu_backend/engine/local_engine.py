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
from gpu_backend.models.causal_lm.model import CausalLM
from gpu_backend.models.causal_lm.open_model import open_model
from gpu_backend.models.causal_lm.texts import load_texts
from gpu_backend.tokenizer import Tokenizer


def open_engine(base_folder: Path, models_dir: Path, adapter: AdapterContent | None = None) -> Engine:
    """Around the base in bfloat16 where the machine computes that natively; the adapter is served by its content's hash."""
    config = EngineConfig()
    tokenizer, _, end_ids = load_texts(base_folder)
    return engine_around(open_model(base_folder, models_dir, config), tokenizer, adapter, config, end_ids)


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
