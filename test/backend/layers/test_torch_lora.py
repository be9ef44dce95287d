"""Low-rank updates with torch's operators: by hand, against a plain double-precision twin, and bit for bit the same whatever else is in the batch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gpu_backend.layers.low_rank import LowRank
from gpu_backend.layers.torch_lora import SLICE_RANKS, TorchAdapter, TorchBatchAdapters, fuse

CPU = torch.device("cpu")
IN, WIDTHS = 96, (64, 32, 32)


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def low_rank(rank: int, width: int, seed: int, num_inputs: int = IN) -> LowRank:
    return LowRank(random(rank, num_inputs, seed=seed), random(width, rank, seed=seed + 1), 0.5)


def adapter(rank: int, seed: int = 0, missing: tuple[int, ...] = ()) -> tuple[TorchAdapter, list[LowRank | None]]:
    parts = [None if index in missing else low_rank(rank, width, 10 * seed + 2 * index) for index, width in enumerate(WIDTHS)]
    return TorchAdapter({(1, "qkv"): fuse(parts, WIDTHS, IN, CPU)}), parts


def updated(rows_of: dict[TorchAdapter, list[int]], x: Tensor, out: Tensor) -> Tensor:
    result = out.clone()
    TorchBatchAdapters(rows_of, CPU).at(1).add(result, x, "qkv")
    return result


def twin(parts: list[LowRank | None], x: Tensor, out: Tensor) -> Tensor:
    deltas = [
        torch.zeros(len(x), width, dtype=torch.float64) if part is None else part.scale * (x.double() @ part.a_RI.double().T) @ part.b_OR.double().T
        for part, width in zip(parts, WIDTHS, strict=True)
    ]
    return out.double() + torch.cat(deltas, dim=1)


def test_by_hand() -> None:
    """x = (1, 2), A = (3, 4): A x = 11. B = (5, 6), scale 2: the update is (110, 132), on top of (1, 1). The other row stays as it is."""
    loaded = TorchAdapter({(0, "output"): fuse([LowRank(torch.tensor([[3.0, 4.0]]), torch.tensor([[5.0], [6.0]]), 2.0)], [2], 2, CPU)})
    out = torch.ones(2, 2)
    TorchBatchAdapters({loaded: [1]}, CPU).at(0).add(out, torch.tensor([[7.0, 7.0], [1.0, 2.0]]), "output")
    assert out.tolist() == [[1.0, 1.0], [111.0, 133.0]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rank", [1, 8, 16, 17, 64])
def test_a_batch_equals_the_twin_row_by_row(dtype: torch.dtype, rank: int) -> None:
    (first, first_parts), (second, second_parts) = adapter(rank, 1), adapter(5, 2, missing=(1,))
    x, out = random(40, IN, seed=3).to(dtype), random(40, sum(WIDTHS), seed=4).to(dtype)
    rows_of = {first: [0, 3, 4, *range(20, 35)], second: [1, 7]}
    result = updated(rows_of, x, out)
    for owner, parts in ((first, first_parts), (second, second_parts)):
        expected = twin(parts, x, out)[rows_of[owner]]
        assert torch.allclose(result[rows_of[owner]].double(), expected, rtol=2**-8 if dtype == torch.bfloat16 else 1e-4, atol=1e-3)
    others = [row for row in range(40) if row not in (*rows_of[first], *rows_of[second])]
    assert torch.equal(result[others], out[others])


def test_projections_without_an_update_keep_every_bit() -> None:
    loaded, _ = adapter(4, 1, missing=(1,))
    x, out = random(3, IN, seed=3), random(3, sum(WIDTHS), seed=4)
    assert torch.equal(updated({loaded: [0, 1, 2]}, x, out)[:, 64:96], out[:, 64:96])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("sizes", [(96, WIDTHS), (576, (576, 192, 192)), (1536, (576,)), (4096, (1024,))])
@pytest.mark.parametrize("num_threads", [1, 2])
def test_a_row_is_bit_for_bit_the_same_in_any_company(dtype: torch.dtype, sizes: tuple[int, tuple[int, ...]], num_threads: int) -> None:
    """Alone; in every place of a tile; among few and many rows; beside adapters of other ranks; with one product for all tiles or a gathered one."""
    num_inputs, widths = sizes
    site = "qkv" if len(widths) == 3 else "output"
    loaded = [
        TorchAdapter({(1, site): fuse([low_rank(rank, width, 100 * rank + at, num_inputs) for at, width in enumerate(widths)], widths, num_inputs, CPU)})
        for rank in (8, 3, 40)
    ]
    x, out = random(70, num_inputs, seed=3).to(dtype), random(70, sum(widths), seed=4).to(dtype)

    def run(rows_of: dict[int, list[int]]) -> Tensor:
        result = out.clone()
        TorchBatchAdapters({loaded[index]: rows for index, rows in rows_of.items()}, CPU).at(1).add(result, x, site)
        return result

    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        for own in (0, 2):
            others = [index for index in range(3) if index != own]
            alone = run({own: [5]})[5]
            assert not torch.equal(alone, out[5])
            for count in (1, 2, 7, 8, 9, 17, 40):
                for place in {0, count // 2, count - 1}:
                    rows = [*range(10, 10 + place), 5, *range(10 + place, 9 + count)]
                    assert torch.equal(run({own: rows})[5], alone), (count, place)
                    assert torch.equal(run({others[0]: [60], own: rows, others[1]: [61, 62]})[5], alone), (count, place)
            crowd = run({own: [5], others[0]: [*range(10, 40)], others[1]: [40, 41]})
            assert torch.equal(crowd[5], alone)
    finally:
        torch.set_num_threads(before)


def test_padding_a_rank_to_a_slice_changes_no_bit() -> None:
    part = low_rank(5, 64, 1)
    wide = LowRank(torch.cat((part.a_RI, torch.zeros(SLICE_RANKS + 3, IN))), torch.cat((part.b_OR, torch.zeros(64, SLICE_RANKS + 3)), dim=1), part.scale)
    x, out = random(9, IN, seed=3), random(9, 64, seed=4)
    results = []
    for each in (part, wide):
        results.append(out.clone())
        TorchBatchAdapters({TorchAdapter({(0, "output"): fuse([each], [64], IN, CPU)}): [*range(9)]}, CPU).at(0).add(results[-1], x, "output")
    assert torch.equal(*results)


def test_no_update_at_this_layer_or_site_touches_nothing() -> None:
    loaded, _ = adapter(4)
    out = random(2, sum(WIDTHS), seed=4)
    before = out.clone()
    TorchBatchAdapters({loaded: [0, 1]}, CPU).at(0).add(out, random(2, IN, seed=3), "qkv")
    TorchBatchAdapters({loaded: [0, 1]}, CPU).at(1).add(out, random(2, IN, seed=3), "down")
    assert torch.equal(out, before)


def test_bytes_count_what_is_held() -> None:
    """Rank 17 is two slices: A 2 x (96, 48) and B 2 x (16, 128), in float32."""
    loaded, _ = adapter(17)
    assert loaded.num_bytes == 4 * 2 * (96 * 48 + 16 * 128)
