"""Opens a decoder as a configuration says: where it runs, in which numbers, and with the C operators where they run."""

from __future__ import annotations

from pathlib import Path

from gpu_backend.config import EngineConfig
from gpu_backend.kernels.native import load_native
from gpu_backend.layers.linear import can_pack
from gpu_backend.layers.placement import pick_device, pick_dtype
from gpu_backend.models.causal_lm.model import CausalLM
from gpu_backend.models.causal_lm.weights import load_causal_lm


def open_model(path: Path, models_dir: Path, config: EngineConfig) -> CausalLM:
    """`path` is a folder or a GGUF file; built operators lie in `models_dir`. Raises what `load_causal_lm` raises."""
    device = pick_device(config.device)
    dtype = pick_dtype(config.dtype, device)
    native = load_native(models_dir / ".native") if can_pack(dtype, device) else None
    return load_causal_lm(path, dtype=dtype, device=device, native=native, weight_dtype=config.weight_dtype)
