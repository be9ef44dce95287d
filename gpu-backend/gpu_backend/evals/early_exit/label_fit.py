"""Fits a label exit to a judge's readings: the direction, the layer, operating points with a guarantee, and how sure a reading is.

A gate is wrong where it changes a verdict. A pair is asked about in both orders, whose probabilities are averaged, or in one: each is a risk of its own, and
an operating point keeps both. Shapes: P pairs, N = 2 P prompts (both orders of a pair, one after the other), H hidden size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from gpu_backend.evals.early_exit.label_readings import LabelReadings
from gpu_backend.evals.early_exit.learn_then_test import fixed_sequence
from gpu_backend.evals.statistics import Array, sigmoid

LEVELS = (0.01, 0.02, 0.05)
DELTA = 0.05
# Shares of the prompts that leave, from the safest threshold to the boldest: which thresholds are tried is decided without the data that test them.
_SHARES = np.arange(1, 51) / 50
_PENALTY = 30.0
# A layer is chosen a little below the level, so that other pairs are likely to confirm its threshold.
_MARGIN = 0.7


@dataclass(frozen=True, slots=True)
class Reading:
    """`direction_H` · x + `bias` is the difference of the labels' logits, as far as the layer knows it."""

    layer: int
    direction_H: Array
    bias: float

    def of(self, readings: LabelReadings) -> Array:
        """(N,)."""
        result: Array = readings.at(self.layer) @ self.direction_H + self.bias
        return result

    def thresholds(self, readings: LabelReadings) -> list[float]:
        thresholds: list[float] = np.quantile(np.abs(self.of(readings)), 1 - _SHARES).tolist()
        return thresholds


@dataclass(frozen=True, slots=True)
class Gated:
    """What a threshold does: who leaves, and what each pair loses by it. The first kind of loss is another verdict of both orders together, the second the
    share of its orders that alone give another one."""

    leaves_N: Array
    losses_2P: Array
    moved_P: Array


def fit_reading(readings: LabelReadings, layer: int) -> Reading:
    """Ridge regression of full depth's difference on the standardised state."""
    x_NH, target_N = readings.at(layer), readings.differences_N
    mean_H, scale_H = x_NH.mean(axis=0), x_NH.std(axis=0) + 1e-9
    z_NH = (x_NH - mean_H) / scale_H
    centre = float(target_N.mean())
    weights_H = np.linalg.solve(z_NH.T @ z_NH + _PENALTY * np.eye(z_NH.shape[1]), z_NH.T @ (target_N - centre)) / scale_H
    return Reading(layer, weights_H, centre - float(mean_H @ weights_H))


def gated(read_N: Array, differences_N: Array, threshold: float, temperature: float) -> Gated:
    """`moved_P` is how far the probability of a pair moves. A difference of exactly 0 has no verdict that could change."""
    leaves_N = np.abs(read_N) >= threshold
    taken_N = np.where(leaves_N, read_N, differences_N)
    both_P, full_P = _probability(taken_N, temperature), _probability(differences_N, temperature)
    alone_N = np.sign(taken_N) != np.sign(differences_N)
    losses_2P = np.stack((np.sign(both_P - 0.5) != np.sign(full_P - 0.5), alone_N.reshape(-1, 2).mean(axis=1))).astype(np.float64)
    return Gated(leaves_N.astype(np.float64), losses_2P, np.abs(both_P - full_P))


def choose_layer(fitted_on: LabelReadings, held_out: LabelReadings, num_layers: int, temperature: float) -> tuple[int, dict[int, float]]:
    """The layer that saves the largest share of all layers, in the mean over the levels of risk; and this share by layer."""
    saved: dict[int, float] = {}
    for layer in fitted_on.layers:
        reading = fit_reading(fitted_on, layer)
        read_N = reading.of(held_out)
        outcomes = [gated(read_N, held_out.differences_N, threshold, temperature) for threshold in reading.thresholds(fitted_on)]
        shares = []
        for level in LEVELS:
            share = 0.0
            for outcome in outcomes:
                if outcome.losses_2P.mean(axis=1).max() > _MARGIN * level:
                    break
                share = float(outcome.leaves_N.mean())
            shares.append(share)
        saved[layer] = float(np.mean(shares)) * (num_layers - layer) / num_layers
    return max(saved, key=lambda layer: saved[layer]), saved


def calibrate(reading: Reading, thresholds: Sequence[float], calibration: LabelReadings, temperature: float) -> dict[float, float]:
    """By level of risk the boldest threshold that was shown to keep it, by Learn-then-Test; levels without one are left out."""
    read_N = reading.of(calibration)

    def losses() -> Iterator[tuple[float, Array]]:
        for threshold in thresholds:
            yield threshold, gated(read_N, calibration.differences_N, threshold, temperature).losses_2P

    found = {level: fixed_sequence(losses(), level, DELTA) for level in LEVELS}
    return {level: threshold for level, threshold in found.items() if threshold is not None}


def fit_confidence(read_N: Array, differences_N: Array) -> tuple[float, float]:
    """Slope and intercept of the log-odds that a reading has full depth's sign, by its distance from 0: logistic regression by Newton's method. A slope is
    never negative."""
    x_N2 = np.stack((np.abs(read_N), np.ones_like(read_N)), axis=1)
    right_N = (np.sign(read_N) == np.sign(differences_N)).astype(np.float64)
    weights_2 = np.zeros(2)
    for _ in range(50):
        chance_N = sigmoid(x_N2 @ weights_2)
        # A little ridge keeps the weights finite where all signs are right.
        gradient_2 = x_N2.T @ (right_N - chance_N) - 1e-3 * weights_2
        hessian_22 = (x_N2 * (chance_N * (1 - chance_N))[:, None]).T @ x_N2 + 1e-3 * np.eye(2)
        step_2 = np.linalg.solve(hessian_22, gradient_2)
        weights_2 = weights_2 + step_2
        if np.abs(step_2).max() < 1e-9:
            break
    return max(0.0, float(weights_2[0])), float(weights_2[1])


def _probability(differences_N: Array, temperature: float) -> Array:
    """(P,): that the answer which comes first in the first order is the better one."""
    first_P, second_P = differences_N.reshape(-1, 2).T
    result: Array = (sigmoid(first_P / temperature) + sigmoid(-second_P / temperature)) / 2
    return result
