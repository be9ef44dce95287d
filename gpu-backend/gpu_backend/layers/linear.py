"""Linear layers: torch's, with a weight that can be packed once for oneDNN, and the C operators', with a packed and maybe quantised weight.

Packing matters twice on CPU in bfloat16: a batch of 4 costs what a batch of 1 costs, and a row comes out bit for bit the same whatever rows
stand beside it, which `torch.nn.functional.linear` does not promise.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from gpu_backend.kernels import structs
from gpu_backend.kernels.native import NativeKernels, PackedMatrix

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


class PackedLinear(nn.Module):
    """The same for the C operators: x (N, in) in bfloat16 -> (N, out) in float32."""

    def __init__(self, matrix: PackedMatrix, native: NativeKernels) -> None:
        super().__init__()
        self.matrix = matrix
        self._native = native

    def look_up(self, rows_N: Tensor) -> Tensor:
        """Rows of the weight in float32: what an embedding tied to this head looks up."""
        return self._native.look_up(rows_N, self.matrix)

    def forward(self, x_NI: Tensor, adapters: structs.Adapters | None = None, updates: range = range(0)) -> Tensor:
        """With `adapters`, these of the updates of each row's adapter are added."""
        return self._native.multiply(x_NI, self.matrix, adapters, updates)


AnyLinear = Linear | PackedLinear


def can_pack(dtype: torch.dtype, device: torch.device) -> bool:
    """Packing pays for bfloat16 on a CPU with the instructions for it; elsewhere the plain operator is the fast one."""
    return device.type == "cpu" and dtype == torch.bfloat16 and torch._C._has_mkldnn and torch.ops.mkldnn._is_mkldnn_bf16_supported()
