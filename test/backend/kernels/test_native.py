"""The C operators against their torch twins, rows against batches, and a backend that lives without a compiler."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gpu_backend.kernels import build
from gpu_backend.kernels.native import NativeKernels, PackedMatrix, load_native
from gpu_backend.kernels.packing import pack_bfloat16, pack_int8, pack_q4_1, unpack
from gpu_backend.layers.attention import Attention
from gpu_backend.layers.batch import ForwardBatch
from gpu_backend.layers.kv_cache import PagedKVCache
from gpu_backend.layers.norm import RMSNorm
from gpu_backend.layers.rope import RopeConfig, RotaryTable

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def native(models_dir: Path) -> NativeKernels:
    if not build.is_supported():
        pytest.skip("this processor lacks the instructions that the C operators are written for")
    loaded = load_native(models_dir / ".native")
    assert loaded is not None, "the native kernels were not built: is the package ziglang installed?"
    return loaded


def random(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return (torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale).bfloat16()


def packed(kind: str, num_outputs: int, num_inputs: int) -> PackedMatrix:
    """A random matrix of this kind, codes and scales alike."""
    if kind != "q4_1":
        pack = pack_bfloat16 if kind == "bfloat16" else pack_int8
        return PackedMatrix(pack(random(num_outputs, num_inputs, seed=1)), num_outputs)
    generator = torch.Generator().manual_seed(2)
    codes = torch.randint(0, 256, (num_outputs, num_inputs // 32, 16), generator=generator, dtype=torch.uint8)
    scales = (torch.rand(num_outputs, num_inputs // 32, 2, generator=generator) - 0.3).half().view(torch.uint8)
    return PackedMatrix(pack_q4_1(torch.cat((scales, codes), dim=-1)), num_outputs)


def close(ours: Tensor, exact: Tensor) -> bool:
    """Within one rounding of bfloat16 (2^-8 relative), with room for sums near zero."""
    return torch.allclose(ours.float(), exact.float(), rtol=2**-7, atol=2**-8)


def test_norm_equals_torch(native: NativeKernels) -> None:
    x, weight = random(5, 576, scale=3).float(), random(576, seed=2)
    fast, slow = RMSNorm(weight, 1e-5, native), RMSNorm(weight, 1e-5)
    assert close(fast(x), slow(x)) and fast(x).dtype == torch.bfloat16


KINDS = ["bfloat16", "q8_0", "q4_1"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_outputs", [1, 16, 97, 640])
def test_products_equal_float64_and_rows_do_not_depend_on_the_batch(native: NativeKernels, kind: str, num_outputs: int) -> None:
    x, matrix = random(23, 576), packed(kind, num_outputs, 576)
    whole = native.multiply(x, matrix)
    exact = x.double() @ unpack(matrix.records, num_outputs).double().T
    size = x.double().abs() @ unpack(matrix.records, num_outputs).double().abs().T
    assert ((whole.double() - exact).abs() <= size * 2**-20).all(), "float32 sums lose more than they may"
    for count in (1, 2, 3, 4, 5, 6, 7, 8, 9, 16):
        assert torch.equal(native.multiply(x[:count].contiguous(), matrix), whole[:count]), count
        assert torch.equal(native.multiply(x[-count:].contiguous(), matrix), whole[-count:]), count


def test_many_rows_are_cut_into_blocks_without_changing_them(native: NativeKernels) -> None:
    x, matrix = random(300, 96), packed("q4_1", 48, 96)
    whole = native.multiply(x, matrix)
    assert torch.equal(torch.cat([native.multiply(x[i : i + 1].contiguous(), matrix) for i in range(300)]), whole)


def test_the_bias_is_added(native: NativeKernels) -> None:
    x, plain = random(3, 64), packed("bfloat16", 32, 64)
    bias = torch.arange(32.0)
    assert torch.equal(native.multiply(x, PackedMatrix(plain.records, 32, bias)), native.multiply(x, plain) + bias)


@pytest.mark.parametrize("kind", KINDS)
def test_a_looked_up_row_is_the_row_of_the_weights(native: NativeKernels, kind: str) -> None:
    matrix = packed(kind, 97, 64)
    rows = torch.tensor([0, 96, 17, 17, 5])
    # One fused multiplication and addition there, two roundings here.
    assert torch.allclose(native.look_up(rows, matrix), unpack(matrix.records, 97)[rows], rtol=2**-20, atol=2**-20)


def test_gate_equals_torch(native: NativeKernels) -> None:
    gate_up = random(7, 96, seed=2, scale=4).float()
    gate, up = gate_up.chunk(2, dim=1)
    assert close(native.gate(gate_up), torch.nn.functional.silu(gate) * up)


def test_gate_at_the_extremes(native: NativeKernels) -> None:
    gate = torch.tensor([[-3e38, -300.0, -88.0, -20.0, -1.0, -0.0, 0.0, 1e-30, 1.0, 20.0, 88.0, 300.0, 3e38, float("inf"), -1e-30, 5.0]])
    assert close(native.gate(torch.cat((gate, torch.ones_like(gate)), dim=1)), torch.nn.functional.silu(gate))


def attention_case(num_rows: int, num_heads: int, num_kv_heads: int, head_dim: int, block_size: int) -> tuple[Tensor, list[list[int]], list[int]]:
    # On both sides of the 16 positions that are scored at once and of the 256 that are mixed at once.
    lengths = [1, 2, 15, 16, 17, 31, 33, 255, 256, 257, 300, 600][:num_rows]
    free = list(range(num_rows * 200))
    tables = [[free.pop() for _ in range(math.ceil(length / block_size))] for length in lengths]
    return random(num_rows, num_heads + 2 * num_kv_heads, head_dim).float(), tables, lengths


def run_attention(native: NativeKernels | None, rows: list[int], shape: tuple[int, int, int, int]) -> Tensor:
    """The newest token of each chosen row, over a pool filled with random keys and values."""
    num_heads, num_kv_heads, head_dim, block_size = shape
    qkv, tables, lengths = attention_case(12, num_heads, num_kv_heads, head_dim, block_size)
    cache = PagedKVCache(num_layers=1, num_kv_heads=num_kv_heads, head_dim=head_dim, num_blocks=2400, block_size=block_size, dtype=torch.bfloat16, device=CPU)
    cache.layers[0].copy_(random(*cache.layers[0].shape, seed=9))
    tables, lengths = [tables[row] for row in rows], [lengths[row] for row in rows]
    columns = max(map(len, tables))
    batch = ForwardBatch(
        token_ids_N=torch.empty(0),
        positions_N=torch.tensor([length - 1 for length in lengths]),
        slots_N=torch.tensor(
            [table[(length - 1) // block_size] * block_size + (length - 1) % block_size for table, length in zip(tables, lengths, strict=True)]
        ),
        num_decodes=len(rows),
        decode_blocks_BM=torch.tensor([table + [0] * (columns - len(table)) for table in tables]),
        decode_lengths_B=torch.tensor(lengths),
        spans=(),
    )
    rotary = RotaryTable(RopeConfig(head_dim=head_dim, theta=10_000.0), 1024, CPU)
    if native is None:
        # Exact: float32 throughout, on queries, keys and values that are rounded to bfloat16 only where the cache holds them so.
        cache.layers[0] = cache.layers[0].float()
    return Attention(num_heads, num_kv_heads, rotary, native=native)(qkv[rows].clone(), cache, 0, batch)


SHAPES = [(9, 3, 64, 16), (4, 2, 96, 8), (32, 8, 128, 16), (6, 6, 32, 4), (6, 6, 32, 7)]


@pytest.mark.parametrize("shape", SHAPES)
def test_attention_equals_torch(native: NativeKernels, shape: tuple[int, int, int, int]) -> None:
    rows = list(range(12))
    ours, exact = run_attention(native, rows, shape).float(), run_attention(None, rows, shape)
    # Queries, the newest keys and values, and the answer are rounded to bfloat16: 2^-9 each.
    assert ((ours - exact).norm(dim=1) <= 2**-7 * exact.norm(dim=1)).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_a_row_is_bit_for_bit_the_same_in_any_batch(native: NativeKernels, shape: tuple[int, int, int, int]) -> None:
    whole = run_attention(native, list(range(12)), shape)
    for row in range(12):
        assert torch.equal(run_attention(native, [row], shape)[0], whole[row]), row


def test_norm_and_gate_rows_are_bit_for_bit_the_same_in_any_batch(native: NativeKernels) -> None:
    x, weight, gates = random(33, 1536).float(), random(1536, seed=1), random(33, 1536).float()
    for size in (1, 2, 5, 32):
        assert torch.equal(native.norm(x[:size].contiguous(), weight, 1e-5), native.norm(x, weight, 1e-5)[:size])
        assert torch.equal(native.gate(gates[:size].contiguous()), native.gate(gates)[:size])


def test_unsupported_shapes_are_known() -> None:
    fits = {"head_dim": 64, "num_heads": 9, "num_kv_heads": 3, "hidden_size": 576, "intermediate_size": 1536}
    assert NativeKernels.supports(**fits)
    for change in ({"head_dim": 72}, {"head_dim": 512}, {"num_heads": 51}, {"hidden_size": 592}, {"intermediate_size": 48}):
        assert not NativeKernels.supports(**{**fits, **change})


def test_another_processor_gets_no_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "_processor_features", lambda: "flags : fpu sse2 avx2")
    assert load_native(tmp_path) is None


def test_without_a_compiler_there_are_no_kernels_and_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "FLAGS", ("--no-such-flag",))
    assert load_native(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert load_native(tmp_path / "file" / "kernels") is None


def test_a_damaged_library_is_not_loaded(tmp_path: Path, native: NativeKernels) -> None:
    library = build.ensure_built(tmp_path)
    assert library is not None
    library.write_bytes(b"not a library")
    assert load_native(tmp_path) is None
