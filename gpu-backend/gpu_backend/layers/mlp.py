"""The gated feed-forward block (SwiGLU, Shazeer 2020, arXiv 2002.05202) with gate and up projection in one matrix product."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from gpu_backend.kernels.native import NativeKernels
from gpu_backend.layers.linear import AnyLinear
from gpu_backend.layers.lora import LayerAdapters, adapted


class SwiGLU(nn.Module):
    """`down(silu(gate(x)) * up(x))`: (N, hidden) -> (N, hidden)."""

    def __init__(self, gate_up: AnyLinear, down: AnyLinear, native: NativeKernels | None = None) -> None:
        super().__init__()
        self.gate_up = gate_up
        self.down = down
        self.native = native

    def forward(self, x: Tensor, adapters: LayerAdapters | None = None) -> Tensor:
        gate_up = adapted(self.gate_up, x, "gate_up", adapters)
        if self.native is not None:
            return adapted(self.down, self.native.gate(gate_up), "down", adapters)
        gate, up = gate_up.chunk(2, dim=-1)
        return adapted(self.down, functional.silu(gate) * up, "down", adapters)
