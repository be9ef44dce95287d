"""A packed layer computes what the plain one computes, and a row does not depend on the rows beside it."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from gpu_backend.layers.linear import Linear, can_pack

CPU = torch.device("cpu")
needs_bfloat16 = pytest.mark.skipif(not can_pack(torch.bfloat16, CPU), reason="this processor has no bfloat16 instructions: packing is off")


def packed(out_size: int, in_size: int, has_bias: bool) -> tuple[Linear, torch.Tensor, torch.Tensor | None]:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(out_size, in_size, generator=generator).bfloat16()
    bias = torch.randn(out_size, generator=generator).bfloat16() if has_bias else None
    layer = Linear(weight, bias)
    layer.pack()
    return layer, weight, bias


@needs_bfloat16
@pytest.mark.parametrize("has_bias", [False, True])
def test_packed_equals_plain(has_bias: bool) -> None:
    layer, weight, bias = packed(96, 64, has_bias)
    assert layer.weight is None
    x = torch.randn(5, 64, generator=torch.Generator().manual_seed(1)).bfloat16()
    exact = functional.linear(x.double(), weight.double(), None if bias is None else bias.double())
    # bfloat16 keeps 8 bits: half a unit in the last place is 2^-9 of the value.
    assert torch.allclose(layer(x).double(), exact, rtol=2**-8, atol=2**-5)


@needs_bfloat16
def test_packed_rows_are_bit_for_bit_the_same_in_any_batch() -> None:
    layer, _, _ = packed(1536, 576, False)
    x = torch.randn(64, 576, generator=torch.Generator().manual_seed(2)).bfloat16()
    whole = layer(x)
    for size in (1, 2, 3, 4, 7, 16, 33, 64):
        assert torch.equal(layer(x[:size]), whole[:size]), size
        assert torch.equal(layer(x[-size:]), whole[-size:]), size


def test_float32_on_a_cpu_stays_plain() -> None:
    assert not can_pack(torch.float32, CPU)
