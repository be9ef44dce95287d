"""The C operators against their torch twins, rows against batches, and a backend that lives without a compiler."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gpu_backend.kernels import build
from gpu_backend.kernels.native import NativeKernels, load_native
from gpu_backend.layers.attention import Attention
from gpu_backend.layers.batch import ForwardBatch
from gpu_backend.layers.kv_cache import PagedKVCache
from gpu_backend.layers.linear import Linear
from gpu_backend.layers.mlp import SwiGLU
from gpu_backend.layers.norm import RMSNorm
from gpu_backend.layers.rope import RopeConfig, RotaryTable

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def native(models_dir: Path) -> NativeKernels:
    loaded = load_native(models_dir / ".native")
    assert loaded is not None, "the native kernels were not built: is the package ziglang installed?"
    return loaded


def random(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return (torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale).bfloat16()


def close(ours: Tensor, exact: Tensor) -> bool:
    """Within one rounding of bfloat16 (2^-8 relative), with room for sums near zero."""
    return torch.allclose(ours.float(), exact.float(), rtol=2**-7, atol=2**-8)


def test_norm_equals_torch(native: NativeKernels) -> None:
    x, delta, weight = random(5, 576, scale=3).float(), random(5, 576, seed=1), random(576, seed=2)
    fast, slow = RMSNorm(weight, 1e-5, native), RMSNorm(weight, 1e-5)
    assert close(fast(x), slow(x)) and fast(x).dtype == torch.bfloat16
    total, normed = fast.after_adding(x, delta)
    assert torch.equal(total, x + delta) and total.dtype == torch.float32
    assert close(normed, slow(x + delta))


@pytest.mark.parametrize("num_outputs", [1, 2, 97, 4096])
def test_head_equals_float32_products_and_rows_do_not_depend_on_the_batch(native: NativeKernels, num_outputs: int) -> None:
    x, weight = random(23, 576), random(num_outputs, 576, seed=1)
    whole = native.head(x, weight)
    assert torch.allclose(whole, x.float() @ weight.float().T, atol=1e-3)
    for size in (1, 2, 3, 7, 8, 16):
        assert torch.equal(native.head(x[:size].contiguous(), weight), whole[:size]), size
        assert torch.equal(native.head(x[-size:].contiguous(), weight), whole[-size:]), size


def test_gate_equals_torch(native: NativeKernels) -> None:
    gate_up = Linear(random(96, 32))
    x = random(7, 32, seed=2, scale=4)
    identity = Linear(torch.eye(48).bfloat16())
    assert close(SwiGLU(gate_up, identity, native)(x), SwiGLU(gate_up, identity)(x))


def test_gate_at_the_extremes(native: NativeKernels) -> None:
    gate = torch.tensor([[-300.0, -20.0, -1.0, 0.0, 1.0, 20.0, 300.0, 3e38]]).bfloat16()
    out = native.gate(torch.cat((gate, torch.ones_like(gate)), dim=1))
    assert close(out, torch.nn.functional.silu(gate.float()))


def attention_case(num_rows: int, num_heads: int, num_kv_heads: int, head_dim: int, block_size: int) -> tuple[Tensor, list[list[int]], list[int]]:
    lengths = [1 + (37 * row) % 90 for row in range(num_rows)]
    free = list(range(num_rows * 100))
    tables = [[free.pop() for _ in range(math.ceil(length / block_size))] for length in lengths]
    return random(num_rows, num_heads + 2 * num_kv_heads, head_dim), tables, lengths


def run_attention(native: NativeKernels | None, rows: list[int], shape: tuple[int, int, int, int]) -> Tensor:
    """The newest token of each chosen row, over a pool filled with random keys and values."""
    num_heads, num_kv_heads, head_dim, block_size = shape
    qkv, tables, lengths = attention_case(12, num_heads, num_kv_heads, head_dim, block_size)
    cache = PagedKVCache(num_layers=1, num_kv_heads=num_kv_heads, head_dim=head_dim, num_blocks=1200, block_size=block_size, dtype=torch.bfloat16, device=CPU)
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
    rotary = RotaryTable(RopeConfig(head_dim=head_dim, theta=10_000.0), 128, CPU)
    return Attention(num_heads, num_kv_heads, rotary, native)(qkv[rows].clone(), cache, 0, batch)


SHAPES = [(9, 3, 64, 16), (4, 2, 96, 8), (32, 8, 128, 16), (6, 6, 32, 4)]


@pytest.mark.parametrize("shape", SHAPES)
def test_attention_equals_torch(native: NativeKernels, shape: tuple[int, int, int, int]) -> None:
    rows = list(range(12))
    assert (run_attention(native, rows, shape).float() - run_attention(None, rows, shape).float()).abs().max() < 0.04


@pytest.mark.parametrize("shape", SHAPES)
def test_a_row_is_bit_for_bit_the_same_in_any_batch(native: NativeKernels, shape: tuple[int, int, int, int]) -> None:
    whole = run_attention(native, list(range(12)), shape)
    for row in range(12):
        assert torch.equal(run_attention(native, [row], shape)[0], whole[row]), row


def test_norm_and_gate_rows_are_bit_for_bit_the_same_in_any_batch(native: NativeKernels) -> None:
    x, weight, gates = random(33, 1536).float(), random(1536, seed=1), random(33, 1536)
    for size in (1, 2, 5, 32):
        assert torch.equal(native.norm(x[:size].contiguous(), weight, 1e-5), native.norm(x, weight, 1e-5)[:size])
        assert torch.equal(native.gate(gates[:size].contiguous()), native.gate(gates)[:size])


def test_unsupported_shapes_are_known() -> None:
    fits = {"head_dim": 64, "num_heads": 9, "num_kv_heads": 3, "hidden_size": 576}
    assert NativeKernels.supports(**fits)
    for change in ({"head_dim": 72}, {"head_dim": 512}, {"num_heads": 51}, {"hidden_size": 592}):
        assert not NativeKernels.supports(**{**fits, **change})


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
