"""A linear layer whose weight can be packed once for the CPU's matrix units.

Packing matters twice on CPU in bfloat16: a batch of 4 costs what a batch of 1 costs, and a row comes out bit for bit the same whatever rows
stand beside it, which `torch.nn.functional.linear` does not promise.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

# Seen on AVX-512: this hint is as fast as any other at every batch from 1 to 512.
_PACK_BATCH_HINT = 64


class Linear(nn.Module):
    """`x @ weight.T + bias`; weight (out, in), x (..., in)."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        self.weight: Tensor | None = weight
        self.bias = bias
        self.packed: Tensor | None = None

    def pack(self) -> None:
        """Reorder the weight for oneDNN and let go of the plain one."""
        assert self.weight is not None
        self.packed = torch.ops.mkldnn._reorder_linear_weight(self.weight.contiguous(), _PACK_BATCH_HINT)
        self.weight = None

    def forward(self, x: Tensor) -> Tensor:
        if self.packed is not None:
            return torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")
        assert self.weight is not None
        return functional.linear(x, self.weight, self.bias)


def can_pack(dtype: torch.dtype, device: torch.device) -> bool:
    """Packing pays for bfloat16 on a CPU with the instructions for it; elsewhere the plain operator is the fast one."""
    return device.type == "cpu" and dtype == torch.bfloat16 and torch._C._has_mkldnn and torch.ops.mkldnn._is_mkldnn_bf16_supported()
