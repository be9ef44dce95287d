"""Costs in layer units, against the worked numbers of SmolLM2-135M (30 layers, a head that costs 8) and of a model of Llama 2's size."""

from __future__ import annotations

import pytest

from gpu_backend.decoding.early_exit.draft_length import expected_tokens
from gpu_backend.evals.early_exit.analyse import cost_models
from gpu_backend.evals.early_exit.cost import CostModel
from gpu_backend.models.causal_lm.config import parse_config
from support import TINY

SMALL = CostModel(num_layers=30, head=8.0, gate_head=8.0)


def test_the_heads_share_of_a_small_model() -> None:
    smollm2 = {"hidden_size": 576, "intermediate_size": 1536, "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152, "num_hidden_layers": 30}
    cost = cost_models(parse_config({**TINY, **smollm2}))
    assert cost["max_prob"].head == pytest.approx(8.0, abs=0.01)
    assert cost["max_prob"].full == pytest.approx(38.0, abs=0.01)
    assert cost["max_prob"].gate_head == cost["max_prob"].head
    assert cost["cosine"].gate_head == 0.0


def test_gates_at_one_and_at_every_layer() -> None:
    # All tokens leave at layer 15: one check costs 15 + 8; fifteen cost 15 + 15 * 8 = 135, which is slower than full depth.
    assert SMALL.gated({15: 1.0}) == 23.0
    assert SMALL.gated_speed_up({15: 1.0}) == pytest.approx(1.652, abs=1e-3)
    assert SMALL.gated({**dict.fromkeys(range(1, 15), 0.0), 15: 1.0}) == 135.0
    assert SMALL.gated_speed_up({10: 0.0, 20: 1.0}) == pytest.approx(1.0556, abs=1e-3)


def test_a_check_that_lets_nobody_leave_only_costs() -> None:
    assert SMALL.gated({15: 0.0}) == 46.0
    assert SMALL.gated({}) == SMALL.full


def test_half_of_the_tokens_leave() -> None:
    # 15 + 8 for all; the other half goes on: 15 more layers and the head.
    assert SMALL.gated({15: 0.5}) == 23 + 0.5 * 23
    # A cosine calls no head, so who leaves needs one.
    assert CostModel(30, 8.0, 0.0).gated({15: 0.5}) == 15 + 0.5 * 8 + 0.5 * 23


def test_expected_tokens_by_hand() -> None:
    found = [expected_tokens(acceptance, num) for acceptance, num in ((0.7, 3), (0.9, 5), (0.5, 4))]
    assert found == pytest.approx([2.533, 4.68559, 1.9375], abs=1e-5)


def test_lossless_by_hand() -> None:
    # (K + 1) E + K r + (L - E) + r = 28 + 24 + 23 + 8 = 83 for 2.533 tokens, against 38 for one.
    assert SMALL.full / SMALL.lossless(0.7, 3, 7, 8.0) == pytest.approx(1.16, abs=5e-3)
    assert SMALL.full / SMALL.lossless(0.9, 3, 7, 8.0) == pytest.approx(1.574, abs=5e-3)
    large = CostModel(num_layers=32, head=0.65, gate_head=0.65)
    assert large.full / large.lossless(0.9, 5, 8, 0.65) == pytest.approx(2.016, abs=5e-3)


def test_the_best_number_of_drafts() -> None:
    speed_up, num_drafts = SMALL.best_lossless(0.7, 7, 8.0)
    assert speed_up == max(SMALL.full / SMALL.lossless(0.7, count, 7, 8.0) for count in range(1, 9))
    assert speed_up == SMALL.full / SMALL.lossless(0.7, num_drafts, 7, 8.0)
    assert SMALL.best_lossless(0.05, 20, 8.0) == (1.0, 0)
