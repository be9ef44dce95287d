"""Strengths from comparisons: the Bradley-Terry model fitted by Newton's method, always finite, with standard errors.

P(i beats j) = sigmoid(s_i - s_j) (Bradley and Terry 1952). Maximised is the sum over the pairs of p log sigmoid(s_i - s_j) + (1 - p) log
sigmoid(s_j - s_i), p being the judged probability, less PRIOR_PRECISION / 2 * sum(s^2): a wide normal prior that keeps an unbeaten one finite, and those
whom no chain of comparisons connects, at a distance of 0.

The covariance of the strengths is the inverse of the observed information times a dispersion, as for every model of fractions (quasi-likelihood, McCullagh
and Nelder 1989, chapter 4): a judge who says p is no coin that fell once, and how far its words stray from the model tells how much they are worth. The
dispersion is Pearson's, with two further observations of dispersion 1, that of coins: so it is 1 as long as nothing can contradict anything.

Shapes: N items, P pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pair = tuple[int, int]
Floats = NDArray[np.float64]
PRIOR_PRECISION = 0.01
_COINS = 2
_MAX_STEPS = 100
_TOLERANCE = 1e-10


@dataclass(frozen=True, slots=True)
class Fit:
    """Strengths add up to 0; `covariance_NN` is that of their distances from the mean."""

    strengths_N: Floats
    covariance_NN: Floats

    def win_probability(self, i: int, j: int) -> float:
        return float(_sigmoid(self.strengths_N[i] - self.strengths_N[j]))

    def standard_error(self, i: int) -> float:
        return float(np.sqrt(max(self.covariance_NN[i, i], 0.0)))

    def distance_in_errors(self, i: int, j: int) -> float:
        """How many standard errors of their difference i lies above j."""
        variance = self.covariance_NN[i, i] + self.covariance_NN[j, j] - 2 * self.covariance_NN[i, j]
        return float((self.strengths_N[i] - self.strengths_N[j]) / np.sqrt(max(variance, 1e-12)))


def fit(num_items: int, probabilities: Mapping[Pair, float]) -> Fit:
    """`probabilities[i, j]` says how likely i is the better one, in 0..1; a pair stands there once."""
    first_P = np.array([i for i, _ in probabilities], dtype=np.intp)
    second_P = np.array([j for _, j in probabilities], dtype=np.intp)
    judged_P = np.array(list(probabilities.values()), dtype=np.float64)
    strengths_N = np.zeros(num_items)
    for _ in range(_MAX_STEPS):
        gradient_N, information_NN = _derivatives(strengths_N, first_P, second_P, judged_P)
        step_N = np.asarray(np.linalg.solve(information_NN, gradient_N), dtype=np.float64)
        strengths_N = _climb(strengths_N, step_N, first_P, second_P, judged_P)
        if np.abs(step_N).max() < _TOLERANCE:
            break
    _, information_NN = _derivatives(strengths_N, first_P, second_P, judged_P)
    centre_NN = np.eye(num_items) - 1.0 / num_items
    dispersion = _dispersion(strengths_N[first_P] - strengths_N[second_P], judged_P, num_items - 1)
    return Fit(strengths_N - strengths_N.mean(), dispersion * (centre_NN @ np.linalg.inv(information_NN) @ centre_NN))


def _dispersion(difference_P: Floats, judged_P: Floats, num_parameters: int) -> float:
    expected_P = _sigmoid(difference_P)
    # p (1 - p) from the difference itself: near 1, `1 - expected` would be 0.
    pearson_P = (judged_P - expected_P) ** 2 * (2 + 2 * np.cosh(np.minimum(np.abs(difference_P), 300.0)))
    num_free = max(len(judged_P) - num_parameters, 0)
    return float((pearson_P.sum() if num_free else 0.0) + _COINS) / (num_free + _COINS)


def _derivatives(strengths_N: Floats, first_P: NDArray[np.intp], second_P: NDArray[np.intp], judged_P: Floats) -> tuple[Floats, Floats]:
    """Gradient (N,) and negative Hessian (N, N) of the objective."""
    expected_P = _sigmoid(strengths_N[first_P] - strengths_N[second_P])
    surprise_P, information_P = judged_P - expected_P, expected_P * (1 - expected_P)
    gradient_N = -PRIOR_PRECISION * strengths_N
    np.add.at(gradient_N, first_P, surprise_P)
    np.add.at(gradient_N, second_P, -surprise_P)
    information_NN = PRIOR_PRECISION * np.eye(len(strengths_N))
    for rows, columns, sign in ((first_P, first_P, 1), (second_P, second_P, 1), (first_P, second_P, -1), (second_P, first_P, -1)):
        np.add.at(information_NN, (rows, columns), sign * information_P)
    return gradient_N, information_NN


def _climb(strengths_N: Floats, step_N: Floats, first_P: NDArray[np.intp], second_P: NDArray[np.intp], judged_P: Floats) -> Floats:
    """A Newton step, halved until it does not lead downwards: the objective is concave, so this arrives."""

    def objective(candidate_N: Floats) -> float:
        difference_P = candidate_N[first_P] - candidate_N[second_P]
        likelihood = judged_P * difference_P - np.logaddexp(0, difference_P)
        return float(likelihood.sum() - PRIOR_PRECISION / 2 * (candidate_N**2).sum())

    before = objective(strengths_N)
    while objective(strengths_N + step_N) < before - 1e-12 * (1 + abs(before)):
        step_N = step_N / 2
    return strengths_N + step_N


def _sigmoid(x: Floats) -> Floats:
    return 0.5 + 0.5 * np.tanh(x / 2)
