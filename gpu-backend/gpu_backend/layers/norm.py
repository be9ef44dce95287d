"""Root-mean-square normalisation (Zhang and Sennrich 2019, arXiv 1910.07467)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class RMSNorm(nn.Module):
    """Scale the last dimension to unit root mean square, then by a learned weight: (..., D) -> (..., D)."""

    def __init__(self, weight: Tensor, eps: float) -> None:
        super().__init__()
        self.weight = weight
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return functional.rms_norm(x, (x.shape[-1],), self.weight, self.eps)
