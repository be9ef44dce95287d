"""P-values against hand arithmetic, and the guarantee itself: a threshold of too high a risk is rarely chosen."""

from __future__ import annotations

import numpy as np
import pytest

from gpu_backend.evals.early_exit.learn_then_test import fixed_sequence, hoeffding_bentkus


def test_no_loss_at_all() -> None:
    # Both bounds are powers of 1 - level; Bentkus' has the factor e.
    assert hoeffding_bentkus(0.0, 100, 0.05) == pytest.approx(0.95**100)


def test_the_p_value_by_hand() -> None:
    # n = 10, mean 0.1, level 0.5: h = 0.1 ln 0.2 + 0.9 ln 1.8 = 0.368064, exp(-3.68064) = 0.025207; e P(Bin(10, 1/2) <= 1) = e * 11 / 1024 = 0.029200.
    assert hoeffding_bentkus(0.1, 10, 0.5) == pytest.approx(0.025207, abs=1e-5)


def test_a_mean_at_or_above_the_level_shows_nothing() -> None:
    assert hoeffding_bentkus(0.05, 1000, 0.05) == 1.0
    assert hoeffding_bentkus(1.0, 5, 0.3) == 1.0


def test_the_sequence_ends_at_the_first_failure() -> None:
    fine, bad = np.zeros(200), np.full(200, 0.5)
    assert fixed_sequence([(0.9, fine), (0.8, fine), (0.7, bad), (0.6, fine)], 0.05, 0.05) == 0.8
    assert fixed_sequence([(0.9, bad), (0.8, fine)], 0.05, 0.05) is None
    assert fixed_sequence([], 0.05, 0.05) is None


def test_of_several_risks_all_must_hold() -> None:
    fine, bad = np.zeros(200), np.full(200, 0.5)
    assert fixed_sequence([(0.9, np.stack((fine, fine))), (0.8, np.stack((fine, bad)))], 0.05, 0.05) == 0.9
    assert fixed_sequence([(0.9, np.stack((bad, fine)))], 0.05, 0.05) is None


def test_few_texts_show_nothing_however_good_they_are() -> None:
    assert fixed_sequence([(0.9, np.zeros(20))], 0.05, 0.05) is None
    assert fixed_sequence([(0.9, np.zeros(60))], 0.05, 0.05) == 0.9


@pytest.mark.parametrize("level", [0.02, 0.2])
def test_a_risk_at_the_level_is_chosen_in_at_most_delta_of_all_draws(level: float) -> None:
    generator = np.random.default_rng(0)
    chosen = [fixed_sequence([(0.5, (generator.random(300) < level).astype(float))], level, 0.1) is not None for _ in range(400)]
    # 10 % are allowed; 400 draws of exactly 10 % would exceed 14 % once in two hundred times.
    assert np.mean(chosen) <= 0.14
