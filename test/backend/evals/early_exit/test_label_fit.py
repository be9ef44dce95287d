"""Label exits fitted to made readings: the direction is found, thresholds keep their risk, losses and confidence by hand; and readings of a real engine."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from slow_decoder import slow_decoder

from gpu_backend.config import EngineConfig, JudgeSpec
from gpu_backend.data.preference_pairs import PreferencePair
from gpu_backend.engine.local_engine import engine_around
from gpu_backend.evals.early_exit.judge import depth_rows
from gpu_backend.evals.early_exit.label_fit import Reading, calibrate, choose_layer, fit_confidence, fit_reading, gated
from gpu_backend.evals.early_exit.label_readings import LabelReadings, read_labels
from gpu_backend.evals.engine_judge import judge_pairs
from gpu_backend.evals.statistics import Array, sigmoid
from gpu_backend.models.reward.judge import Judge
from support import byte_tokenizer, tiny_model

WIDTH = 8
DIRECTION = np.random.default_rng(7).normal(size=WIDTH)


def made(num_pairs: int, seed: int, noise_by_layer: dict[int, float]) -> LabelReadings:
    """At each layer full depth's difference is a linear function of the state, but for noise."""
    generator = np.random.default_rng(seed)
    states_NLH, difference = [], None
    x_NH = generator.normal(size=(2 * num_pairs, WIDTH)) * np.arange(1, WIDTH + 1) + 3
    difference = x_NH @ DIRECTION + 0.5
    for noise in noise_by_layer.values():
        states_NLH.append(x_NH + noise * generator.normal(size=x_NH.shape))
    return LabelReadings(tuple(noise_by_layer), np.stack(states_NLH, axis=1).astype(np.float32), difference)


def test_the_direction_is_found() -> None:
    reading = fit_reading(made(2000, 0, {5: 0.0}), 5)
    assert reading.direction_H == pytest.approx(DIRECTION, abs=0.02)
    assert reading.of(made(50, 1, {5: 0.0})) == pytest.approx(made(50, 1, {5: 0.0}).differences_N, abs=1.0)


def test_losses_by_hand() -> None:
    # Four pairs of two orders at a temperature of 1. The first leaves in both orders with other signs; the second in one, which turns the mean as well; the
    # third in one, whose own verdict turns, but not the mean; the fourth does not leave.
    full = np.array([1.0, -1.0, 0.2, -0.1, 0.1, -3.0, 0.5, -0.5])
    read = np.array([-2.0, 2.0, -2.0, 0.0, -2.0, 0.0, 0.1, 0.1])
    outcome = gated(read, full, threshold=1.0, temperature=1.0)
    assert outcome.leaves_N.tolist() == [1, 1, 1, 0, 1, 0, 0, 0]
    assert outcome.losses_2P.tolist() == [[1, 1, 0, 0], [1.0, 0.5, 0.5, 0.0]]

    def sigma(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    moved = [2 * (sigma(2) - 0.5) + sigma(1) - sigma(2), (sigma(0.2) - sigma(-2)) / 2, (sigma(0.1) - sigma(-2)) / 2, 0]
    assert outcome.moved_P.tolist() == pytest.approx(moved)


def test_a_layer_that_knows_more_is_chosen_unless_it_comes_too_late() -> None:
    noise = {5: 20.0, 6: 0.5, 9: 0.1}
    layer, saved = choose_layer(made(500, 0, noise), made(200, 1, noise), 10, 1.0)
    assert layer == 6 and saved[5] < saved[9] < saved[6]


def test_thresholds_keep_their_risk_on_new_pairs() -> None:
    noise = {5: 0.7}
    fitted_on, calibration, test = (made(num, seed, noise) for num, seed in ((500, 0), (600, 1), (4000, 2)))
    reading = fit_reading(fitted_on, 5)
    thresholds = calibrate(reading, reading.thresholds(fitted_on), calibration, 1.0)
    assert list(thresholds) == [0.01, 0.02, 0.05]
    assert sorted(thresholds.values(), reverse=True) == list(thresholds.values())
    for level, threshold in thresholds.items():
        outcome = gated(reading.of(test), test.differences_N, threshold, 1.0)
        assert outcome.leaves_N.mean() > 0.1
        assert outcome.losses_2P.mean(axis=1).max() < level
    rows = depth_rows("made", test, reading, thresholds, 10, 1.0)
    assert [row.level for row in rows] == [0.01, 0.02, 0.05] and all(row.layers_saved == pytest.approx(row.early_share / 2) for row in rows)


def test_few_pairs_allow_no_small_risk() -> None:
    readings = made(100, 0, {5: 0.0})
    reading = fit_reading(readings, 5)
    assert list(calibrate(reading, reading.thresholds(readings), readings, 1.0)) == [0.05]


def test_confidence_is_how_often_signs_agree() -> None:
    generator = np.random.default_rng(0)
    read = generator.normal(size=20_000) * 3
    chance: Array = sigmoid(0.8 * np.abs(read) + 0.3)
    truth = np.where(generator.random(len(read)) < chance, np.sign(read), -np.sign(read))
    assert fit_confidence(read, truth) == pytest.approx((0.8, 0.3), abs=0.06)


def test_confidence_without_a_single_error_is_finite() -> None:
    slope, intercept = fit_confidence(np.array([1.0, -2.0, 3.0]), np.array([1.0, -1.0, 1.0]))
    assert math.isfinite(slope) and math.isfinite(intercept) and slope >= 0


def test_readings_are_those_of_the_engine() -> None:
    weights: dict[str, torch.Tensor] = {}
    model = tiny_model(recorded=weights, vocab_size=258)
    tokenizer = byte_tokenizer()
    judge = Judge("{{ question[0].content }}{{ a }}{{ b }}", tokenizer, JudgeSpec(template="t", sha256="", max_tokens=128))
    engine = engine_around(model, tokenizer, None, EngineConfig(dtype="float32", device="cpu", kv_cache_tokens=2048))
    pairs = [PreferencePair((("user", "q?"),), f"a{number}", "b!", "all") for number in range(3)]
    readings = read_labels(engine, model, judge, None, pairs, (1, 2), lambda *_: None)
    margins = judge_pairs(engine, judge, None, pairs, lambda *_: None).margins_P2
    assert readings.differences_N.reshape(-1, 2) * [1, -1] == pytest.approx(margins, abs=1e-5)
    states = slow_decoder(weights, judge.encode(pairs[1].messages, "b!", "a1"))[0]
    for layer in (1, 2):
        assert readings.at(layer)[3] == pytest.approx(states[layer][-1].numpy(), abs=1e-4)
    assert Reading(1, np.ones(32), 2.0).of(readings.part(1, 2)) == pytest.approx(readings.at(1)[2:4].sum(axis=1) + 2, abs=1e-3)
