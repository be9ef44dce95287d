"""Low-rank updates with the C operators: by hand, against double precision, and bit for bit the same whatever else is in the batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gpu_backend.kernels.build import is_supported
from gpu_backend.kernels.native import NativeKernels, PackedMatrix, load_native
from gpu_backend.kernels.packing import pack_bfloat16, pack_int8
from gpu_backend.layers.linear import PackedLinear
from gpu_backend.layers.low_rank import PROJECTIONS, LowRank, Site
from gpu_backend.layers.packed_lora import PackedAdapter, PackedBatchAdapters

pytestmark = pytest.mark.skipif(not is_supported(), reason="this processor lacks the instructions that the C operators are written for")
HIDDEN, INNER = 96, 160
WIDTHS = {"q_proj": 96, "k_proj": 32, "v_proj": 32, "o_proj": HIDDEN, "gate_proj": INNER, "up_proj": INNER, "down_proj": HIDDEN}
INPUTS: dict[Site, int] = {"qkv": HIDDEN, "output": 96, "gate_up": HIDDEN, "down": INNER}
NUM_ROWS = 150
Parts = Mapping[tuple[int, str], LowRank]


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def native(request: pytest.FixtureRequest, models_dir: Path) -> Iterator[NativeKernels]:
    """The library takes PyTorch's number of threads when it is loaded."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    loaded = load_native(models_dir / ".native")
    assert loaded is not None
    yield loaded
    torch.set_num_threads(before)
    load_native(models_dir / ".native")


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def parts_of(site: Site, rank: int, seed: int, missing: tuple[str, ...] = (), layer: int = 1) -> dict[tuple[int, str], LowRank]:
    """Every projection one rank more than the one before."""
    names = PROJECTIONS[site]
    return {
        (layer, name): LowRank(random(rank + at, INPUTS[site], seed=10 * seed + at), random(WIDTHS[name], rank + at, seed=10 * seed + at + 5), 0.5)
        for at, name in enumerate(names)
        if name not in missing
    }


def linear(native: NativeKernels, site: Site) -> PackedLinear:
    num_outputs = sum(WIDTHS[name] for name in PROJECTIONS[site])
    return PackedLinear(PackedMatrix(pack_int8(random(num_outputs, INPUTS[site], seed=1)), num_outputs, random(num_outputs, seed=2)), native)


def run(native: NativeKernels, site: Site, rows_of: Mapping[PackedAdapter, Sequence[int]], x: Tensor, layer: int = 1) -> Tensor:
    return PackedBatchAdapters(rows_of, x.shape[0]).at(layer).apply(linear(native, site), x, site)


def pack(parts: Parts) -> PackedAdapter:
    return PackedAdapter(parts, WIDTHS, num_layers=3)


def update(parts: Parts, site: Site, x: Tensor, *, is_rounded: bool) -> Tensor:
    """scale * B A x in double precision, from A, B and A x as they are, or as they are rounded to bfloat16."""

    def rounded(values: Tensor) -> Tensor:
        return values.bfloat16().double() if is_rounded else values.double()

    columns = []
    for name in PROJECTIONS[site]:
        part = parts.get((1, name))
        if part is None:
            columns.append(torch.zeros(len(x), WIDTHS[name], dtype=torch.float64))
        else:
            columns.append(rounded(x.double() @ rounded(part.a_RI).T) @ rounded(part.b_OR * part.scale).T)
    return torch.cat(columns, dim=1)


def test_by_hand(native: NativeKernels) -> None:
    """x = (1, 2, 0, ..), A = (3, 4, 0, ..): A x = 11. B = (5, 6, 0, ..), scale 2: the update is (110, 132, 0, ..), on top of zeros. Row 0 has none."""
    a, b, x = torch.zeros(1, 96), torch.zeros(HIDDEN, 1), torch.zeros(2, 96)
    a[0, :2], b[:2, 0], x[0], x[1, :2] = torch.tensor([3.0, 4.0]), torch.tensor([5.0, 6.0]), 7, torch.tensor([1.0, 2.0])
    zeros = PackedLinear(PackedMatrix(pack_bfloat16(torch.zeros(HIDDEN, 96)), HIDDEN), native)
    out = PackedBatchAdapters({pack({(0, "o_proj"): LowRank(a, b, 2.0)}): [1]}, 2).at(0).apply(zeros, x.bfloat16(), "output")
    assert out[0].tolist() == [0.0] * HIDDEN and out[1].tolist() == [110.0, 132.0] + [0.0] * (HIDDEN - 2)


@pytest.mark.parametrize("site", PROJECTIONS)
@pytest.mark.parametrize("rank", [1, 8, 15, 16, 17, 64, 254])
def test_updates_are_the_product_of_the_rounded_numbers(native: NativeKernels, site: Site, rank: int) -> None:
    parts, x = parts_of(site, rank, seed=3), random(NUM_ROWS, INPUTS[site], seed=4).bfloat16()
    ours = (run(native, site, {pack(parts): range(NUM_ROWS)}, x) - linear(native, site)(x)).double()
    size = update(parts, site, x, is_rounded=False).norm()
    # A number of A x that lies between two of bfloat16 may be rounded the other way than from double precision.
    assert (ours - update(parts, site, x, is_rounded=True)).norm() <= 2**-12 * size
    # Three roundings, of A, B and A x, each off by at most 2^-8 of a number, evenly spread: 2^-8 / sqrt(3), times sqrt(3).
    assert (ours - update(parts, site, x, is_rounded=False)).norm() <= 2**-8 * size


def test_projections_without_an_update_keep_every_bit(native: NativeKernels) -> None:
    parts, x = parts_of("qkv", 16, seed=3, missing=("k_proj",)), random(9, HIDDEN, seed=4).bfloat16()
    ours, plain = run(native, "qkv", {pack(parts): range(9)}, x), linear(native, "qkv")(x)
    assert torch.equal(ours[:, 96:128], plain[:, 96:128])
    assert not torch.isclose(ours[:, :96], plain[:, :96]).all() and not torch.isclose(ours[:, 128:], plain[:, 128:]).all()


@pytest.mark.parametrize("site", PROJECTIONS)
def test_a_row_is_bit_for_bit_the_same_in_any_company(native: NativeKernels, site: Site) -> None:
    """Alone; in every place of a tile; among few and many rows; beside rows of other ranks and beside rows without an adapter."""
    adapters = [pack(parts_of(site, rank, seed=rank)) for rank in (16, 3, 40, 254)]
    x = random(NUM_ROWS, INPUTS[site], seed=4).bfloat16()
    plain = linear(native, site)(x)
    alone = [torch.cat([run(native, site, {adapter: [0]}, x[row : row + 1]) for row in range(NUM_ROWS)]) for adapter in adapters]
    assert all(not torch.isclose(one, plain).any(dim=1).all() for one in alone)
    generator = torch.Generator().manual_seed(5)
    owners: list[list[int]] = [[owner] * NUM_ROWS for owner in range(len(adapters))]
    owners += [torch.randint(-1, len(adapters), (NUM_ROWS,), generator=generator).tolist() for _ in range(3)]
    owners += [[-1] * 3 + [0] * 70 + [1] * 2 + [-1] * 5 + [2] * 40 + [0] * 30, [-1] * 149 + [3]]
    for each in owners:
        rows_of = {adapters[owner]: [row for row in range(NUM_ROWS) if each[row] == owner] for owner in set(each) if owner >= 0}
        whole = run(native, site, rows_of, x)
        for row, owner in enumerate(each):
            assert torch.equal(whole[row], plain[row] if owner < 0 else alone[owner][row]), (row, owner)
    for first, count in ((0, 1), (3, 2), (5, 7), (8, 8), (1, 9), (17, 130)):
        some = x[first : first + count].contiguous()
        assert torch.equal(run(native, site, {adapters[0]: range(count)}, some), alone[0][first : first + count]), (first, count)


def test_no_update_at_this_layer_or_site_changes_nothing(native: NativeKernels) -> None:
    adapter = pack(parts_of("qkv", 4, seed=3))
    for site, layer in (("qkv", 0), ("qkv", 2), ("down", 1)):
        x = random(9, INPUTS[site], seed=4).bfloat16()
        assert torch.equal(run(native, site, {adapter: range(9)}, x, layer), linear(native, site)(x))


def test_ranks_of_zeros_change_no_bit(native: NativeKernels) -> None:
    part, x = parts_of("output", 5, seed=3)[1, "o_proj"], random(9, 96, seed=4).bfloat16()
    wide = LowRank(torch.cat((part.a_RI, torch.zeros(30, 96))), torch.cat((part.b_OR, torch.zeros(HIDDEN, 30)), dim=1), part.scale)
    narrow_out, wide_out = (run(native, "output", {pack({(1, "o_proj"): each}): range(9)}, x) for each in (part, wide))
    assert torch.equal(narrow_out, wide_out)


def test_bytes_count_what_is_held(native: NativeKernels) -> None:
    """Rank 17 of o_proj: A has two strips of 16 ranks for 96 inputs, B 9 pairs of ranks for 96 outputs, in bfloat16; 21 places of 32 bytes say where."""
    part = LowRank(random(17, 96, seed=1), random(HIDDEN, 17, seed=2), 1.0)
    assert pack({(1, "o_proj"): part}).num_bytes == 2 * (32 * 96 + 18 * 96) + 21 * 32
