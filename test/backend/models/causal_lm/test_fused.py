"""Layers in one call of the C operators compute bit for bit what they compute one operator at a time, and nearly what torch computes."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gpu_backend.kernels.build import is_supported
from gpu_backend.kernels.native import load_native
from gpu_backend.kernels.packing import KINDS, pack_int8, unpack
from gpu_backend.layers.batch import ForwardBatch, PromptSpan
from gpu_backend.layers.linear import PackedLinear
from gpu_backend.models.causal_lm.config import UnsupportedModelError
from gpu_backend.models.causal_lm.model import CausalLM
from gpu_backend.models.causal_lm.weights import build
from support import Weights, tiny_model

pytestmark = pytest.mark.skipif(not is_supported(), reason="this processor lacks the instructions that the C operators are written for")
SHAPE: dict[str, Any] = {"hidden_size": 64, "head_dim": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 96}
FAMILIES = ["llama", "qwen2", "qwen3"]


def model(models_dir: Path, family: str) -> CausalLM:
    native = load_native(models_dir / ".native")
    assert native is not None
    built = tiny_model(dtype=torch.bfloat16, native=native, model_type=family, **SHAPE)
    assert built.fused is not None
    return built


def batch() -> ForwardBatch:
    """Two sequences that decode at positions 5 and 9, and a prompt of 11 tokens whose first 4 are already cached."""
    tables = torch.tensor([[0, 1, 2], [3, 4, 5]])
    prompt = torch.tensor([6, 7, 8])
    positions = torch.cat((torch.tensor([5, 9]), torch.arange(4, 11)))
    blocks = torch.cat((tables, prompt.expand(7, 3)))
    slots = blocks.gather(1, (positions // 4).unsqueeze(1)).squeeze(1) * 4 + positions % 4
    return ForwardBatch(
        token_ids_N=torch.arange(9) + 30,
        positions_N=positions,
        slots_N=slots,
        num_decodes=2,
        decode_blocks_BM=tables,
        decode_lengths_B=torch.tensor([6, 10]),
        spans=(PromptSpan(2, 7, 11, prompt),),
    )


def run(built: CausalLM, cuts: tuple[int, ...] = ()) -> tuple[Tensor, list[Tensor]]:
    """-> hidden states, and what the cache then holds."""
    cache = built.new_cache(num_blocks=9, block_size=4)
    generator = torch.Generator().manual_seed(5)
    for pool in cache.layers:
        pool.copy_(torch.randn(pool.shape, generator=generator))
    x = built.embed(batch().token_ids_N)
    edges = [0, *cuts, built.config.num_layers]
    for start, stop in pairwise(edges):
        x = built.run_layers(x, start, stop, cache, batch())
    return x, cache.layers


@pytest.mark.parametrize("family", FAMILIES)
def test_fused_is_bit_for_bit_one_operator_at_a_time(models_dir: Path, family: str) -> None:
    built = model(models_dir, family)
    fused, fused_cache = run(built)
    in_parts, _ = run(built, cuts=(1, 2))
    built.fused = None
    single, single_cache = run(built)
    assert torch.equal(fused, single) and torch.equal(in_parts, single)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(fused_cache, single_cache, strict=True))


@pytest.mark.parametrize("family", FAMILIES)
def test_fused_is_close_to_torch(models_dir: Path, family: str) -> None:
    fused, _ = run(model(models_dir, family))
    exact, _ = run(tiny_model(dtype=torch.float32, model_type=family, **SHAPE))
    # Weights and activations rounded to bfloat16, through three layers of random weights.
    assert ((fused - exact).norm(dim=1) < 0.08 * exact.norm(dim=1)).all()


def test_the_residual_stream_that_goes_in_is_left_as_it_was(models_dir: Path) -> None:
    built = model(models_dir, "llama")
    x = built.embed(batch().token_ids_N)
    before = x.clone()
    built.run_layers(x, 0, 1, built.new_cache(num_blocks=9, block_size=4), batch())
    assert torch.equal(x, before)


def test_int8_weights_compute_what_the_rounded_weights_do(models_dir: Path) -> None:
    weights: dict[str, Tensor] = {}
    exact = tiny_model(dtype=torch.float32, recorded=weights, **SHAPE)
    rounded = {name: unpack(pack_int8(weight), weight.shape[0]) if weight.dim() == 2 else weight for name, weight in weights.items()}
    slow = build(exact.config, Weights(rounded.__getitem__), dtype=torch.float32, device=torch.device("cpu"))
    fast = tiny_model(dtype=torch.bfloat16, native=load_native(models_dir / ".native"), weight_dtype="int8", **SHAPE)
    assert isinstance(fast.head, PackedLinear) and KINDS[fast.head.matrix.records.shape[-1]] == "q8_0"
    expected = run(slow)[0]
    assert ((run(fast)[0] - expected).norm(dim=1) < 0.08 * expected.norm(dim=1)).all()


def test_weights_that_do_not_have_the_configured_shape_are_refused(models_dir: Path) -> None:
    weights: dict[str, Tensor] = {}
    config = tiny_model(recorded=weights, **SHAPE).config
    source = Weights({**weights, "model.embed_tokens.weight": torch.zeros(80, 64)}.__getitem__)
    with pytest.raises(UnsupportedModelError, match=r"embed_tokens.*\(97, 64\)"):
        build(config, source, dtype=torch.bfloat16, device=torch.device("cpu"), native=load_native(models_dir / ".native"))
