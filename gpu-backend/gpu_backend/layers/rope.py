"""Rotary position embedding (Su et al. 2021, arXiv 2104.09864) with the linear, Llama 3 and YaRN (arXiv 2309.00071) stretchings.

Shapes: N tokens, H heads, D head size. The two halves of a head are rotated against each other (the "half-split" layout of the Hugging Face checkpoints).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class RopeConfig:
    head_dim: int
    theta: float
    kind: str = "default"
    factor: float = 1.0
    original_max_positions: int = 0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None
    mscale: float = 0.0
    mscale_all_dim: float = 0.0
    truncate: bool = True

    @classmethod
    def from_raw(cls, raw: dict[str, Any], head_dim: int) -> RopeConfig:
        """Read `rope_parameters` (new name) or `rope_theta` with `rope_scaling` (old names) of a config.json."""
        scaling = dict(raw.get("rope_parameters") or raw.get("rope_scaling") or {})
        kind = scaling.get("rope_type") or scaling.get("type") or "default"
        if kind not in ("default", "linear", "llama3", "yarn"):
            raise ValueError(f"rope type {kind!r} is not one of default, linear, llama3, yarn")
        if scaling.get("partial_rotary_factor", raw.get("partial_rotary_factor") or 1.0) != 1.0:
            raise ValueError("partial rotary embeddings are not supported")
        original = scaling.get("original_max_position_embeddings") or raw.get("original_max_position_embeddings")
        return cls(
            head_dim=head_dim,
            theta=float(scaling.get("rope_theta") or raw.get("rope_theta") or 10_000.0),
            kind=kind,
            factor=float(scaling.get("factor") or 1.0),
            original_max_positions=int(original or raw["max_position_embeddings"]),
            low_freq_factor=float(scaling.get("low_freq_factor", 1.0)),
            high_freq_factor=float(scaling.get("high_freq_factor", 4.0)),
            beta_fast=float(scaling.get("beta_fast") or 32.0),
            beta_slow=float(scaling.get("beta_slow") or 1.0),
            attention_factor=scaling.get("attention_factor"),
            mscale=float(scaling.get("mscale") or 0.0),
            mscale_all_dim=float(scaling.get("mscale_all_dim") or 0.0),
            truncate=bool(scaling.get("truncate", True)),
        )


def inverse_frequencies(config: RopeConfig) -> tuple[Tensor, float]:
    """Angle per position of each pair, shape (D/2,), and the factor that YaRN applies to cos and sin."""
    half = torch.arange(0, config.head_dim, 2, dtype=torch.float32) / config.head_dim
    frequencies = 1.0 / (config.theta**half)
    if config.kind == "linear":
        return frequencies / config.factor, 1.0
    if config.kind == "llama3":
        return _llama3(frequencies, config), 1.0
    if config.kind == "yarn":
        return _yarn(frequencies, config)
    return frequencies, 1.0


def _llama3(frequencies: Tensor, config: RopeConfig) -> Tensor:
    """Keep short wavelengths, divide long ones by `factor`, blend between."""
    wavelengths = 2 * math.pi / frequencies
    longest_kept = config.original_max_positions / config.high_freq_factor
    shortest_divided = config.original_max_positions / config.low_freq_factor
    blend = (config.original_max_positions / wavelengths - config.low_freq_factor) / (config.high_freq_factor - config.low_freq_factor)
    blended = (1 - blend) * frequencies / config.factor + blend * frequencies
    result = torch.where(wavelengths > shortest_divided, frequencies / config.factor, frequencies)
    is_between = (wavelengths <= shortest_divided) & (wavelengths >= longest_kept)
    return torch.where(is_between, blended, result)


def _yarn(frequencies: Tensor, config: RopeConfig) -> tuple[Tensor, float]:
    """Blend by the number of rotations a pair makes over the original context (YaRN, section 3.2), and scale the attention (section 3.4)."""

    def pair_at(rotations: float) -> float:
        return config.head_dim * math.log(config.original_max_positions / (rotations * 2 * math.pi)) / (2 * math.log(config.theta))

    low, high = pair_at(config.beta_fast), pair_at(config.beta_slow)
    if config.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, config.head_dim - 1)
    if low == high:
        high += 0.001
    ramp = ((torch.arange(config.head_dim // 2, dtype=torch.float32) - low) / (high - low)).clamp(0, 1)
    blended = frequencies / config.factor * ramp + frequencies * (1 - ramp)
    return blended, _yarn_attention_factor(config)


def _yarn_attention_factor(config: RopeConfig) -> float:
    def scale(multiplier: float) -> float:
        return 1.0 if config.factor <= 1 else 0.1 * multiplier * math.log(config.factor) + 1.0

    if config.attention_factor is not None:
        return config.attention_factor
    if config.mscale and config.mscale_all_dim:
        return scale(config.mscale) / scale(config.mscale_all_dim)
    return scale(1.0)


class RotaryTable:
    """Cosines and sines of every position, computed once, in float32."""

    def __init__(self, config: RopeConfig, max_positions: int, device: torch.device) -> None:
        frequencies, scale = inverse_frequencies(config)
        angles_PD = torch.outer(torch.arange(max_positions, dtype=torch.float32), frequencies)
        self.cos_PD = (angles_PD.cos() * scale).to(device)
        self.sin_PD = (angles_PD.sin() * scale).to(device)

    def at(self, positions_N: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosines and sines for these positions, each (N, 1, D/2), to be broadcast over heads."""
        return self.cos_PD[positions_N].unsqueeze(1).to(dtype), self.sin_PD[positions_N].unsqueeze(1).to(dtype)


def rotate(x_NHD: Tensor, cos_sin: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate each head by its position: (N, H, D) -> (N, H, D)."""
    cos, sin = cos_sin
    first, second = x_NHD.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
