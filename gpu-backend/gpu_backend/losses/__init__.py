"""Losses: only maths on tensors. Each gives a scalar to minimise and detached numbers to look at."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True, slots=True)
class LossOutput:
    """`loss` is a scalar with a gradient; `metrics` are plain numbers."""

    loss: Tensor
    metrics: dict[str, float] = field(default_factory=dict)
