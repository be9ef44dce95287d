"""Packed weights are the weights: by hand for one block, and for every tensor of the embedded model against gguf's own dequantising."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from gpu_backend.kernels.packing import KINDS, pack_bfloat16, pack_int4, pack_int8, pack_pairs, pack_q4_1, pack_q8_0, unpack
from gpu_backend.models.causal_lm.weights import PACKED_FILE


def half_bytes(*values: float) -> list[int]:
    return torch.tensor(values, dtype=torch.float16).view(torch.uint8).tolist()


def test_q4_1_by_hand() -> None:
    # Byte i holds code i in its low half and code 16 + i in its high half: codes 0, 1, .. 15 and 15, 14, .. 0.
    block = half_bytes(0.5, -1.0) + [i | (15 - i) << 4 for i in range(16)]
    weights = unpack(pack_q4_1(torch.tensor([[block]], dtype=torch.uint8)), 1)
    assert weights.tolist() == [[0.5 * i - 1 for i in range(16)] + [0.5 * (15 - i) - 1 for i in range(16)]]


def test_q8_0_by_hand() -> None:
    codes = [*range(-16, 15), -127]
    block = half_bytes(0.25) + torch.tensor(codes, dtype=torch.int8).view(torch.uint8).tolist()
    assert unpack(pack_q8_0(torch.tensor([[block]], dtype=torch.uint8)), 1).tolist() == [[0.25 * code for code in codes]]


@pytest.mark.parametrize("num_outputs", [1, 16, 17, 64])
def test_bfloat16_comes_back_as_it_was(num_outputs: int) -> None:
    weight = torch.randn(num_outputs, 96, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert torch.equal(unpack(pack_bfloat16(weight), num_outputs), weight.float())


def test_pairs_by_hand() -> None:
    """Output 16 s + i has 100 s + 4 i + j at rank j; of three ranks the last one gets a zero beside it."""
    weight = torch.tensor([[100.0 * strip + 4 * lane + rank for rank in range(3)] for strip in range(2) for lane in range(16)])
    pairs = pack_pairs(weight).view(torch.bfloat16).float().view(2, 2, 16, 2)
    for strip in range(2):
        for lane in range(16):
            first = 100.0 * strip + 4 * lane
            assert pairs[strip, :, lane].tolist() == [[first, first + 1], [first + 2, 0.0]]


def test_int8_is_off_by_half_a_step_at_most_and_survives_zeros() -> None:
    weight = torch.randn(40, 64, generator=torch.Generator().manual_seed(0))
    weight[3] = 0
    error = (unpack(pack_int8(weight), 40) - weight).abs().view(40, 2, 32)
    step = weight.view(40, 2, 32).abs().amax(-1, keepdim=True) / 127
    # Half a step, and what rounding the scale itself to float16 adds.
    assert (error <= step * 0.57).all()
    assert unpack(pack_int8(weight), 40)[3].eq(0).all()


def test_int4_is_off_by_half_a_step_at_most_and_survives_what_does_not_vary() -> None:
    weight = torch.randn(40, 64, generator=torch.Generator().manual_seed(0))
    weight[3], weight[4] = 0, 0.5
    blocks = weight.view(40, 2, 32)
    error = (unpack(pack_int4(weight), 40) - weight).abs().view(40, 2, 32)
    step = (blocks.amax(-1, keepdim=True) - blocks.amin(-1, keepdim=True)) / 15
    # Half a step, and what rounding scale and minimum to float16 adds.
    assert (error <= step * 0.53 + 2e-3).all()
    assert unpack(pack_int4(weight), 40)[3:5].eq(weight[3:5]).all()


def test_the_embedded_model_is_packed_without_loss(embedded_folder: Path) -> None:
    kinds = set()
    with safe_open(embedded_folder / PACKED_FILE, framework="pt") as packed, safe_open(embedded_folder / "model.safetensors", framework="pt") as plain:
        for name in packed.keys():  # noqa: SIM118 - not a dictionary
            records, weight = packed.get_tensor(name), plain.get_tensor(name)
            kinds.add(KINDS[records.shape[-1]])
            assert torch.equal(unpack(records, weight.shape[0]).bfloat16(), weight), name
        assert len(packed.keys()) == 211
    assert kinds == {"q4_1", "q8_0"}
