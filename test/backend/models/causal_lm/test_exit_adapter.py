"""An exit adapter: what it computes by hand, that a fresh one reads a layer as the model would, and that files come back as they were saved."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from gpu_backend.decoding.early_exit.drafter import AdapterDrafter, HeadDrafter
from gpu_backend.kernels.native import load_native
from gpu_backend.kernels.packing import pack_int4, unpack
from gpu_backend.layers.linear import Linear, can_pack
from gpu_backend.models.causal_lm.exit_adapter import CONFIG, ExitAdapter, ExitAdapterConfig, ExitPoint, calibrated
from gpu_backend.models.causal_lm.model import CausalLM
from support import tiny_model


def config_of(model: CausalLM, shortlist_size: int, **changes: Any) -> ExitAdapterConfig:
    sizes = {"exit_layer": 1, "inner_layers": (), "width": 32, "hidden_size": model.config.hidden_size, **changes}
    return ExitAdapterConfig(base="abc", shortlist_size=shortlist_size, rms_norm_eps=1e-5, **sizes)


def trained(model: CausalLM, shortlist: list[int], seed: int = 0, **changes: Any) -> ExitAdapter:
    """With random weights everywhere."""
    adapter = ExitAdapter(config_of(model, len(shortlist), **changes), torch.tensor(shortlist))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapter.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + 0.1 * noise if parameter.dim() == 1 or parameter is adapter.deep_norms else 0.2 * noise)
    return adapter


def rounded(adapter: ExitAdapter) -> ExitAdapter:
    """With the weights that the C operators multiply with."""
    copy = deepcopy(adapter)
    with torch.no_grad():
        for weight in (copy.fuse_deep, copy.mix, copy.gate_up, copy.down):
            weight.copy_(unpack(pack_int4(weight), len(weight)))
    return copy


def streams(num_rows: int, hidden_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random rows at an exit, and of what is known one position before."""
    x_KH, known_KH = torch.randn(2, num_rows, hidden_size, generator=torch.Generator().manual_seed(1)).unbind()
    return x_KH, known_KH


def test_the_block_by_hand() -> None:
    # x = (3, 4) and known = (4, 3): norms by sqrt(12.5) -> (0.8485, 1.1314) and (1.1314, 0.8485). Mixed: u = (0.8485 + 0.8485, 1.1314 + 1.1314).
    # n = u / 2 = (0.8485, 1.1314); gate 0.8485, up 1.1314; silu(0.8485) = 0.8485 * 0.7002 = 0.5942; times 1.1314 = 0.6722.
    adapter = ExitAdapter(
        ExitAdapterConfig(base="", exit_layer=1, inner_layers=(1,), hidden_size=2, width=1, shortlist_size=1, rms_norm_eps=0.0), torch.tensor([0])
    )
    with torch.no_grad():
        adapter.mix.copy_(torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.0, 1.0, 1.0, 0.0]]))
        adapter.gate_up.copy_(torch.eye(2))
        adapter.down.copy_(torch.tensor([[1.0], [0.0]]))
    z_KH = adapter(torch.tensor([[3.0, 4.0]]), torch.tensor([[4.0, 3.0]]))
    assert z_KH[0].tolist() == pytest.approx([2.3693, 2.2627], abs=2e-4)
    # Its root mean square is 2.3167.
    assert adapter.read(z_KH)[0].tolist() == pytest.approx([1.0227, 0.9767], abs=2e-4)


def test_what_is_known_by_hand() -> None:
    # An inner layer's (3, 4) and the last one's (4, 3), normed as above, the latter doubled: known = (0.8485 - 0.8485 * 2, 1.1314 + 1.1314 * 2).
    adapter = ExitAdapter(
        ExitAdapterConfig(base="", exit_layer=1, inner_layers=(1,), hidden_size=2, width=1, shortlist_size=1, rms_norm_eps=0.0), torch.tensor([0])
    )
    with torch.no_grad():
        adapter.deep_norms.copy_(torch.tensor([[1.0, 1.0], [2.0, 2.0]]))
        adapter.fuse_deep.copy_(torch.tensor([[1.0, 0.0, 0.0, -1.0], [0.0, 1.0, 1.0, 0.0]]))
    assert adapter.fuse(torch.tensor([[[3.0, 4.0], [4.0, 3.0]]]))[0].tolist() == pytest.approx([-0.8485, 3.3941], abs=2e-4)


def test_a_fresh_one_reads_the_layer_with_the_models_own_norm_and_head() -> None:
    model = tiny_model(num_hidden_layers=4)
    shortlist_S = torch.arange(model.config.vocab_size)
    adapter = ExitAdapter.fresh(config_of(model, len(shortlist_S)), shortlist_S, model.final_norm.weight, seed=0)
    x_KH, known_KH = streams(50, model.config.hidden_size)
    assert AdapterDrafter(model, adapter).draft(x_KH, known_KH).tokens == HeadDrafter(model, 1).draft(x_KH, known_KH).tokens


def test_guesses_are_the_best_of_the_shortlist() -> None:
    model = tiny_model(num_hidden_layers=4)
    adapter = trained(model, [40, 3, 77, 8])
    x_KH, known_KH = streams(20, model.config.hidden_size)
    z_KH = adapter(x_KH, known_KH)
    logits_KS = adapter.read(z_KH) @ model.head_rows(adapter.shortlist_S).T
    wanted = [[40, 3, 77, 8][index] for index in logits_KS.argmax(dim=-1).tolist()]
    guesses = AdapterDrafter(model, adapter).draft(x_KH, known_KH)
    assert guesses.tokens == wanted and len(set(wanted)) > 1
    assert torch.allclose(guesses.states_KH, z_KH, atol=1e-5)
    assert AdapterDrafter(model, adapter).draft(x_KH, torch.zeros_like(known_KH)).tokens != wanted


def test_the_chance_of_a_guess_is_how_often_guesses_of_its_probability_were_right() -> None:
    model = tiny_model(num_hidden_layers=4)
    adapter = trained(model, [40, 3, 77, 8])
    adapter.config = replace(adapter.config, calibration=tuple(tenth / 100 for tenth in range(10)))
    x_KH, known_KH = streams(20, model.config.hidden_size)
    probs_K = torch.softmax(adapter.read(adapter(x_KH, known_KH)) @ model.head_rows(adapter.shortlist_S).T, dim=-1).amax(dim=-1)
    assert AdapterDrafter(model, adapter).draft(x_KH, known_KH).chances == [int(prob * 10) / 100 for prob in probs_K.tolist()]
    assert calibrated(1.0, adapter.config.calibration) == calibrated(0.95, adapter.config.calibration) == 0.09


def test_with_the_c_operators_nearly_all_guesses_are_the_same(models_dir: Path) -> None:
    if not can_pack(torch.bfloat16, torch.device("cpu")):
        pytest.skip("this processor lacks the instructions")
    sizes = {"hidden_size": 64, "head_dim": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 96, "num_hidden_layers": 4}
    plain, fast = tiny_model(**sizes), tiny_model(dtype=torch.bfloat16, native=load_native(models_dir / ".native"), **sizes)
    adapter = trained(plain, list(range(0, 97, 2)))
    twin = AdapterDrafter(plain, rounded(adapter))
    head_SH = plain.head_rows(adapter.shortlist_S)
    twin._head = Linear(unpack(pack_int4(head_SH), len(head_SH)))
    slow, quick = (drafter.draft(*streams(200, 64)) for drafter in (twin, AdapterDrafter(fast, adapter)))
    assert quick.states_KH.dtype == torch.float32
    # The same rounded weights, and a base in bfloat16: only close calls may differ.
    assert sum(a == b for a, b in zip(slow.tokens, quick.tokens, strict=True)) >= 185


def test_one_call_of_c_gives_what_its_operators_give_one_by_one_and_each_row_alone(models_dir: Path) -> None:
    if not can_pack(torch.bfloat16, torch.device("cpu")):
        pytest.skip("this processor lacks the instructions")
    sizes = {"hidden_size": 64, "head_dim": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 96, "num_hidden_layers": 4}
    model = tiny_model(dtype=torch.bfloat16, native=load_native(models_dir / ".native"), **sizes)
    # 21 tokens: the last vector of logits is not full.
    adapter = trained(model, list(range(3, 87, 4)), inner_layers=(2, 3))
    fused, single = AdapterDrafter(model, adapter), AdapterDrafter(model, adapter)
    single._block = None
    x_KH, known_KH = streams(20, 64)
    (places_K, probs_K, states_KH), (other_places_K, other_probs_K, other_states_KH) = (each._guess(x_KH, known_KH) for each in (fused, single))
    assert torch.equal(places_K, other_places_K) and torch.equal(states_KH, other_states_KH)
    assert torch.allclose(probs_K, other_probs_K, rtol=1e-5)
    for row in range(20):
        alone = fused._guess(x_KH[row : row + 1], known_KH[row : row + 1])
        assert all(torch.equal(one[0], all_rows[row]) for one, all_rows in zip(alone, (places_K, probs_K, states_KH), strict=True))
    deep_KRH = torch.randn(20, 3, 64, generator=torch.Generator().manual_seed(2))
    fused_KH = fused.fuse(deep_KRH)
    assert torch.equal(fused_KH, single.fuse(deep_KRH)) and torch.equal(fused_KH[7:8], fused.fuse(deep_KRH[7:8]))
    assert torch.allclose(fused_KH, rounded(adapter).fuse(deep_KRH), atol=0.05, rtol=0.05)
    # A tie goes to the first, as everywhere.
    same = AdapterDrafter(model, trained(model, [7, 9, 9, 5]))
    tokens = set(same.draft(*streams(200, 64)).tokens)
    assert 9 in tokens and set(same._guess(*streams(200, 64))[0].tolist()) <= {0, 1, 3}


def test_files_come_back(tmp_path: Path) -> None:
    adapter = trained(tiny_model(), [5, 6, 7])
    adapter.save(tmp_path, torch.float32)
    loaded = ExitAdapter.load(tmp_path)
    assert loaded.config == adapter.config and loaded.shortlist_S.tolist() == [5, 6, 7]
    assert torch.equal(loaded(*streams(4, 32)), adapter(*streams(4, 32)))
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_what_is_no_exit_adapter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=CONFIG):
        ExitAdapter.load(tmp_path)
    adapter = trained(tiny_model(), [5, 6, 7])
    adapter.save(tmp_path)
    (tmp_path / CONFIG).write_text('{"base": "x"}')
    with pytest.raises(ValueError, match="does not hold an exit adapter"):
        ExitAdapter.load(tmp_path)
    adapter.config = replace(adapter.config, calibration=(0.5, 0.6))
    adapter.save(tmp_path)
    with pytest.raises(ValueError, match="calibration has 2 shares, not 10"):
        ExitAdapter.load(tmp_path)
    adapter.config = replace(
        adapter.config, calibration=(0.5,) * 10, points=(ExitPoint(max_risk=0.01, least_prob=0.5), ExitPoint(max_risk=0.02, least_prob=0.6))
    )
    adapter.save(tmp_path)
    with pytest.raises(ValueError, match="a bolder point has a lower threshold"):
        ExitAdapter.load(tmp_path)
    with pytest.raises(ValueError, match=r"has \(3,\) tokens, its configuration says 2"):
        ExitAdapter(config_of(tiny_model(), 2), torch.tensor([1, 2, 3]))


@pytest.mark.parametrize("changes", [{"exit_layer": 3}, {"exit_layer": 0}, {"inner_layers": (1,)}, {"inner_layers": (3,)}, {"hidden_size": 64}])
def test_an_adapter_of_another_shape_drafts_nothing(changes: dict[str, Any]) -> None:
    model = tiny_model()
    adapter = ExitAdapter(config_of(model, 1, **changes), torch.tensor([1]))
    with pytest.raises(ValueError, match="which this model does not have"):
        AdapterDrafter(model, adapter)


def test_head_rows_are_what_logits_are_made_of() -> None:
    for tied in (True, False):
        model = tiny_model(tie_word_embeddings=tied)
        x_KH = torch.randn(3, model.config.hidden_size)
        rows_SH = model.head_rows(torch.tensor([4, 9]))
        assert torch.allclose(model.final_norm(x_KH) @ rows_SH.T, model.compute_logits(x_KH)[:, [4, 9]], atol=1e-5)
