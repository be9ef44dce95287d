"""Where a model runs and in which numbers, unless somebody says so."""

from __future__ import annotations

import torch

from gpu_backend.layers.linear import can_pack


def pick_device(name: str) -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else torch.device(name)


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """bfloat16 where the device computes it natively, else float32."""
    if name != "auto":
        return torch.bfloat16 if name == "bfloat16" else torch.float32
    return torch.bfloat16 if device.type == "cuda" or can_pack(torch.bfloat16, device) else torch.float32
