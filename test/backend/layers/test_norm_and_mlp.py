"""Root-mean-square norm and the gated feed-forward block by hand arithmetic."""

from __future__ import annotations

import math

import torch

from gpu_backend.layers.linear import Linear
from gpu_backend.layers.mlp import SwiGLU
from gpu_backend.layers.norm import RMSNorm


def test_norm_by_hand() -> None:
    """(3, 4) has mean square 12.5; divided by its root, then scaled by (1, 2)."""
    out = RMSNorm(torch.tensor([1.0, 2.0]), eps=0.0)(torch.tensor([[3.0, 4.0]]))
    assert torch.allclose(out, torch.tensor([[3 / math.sqrt(12.5), 8 / math.sqrt(12.5)]]))


def test_eps_keeps_zeros_finite() -> None:
    assert torch.equal(RMSNorm(torch.ones(2), eps=1e-5)(torch.zeros(1, 2)), torch.zeros(1, 2))


def test_swiglu_by_hand() -> None:
    """x = 2, gate = x, up = 3x, down = 0.5: 0.5 * silu(2) * 6, with silu(2) = 2 / (1 + e^-2)."""
    mlp = SwiGLU(Linear(torch.tensor([[1.0], [3.0]])), Linear(torch.tensor([[0.5]])))
    assert torch.allclose(mlp(torch.tensor([[2.0]])), torch.tensor([[0.5 * 6 * 2 / (1 + math.exp(-2))]]))
