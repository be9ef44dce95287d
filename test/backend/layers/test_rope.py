"""Rotary embeddings by hand arithmetic, and the relation that makes them useful."""

from __future__ import annotations

import math

import torch

from gpu_backend.layers.rope import RopeConfig, RotaryTable, inverse_frequencies, rotate

CPU = torch.device("cpu")


def config(**values: object) -> RopeConfig:
    return RopeConfig(**{"head_dim": 4, "theta": 100.0, **values})  # type: ignore[arg-type]


def test_frequencies_by_hand() -> None:
    """theta 100, head 4: pair 0 turns 100^0 = 1 radian a position, pair 1 turns 100^(-2/4) = 0.1."""
    frequencies, scale = inverse_frequencies(config())
    assert torch.allclose(frequencies, torch.tensor([1.0, 0.1])) and scale == 1.0
    assert torch.allclose(inverse_frequencies(config(kind="linear", factor=4.0))[0], torch.tensor([0.25, 0.025]))


def test_llama3_keeps_short_waves_and_divides_long_ones() -> None:
    """Original length 64: waves above 64/1 are divided by 8, waves below 64/4 = 16 are kept; 2*pi = 6.3 is kept, 20*pi = 62.8 lies between."""
    frequencies, _ = inverse_frequencies(config(kind="llama3", factor=8.0, original_max_positions=64))
    blend = (64 / (20 * math.pi) - 1) / (4 - 1)
    assert torch.allclose(frequencies, torch.tensor([1.0, (1 - blend) * 0.1 / 8 + blend * 0.1]))


def test_rotation_by_hand() -> None:
    """Position 1: the pair (x0, x2) turns by 1 radian, (x1, x3) by 0.1."""
    table = RotaryTable(config(), 8, CPU)
    x = torch.tensor([[[1.0, 2.0, 3.0, 4.0]]])
    c, s, c1, s1 = math.cos(1), math.sin(1), math.cos(0.1), math.sin(0.1)
    expected = torch.tensor([[[c - 3 * s, 2 * c1 - 4 * s1, 3 * c + s, 4 * c1 + 2 * s1]]])
    assert torch.allclose(rotate(x, table.at(torch.tensor([1]), torch.float32)), expected)


def test_products_depend_on_distance_only() -> None:
    table = RotaryTable(config(head_dim=8), 64, CPU)
    query, key = torch.randn(2, 1, 1, 8, generator=torch.Generator().manual_seed(3))

    def product(query_at: int, key_at: int) -> float:
        rotated = [rotate(x, table.at(torch.tensor([at]), torch.float32)) for x, at in ((query, query_at), (key, key_at))]
        return float((rotated[0] * rotated[1]).sum())

    assert math.isclose(product(5, 2), product(50, 47), rel_tol=1e-4)
    assert not math.isclose(product(5, 2), product(5, 3), rel_tol=1e-2)
