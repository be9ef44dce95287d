"""Numbers with their uncertainty: intervals, calibration, a fitted temperature. Only numpy.

Shapes: P pairs, 2 orders. A margin is the logit of the better answer less that of the other, so a right verdict is a positive one.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Interval = tuple[float, float]
NUM_BINS = 10
NUM_RESAMPLES = 2000
_Z95 = 1.959963984540054
_GOLDEN = (math.sqrt(5) - 1) / 2


def wilson_interval(num_right: float, num: int) -> Interval:
    """The 95 % interval of a share (Wilson 1927)."""
    if num == 0:
        return 0.0, 1.0
    share, z2 = num_right / num, _Z95**2
    centre = (share + z2 / (2 * num)) / (1 + z2 / num)
    half = _Z95 / (1 + z2 / num) * math.sqrt(share * (1 - share) / num + z2 / (4 * num**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def bootstrap_interval(values_P: Array, groups_P: list[str], seed: int) -> Interval:
    """The 95 % interval of the mean, from 2,000 resamples of groups. Pairs of one conversation are no independent evidence, so a group goes as a whole.
    Give the differences of two models on the same pairs to compare them."""
    index = {group: number for number, group in enumerate(dict.fromkeys(groups_P))}
    numbers_P = np.array([index[group] for group in groups_P])
    sums_G, counts_G = np.bincount(numbers_P, values_P), np.bincount(numbers_P)
    generator = np.random.default_rng(seed)
    means = np.empty(NUM_RESAMPLES)
    for resample in range(NUM_RESAMPLES):
        drawn = generator.integers(0, len(index), len(index))
        means[resample] = sums_G[drawn].sum() / counts_G[drawn].sum()
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def sigmoid(x: Array) -> Array:
    result: Array = np.exp(-np.logaddexp(0.0, -x))
    return result


def probabilities(margins_P2: Array, temperature: float) -> Array:
    """(P,): that the better answer is better, the mean over both orders."""
    result: Array = sigmoid(margins_P2 / temperature).mean(axis=1)
    return result


def log_losses(margins_P2: Array, temperature: float) -> Array:
    """(P,): what each pair costs. The constant predictor, which always says 1/2, pays ln 2 for each."""
    log_sigmoid_P2 = -np.logaddexp(0.0, -margins_P2 / temperature)
    result: Array = math.log(margins_P2.shape[1]) - np.logaddexp.reduce(log_sigmoid_P2, axis=1)
    return result


def fit_temperature(margins_P2: Array) -> float:
    """The temperature of the smallest mean log-loss, between 1/50 and 200, by golden-section search on its logarithm."""
    low, high = math.log(1 / 50), math.log(200)
    while high - low > 1e-5:
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        if log_losses(margins_P2, math.exp(left)).mean() < log_losses(margins_P2, math.exp(right)).mean():
            high = right
        else:
            low = left
    return math.exp((low + high) / 2)


def rightness(margins_P: Array) -> Array:
    """(P,): 1 for a right verdict, 0 for a wrong one, 1/2 for a tie."""
    result: Array = np.where(margins_P > 0, 1.0, np.where(margins_P < 0, 0.0, 0.5))
    return result


def reliability_bins(probabilities_P: Array) -> list[tuple[float, float, int]]:
    """Ten bins of equally many pairs by confidence, max(P, 1 - P): (mean confidence, share of right verdicts, pairs) of each."""
    confidence_P, right_P = np.maximum(probabilities_P, 1 - probabilities_P), rightness(probabilities_P - 0.5)
    order = np.argsort(confidence_P, kind="stable")
    return [(float(confidence_P[part].mean()), float(right_P[part].mean()), len(part)) for part in np.array_split(order, NUM_BINS) if len(part)]


def calibration_error(probabilities_P: Array) -> float:
    """The expected calibration error over `reliability_bins`: mean distance of confidence and share of right verdicts."""
    bins = reliability_bins(probabilities_P)
    return sum(abs(confidence - share) * num for confidence, share, num in bins) / len(probabilities_P)


def calibration_error_by_chance(probabilities_P: Array, seed: int, num_draws: int = 200) -> float:
    """What `calibration_error` is on average when these probabilities are exactly right: with few pairs per bin it is far from 0."""
    generator = np.random.default_rng(seed)
    confidence_P = np.maximum(probabilities_P, 1 - probabilities_P)
    flips = (generator.random(len(confidence_P)) < confidence_P for _ in range(num_draws))
    return float(np.mean([calibration_error(np.where(is_right_P, confidence_P, 1 - confidence_P)) for is_right_P in flips]))
