"""Intervals, calibration and the fitted temperature, against hand arithmetic and known answers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gpu_backend.evals.statistics import (
    bootstrap_interval,
    calibration_error,
    calibration_error_by_chance,
    fit_temperature,
    log_losses,
    probabilities,
    reliability_bins,
    rightness,
    wilson_interval,
)


def test_wilson_by_hand() -> None:
    # 8 of 10: centre (0.8 + 0.19207) / 1.38415, half 1.95996 / 1.38415 * sqrt(0.016 + 0.0096036).
    assert wilson_interval(8, 10) == pytest.approx((0.4901625, 0.9433178), abs=1e-6)
    assert wilson_interval(0, 10)[0] == 0.0 and wilson_interval(10, 10)[1] == pytest.approx(1.0)
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_the_score_of_two_orders() -> None:
    # Both passes say sigma(2); then the example of a bias of 1.3 on a margin of 0.8.
    found = probabilities(np.array([[2.0, 2.0], [0.8 + 1.3, 0.8 - 1.3]]), 1.0)
    assert found.tolist() == pytest.approx([0.8807970780, 0.634], abs=5e-4)
    assert probabilities(np.array([[2.0, 2.0]]), 2.0)[0] == pytest.approx(1 / (1 + math.exp(-1)))


def test_log_loss_is_of_the_averaged_probability_and_survives_great_margins() -> None:
    margins = np.array([[2.0, -1.0], [0.0, 0.0]])
    assert log_losses(margins, 1.0).tolist() == pytest.approx([-math.log(probabilities(margins, 1.0)[0]), math.log(2)])
    assert log_losses(np.array([[-5000.0, -5000.0]]), 1.0)[0] == pytest.approx(5000, rel=1e-3)


@pytest.mark.parametrize("true_temperature", [0.5, 1.0, 4.0])
def test_the_fitted_temperature_is_the_one_that_made_the_labels(true_temperature: float) -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 3, 40_000)
    is_first = generator.random(40_000) < 1 / (1 + np.exp(-logits / true_temperature))
    margins = np.where(is_first, logits, -logits)[:, None].repeat(2, axis=1)
    assert fit_temperature(margins) == pytest.approx(true_temperature, rel=0.06)


def test_the_fitted_temperature_has_the_smallest_log_loss() -> None:
    margins = np.random.default_rng(1).normal(0.4, 2, (300, 2))
    best = fit_temperature(margins)
    assert all(log_losses(margins, best).mean() <= log_losses(margins, best * factor).mean() for factor in (0.9, 0.99, 1.01, 1.1))


def test_ties_are_worth_half() -> None:
    assert rightness(np.array([2.0, -0.1, 0.0])).tolist() == [1.0, 0.0, 0.5]


def test_calibration_error_by_hand() -> None:
    # Ten bins of two: half of the pairs confident at 0.8 and all right, half at 0.6 and one of two right in each bin.
    sure, unsure = np.full(10, 0.8), np.array([0.6, 0.4] * 5)
    found = np.concatenate((sure, unsure))
    assert [num for _, _, num in reliability_bins(found)] == [2] * 10
    assert calibration_error(found) == pytest.approx((0.2 + 0.1) / 2)


def test_right_probabilities_still_show_an_error_on_few_pairs() -> None:
    generator = np.random.default_rng(0)
    few, many = generator.uniform(0.5, 1, 100), generator.uniform(0.5, 1, 20_000)
    assert calibration_error_by_chance(few, 0) > 0.05 > 0.01 > calibration_error_by_chance(many, 0)


def test_the_bootstrap_agrees_with_the_standard_error_and_resamples_groups_whole() -> None:
    values = np.random.default_rng(0).normal(1.0, 1.0, 400)
    alone = bootstrap_interval(values, [str(number) for number in range(400)], 0)
    half = 1.96 * values.std() / 20
    assert alone == pytest.approx((values.mean() - half, values.mean() + half), abs=0.02)
    assert alone == bootstrap_interval(values, [str(number) for number in range(400)], 0)
    # Every value four times, in one group: four times the pairs are no more evidence.
    grouped = bootstrap_interval(values.repeat(4), [str(number) for number in range(400) for _ in range(4)], 0)
    assert grouped == pytest.approx(alone, abs=1e-9)
