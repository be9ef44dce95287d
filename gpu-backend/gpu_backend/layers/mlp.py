"""The gated feed-forward block (SwiGLU, Shazeer 2020, arXiv 2002.05202) with gate and up projection in one matrix product."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from gpu_backend.layers.linear import Linear


class SwiGLU(nn.Module):
    """`down(silu(gate(x)) * up(x))`: (N, hidden) -> (N, hidden)."""

    def __init__(self, gate_up: Linear, down: Linear) -> None:
        super().__init__()
        self.gate_up = gate_up
        self.down = down

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(functional.silu(gate) * up)
