"""Root-mean-square normalisation (Zhang and Sennrich 2019, arXiv 1910.07467)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from gpu_backend.kernels.native import NativeKernels


class RMSNorm(nn.Module):
    """Scale the last dimension to unit root mean square, then by a learned weight: (..., D) -> (..., D) in the weight's dtype.

    Computed in float32. The residual stream that comes in is float32 as well, also where weights and activations are bfloat16: rounding it after
    every layer is what costs a small bfloat16 model most of its precision, and it is the cheapest thing to keep.
    """

    def __init__(self, weight: Tensor, eps: float, native: NativeKernels | None = None) -> None:
        super().__init__()
        self.weight = weight
        self.eps = eps
        self.native = native

    def forward(self, x: Tensor) -> Tensor:
        if self.native is not None:
            return self.native.norm(x.float(), self.weight, self.eps)
        return functional.rms_norm(x.float(), (x.shape[-1],), self.weight.float(), self.eps).to(self.weight.dtype)
