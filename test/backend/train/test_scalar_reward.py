"""The scalar rival on a tiny random model: it learns, and what was saved reads the same."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

pytest.importorskip("peft", reason="tests of training need peft and accelerate: requirements/test.txt")

import torch

from gpu_backend.data.scalar_rows import ScalarRow
from gpu_backend.train.loop import Training
from gpu_backend.train.scalar_model import ScalarModel
from gpu_backend.train.train_scalar_reward import scalar_margins, train_scalar_reward
from train_support import losses, tiny_lora, write_base


def test_it_learns_from_ln_2_and_reads_back_the_same(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    rows = [ScalarRow((30 + number, 10, 4), (30 + number, 20, 21, 4)) for number in range(16)]
    model = ScalarModel(tiny_lora(base))
    assert scalar_margins(model, rows).abs().max() == 0
    train_scalar_reward(model, rows, Training(learning_rate=1e-2, rows_per_step=16, num_epochs=20), tmp_path / "run")
    found = losses(tmp_path / "run")
    assert found[0] == pytest.approx(math.log(2), abs=1e-6) and found[-1] < 0.1
    margins = scalar_margins(model, rows)
    assert (margins > 0).all()
    torch.testing.assert_close(scalar_margins(model, rows, rows_per_microbatch=1), margins, atol=1e-5, rtol=0)
    model.save(tmp_path / "scalar")
    torch.testing.assert_close(scalar_margins(ScalarModel.load(base, tmp_path / "scalar", torch.float32), rows), margins, atol=1e-5, rtol=0)
