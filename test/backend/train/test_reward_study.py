"""The study of the reward recipe's parts: its measures on a tiny model, and its table by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

pytest.importorskip("peft", reason="tests of training need peft and accelerate: requirements/test.txt")

from gpu_backend.recipes import reward_study
from gpu_backend.recipes.reward_study import Measures, difference, known_or, measure, measure_scalar, table_of
from gpu_backend.train.train_reward import RewardTraining, train_reward
from train_support import LABELS, easy_rows, tiny_lora, write_base


def test_measures_before_and_after_learning(tmp_path: Path) -> None:
    model, rows = tiny_lora(write_base(tmp_path / "base")), easy_rows(40, seed=1)
    before = measure(model, rows, LABELS)
    train_reward(model, easy_rows(120), LABELS, RewardTraining(learning_rate=5e-3, rows_per_step=8, num_epochs=3), tmp_path / "run")
    after = measure(model, rows, LABELS)
    assert after.accuracy > 0.9 > before.accuracy
    assert after.log_loss < before.log_loss and after.consistency >= before.consistency


def test_measures_of_a_scalar_head_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reward_study, "scalar_margins", lambda _model, _rows: torch.tensor([1.0, -1.0, 2.0]))
    found = measure_scalar(None, [])  # type: ignore[arg-type]
    # log(1 + exp(-1)) = 0.3133, log(1 + exp(1)) = 1.3133, log(1 + exp(-2)) = 0.1269.
    assert (found.accuracy, found.consistency, found.log_loss) == (pytest.approx(2 / 3), 1.0, pytest.approx(0.5845, abs=1e-4))


def test_a_run_that_was_measured_is_not_run_again(tmp_path: Path) -> None:
    runs: list[Path] = []

    def run(folder: Path) -> dict[str, Measures]:
        runs.append(folder)
        return {"made": Measures(accuracy=0.7, consistency=0.5, log_loss=0.6)}

    assert known_or(run, tmp_path) == known_or(run, tmp_path) == {"made": Measures(accuracy=0.7, consistency=0.5, log_loss=0.6)}
    assert runs == [tmp_path]


def test_a_difference_by_hand() -> None:
    # Differences 0.1, 0.2, 0.3: mean 0.2, standard deviation 0.1, half width 4.303 * 0.1 / sqrt(3).
    half = 4.303 * 0.1 / math.sqrt(3)
    assert difference([1.1, 1.2, 1.3], [1.0, 1.0, 1.0]) == f"+0.200 [{0.2 - half:+.3f}, {0.2 + half:+.3f}]"


def test_the_table_compares_seed_by_seed() -> None:
    def measures(*accuracies: float) -> list[Measures]:
        return [Measures(accuracy=value, consistency=0.5, log_loss=0.6) for value in accuracies]

    lines = table_of({"made": {"as shipped": measures(0.7, 0.8, 0.9), "no stage 1": measures(0.6, 0.7, 0.8)}}).splitlines()
    assert lines[2] == "| made | as shipped | 0.800 | 0.500 | 0.600 |  |  |"
    assert lines[3] == "| made | no stage 1 | 0.700 | 0.500 | 0.600 | -0.100 [-0.100, -0.100] | +0.000 [+0.000, +0.000] |"
