"""Costs of a round on this machine: of every part at every size, and never less for more rows."""

from __future__ import annotations

import time
from typing import Any

import torch

from gpu_backend.decoding.early_exit.draft_length import DraftRule
from gpu_backend.decoding.early_exit.drafter import Drafted, HeadDrafter
from gpu_backend.engine.pass_costs import measure_round_costs
from support import tiny_model


def test_every_part_is_timed_at_every_size() -> None:
    model = tiny_model(num_hidden_layers=4)
    costs = measure_round_costs(model, HeadDrafter(model, 2), num_rounds=2)
    for part in (costs.lower, costs.draft, costs.upper):
        assert [rows for rows, _ in part.points] == [1, 2, 4, 8, 16]
        times = [ms for _, ms in part.points]
        assert times[0] > 0 and times == sorted(times)


def test_drafts_in_one_call_cost_what_that_call_takes() -> None:
    """2 ms for the lower layers and 3 ms for each guess, before and after each of which they run."""
    model = tiny_model(num_hidden_layers=4)
    drafter = HeadDrafter(model, 2)

    def draft_alone(token: int, deep_RH: torch.Tensor, rule: DraftRule, least_to_stand: float, cache: Any, rows: Any) -> Drafted:
        assert len(rows.token_ids_N) == rule.most + 1 and rows.positions_N.tolist() == [64 + index for index in range(rule.most + 1)]
        time.sleep(0.002 + rule.most * (0.003 + 0.002))
        return Drafted([token], [], [], deep_RH, rule.most)

    drafter.draft_alone = draft_alone
    costs = measure_round_costs(model, drafter, num_rounds=3)
    assert 2 <= costs.lower.of(1) < 4 and 2 < costs.draft.of(1) < 6
