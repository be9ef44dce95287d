"""Layers in one call of the C operators compute bit for bit what they compute one operator at a time, and nearly what torch computes."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gpu_backend.adapters.peft_weights import parse_adapter
from gpu_backend.kernels.build import is_supported
from gpu_backend.kernels.native import load_native
from gpu_backend.kernels.packing import KINDS, pack_int8, unpack
from gpu_backend.layers.batch import ForwardBatch, PromptSpan
from gpu_backend.layers.linear import PackedLinear
from gpu_backend.layers.lora import BatchAdapters, batch_adapters
from gpu_backend.models.causal_lm.config import CausalLMConfig, UnsupportedModelError
from gpu_backend.models.causal_lm.model import CausalLM
from gpu_backend.models.causal_lm.weights import build
from lora_support import ALL, content_of, tensors_of
from support import Weights, tiny_model

pytestmark = pytest.mark.skipif(not is_supported(), reason="this processor lacks the instructions that the C operators are written for")
SHAPE: dict[str, Any] = {"hidden_size": 64, "head_dim": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 96}
CPU = torch.device("cpu")
FAMILIES = ["llama", "qwen2", "qwen3"]


def model(models_dir: Path, family: str) -> CausalLM:
    native = load_native(models_dir / ".native")
    assert native is not None
    built = tiny_model(dtype=torch.bfloat16, native=native, model_type=family, **SHAPE)
    assert built.fused is not None
    return built


def batch(adapters: BatchAdapters | None = None) -> ForwardBatch:
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
        adapters=adapters,
    )


def adapters(config: CausalLMConfig, *, is_packed: bool) -> BatchAdapters:
    """Row 0 has one that reaches everywhere, with another rank at each of some places; row 1 none; the prompt's rows another, of some places only."""
    ranks = {**dict.fromkeys(ALL, 16), "k_proj": 3, "gate_proj": 40, "o_proj": 1}
    tensors = {name: tensor for at, part in enumerate(ALL) for name, tensor in tensors_of(config, seed=at, rank=ranks[part], names=(part,), size=0.1).items()}
    wide = content_of(tensors, r=16, rank_pattern={part: rank for part, rank in ranks.items() if rank != 16})
    narrow = content_of(tensors_of(config, seed=9, rank=5, names=("v_proj", "up_proj", "down_proj"), layers=(0, 2)), r=5)
    one, other = (parse_adapter(content, config, CPU, is_packed=is_packed) for content in (wide, narrow))
    return batch_adapters({one: [0], other: range(2, 9)}, 9, CPU)


def run(built: CausalLM, cuts: tuple[int, ...] = (), adapters: BatchAdapters | None = None) -> tuple[Tensor, list[Tensor]]:
    """-> hidden states, and what the cache then holds."""
    cache = built.new_cache(num_blocks=9, block_size=4)
    generator = torch.Generator().manual_seed(5)
    for pool in cache.layers:
        pool.copy_(torch.randn(pool.shape, generator=generator))
    x = built.embed(batch().token_ids_N)
    edges = [0, *cuts, built.config.num_layers]
    for start, stop in pairwise(edges):
        x = built.run_layers(x, start, stop, cache, batch(adapters))
    return x, cache.layers


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("has_adapters", [False, True])
def test_fused_is_bit_for_bit_one_operator_at_a_time(models_dir: Path, family: str, has_adapters: bool) -> None:
    built = model(models_dir, family)
    chosen = adapters(built.config, is_packed=True) if has_adapters else None
    fused, fused_cache = run(built, adapters=chosen)
    in_parts, _ = run(built, cuts=(1, 2), adapters=chosen)
    built.fused = None
    single, single_cache = run(built, adapters=chosen)
    assert torch.equal(fused, single) and torch.equal(in_parts, single)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(fused_cache, single_cache, strict=True))


@pytest.mark.parametrize("family", FAMILIES)
def test_fused_is_close_to_torch(models_dir: Path, family: str) -> None:
    fused, _ = run(model(models_dir, family))
    exact, _ = run(tiny_model(dtype=torch.float32, model_type=family, **SHAPE))
    # Weights and activations rounded to bfloat16, through three layers of random weights.
    assert ((fused - exact).norm(dim=1) < 0.08 * exact.norm(dim=1)).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_adapters_in_bfloat16_add_little_to_the_error(models_dir: Path, family: str) -> None:
    """Against the torch twin, whose weights, adapters and activations are all float32."""
    fast, slow = model(models_dir, family), tiny_model(dtype=torch.float32, model_type=family, **SHAPE)
    errors = []
    for ours, theirs in ((None, None), (adapters(fast.config, is_packed=True), adapters(slow.config, is_packed=False))):
        exact = run(slow, adapters=theirs)[0]
        errors.append((run(fast, adapters=ours)[0] - exact).norm() / exact.norm())
    assert errors[1] < 1.5 * errors[0] < 0.08


def test_adapters_change_their_rows_and_no_other(models_dir: Path) -> None:
    built = model(models_dir, "llama")
    with_adapters, without = run(built, adapters=adapters(built.config, is_packed=True))[0], run(built)[0]
    assert torch.equal(with_adapters[1], without[1])
    changed = (with_adapters - without).norm(dim=1) > 0.2 * without.norm(dim=1)
    assert changed.tolist() == [True, False, *[True] * 7], "else the other tests would not see the adapters"


def test_the_residual_stream_that_goes_in_is_left_as_it_was(models_dir: Path) -> None:
    built = model(models_dir, "llama")
    x = built.embed(batch().token_ids_N)
    before = x.clone()
    built.run_layers(x, 0, 1, built.new_cache(num_blocks=9, block_size=4), batch())
    assert torch.equal(x, before)


def test_what_is_noted_on_the_way_is_what_the_parts_give(models_dir: Path) -> None:
    built = model(models_dir, "llama")
    x = built.embed(batch().token_ids_N)

    def noted(layers: tuple[int, ...]) -> Tensor:
        return built.run_layers_noting(x, 0, layers, built.new_cache(num_blocks=9, block_size=4), batch())

    fused = noted((1, 3))
    assert fused.shape == (9, 2, x.shape[1]) and torch.equal(noted((3,))[:, 0], fused[:, 1])
    built.fused = None
    assert torch.equal(fused, noted((1, 3)))
    cache = built.new_cache(num_blocks=9, block_size=4)
    assert torch.equal(fused[:, 0], built.run_layers(x, 0, 1, cache, batch()))


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
