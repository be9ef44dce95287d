"""Costs of a round on this machine: of every part at every size, and never less for more rows."""

from __future__ import annotations

from gpu_backend.decoding.early_exit.drafter import HeadDrafter
from gpu_backend.engine.pass_costs import measure_round_costs
from support import tiny_model


def test_every_part_is_timed_at_every_size() -> None:
    model = tiny_model(num_hidden_layers=4)
    costs = measure_round_costs(model, HeadDrafter(model, 2), num_rounds=2)
    for part in (costs.lower, costs.draft, costs.upper):
        assert [rows for rows, _ in part.points] == [1, 2, 4, 8, 16]
        times = [ms for _, ms in part.points]
        assert times[0] > 0 and times == sorted(times)
