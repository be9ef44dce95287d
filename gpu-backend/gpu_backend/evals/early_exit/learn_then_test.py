"""Thresholds with a guarantee: Learn-then-Test (Angelopoulos et al., arXiv 2110.01052) with Hoeffding-Bentkus p-values and a fixed sequence.

The risk is the mean over texts of a loss between 0 and 1. Texts are independent, tokens of one text are not, so a text is the unit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from gpu_backend.evals.statistics import Array


def hoeffding_bentkus(mean: float, num: int, level: float) -> float:
    """The p-value of "the risk is above `level`", after `num` losses with this mean: the smaller of Hoeffding's and Bentkus' bounds."""
    if mean >= level:
        return 1.0
    hoeffding = math.exp(-num * _divergence(mean, level))
    bentkus = math.e * _binomial_cdf(math.ceil(num * mean), num, level)
    return min(1.0, hoeffding, bentkus)


def fixed_sequence(losses: Iterable[tuple[float, Array]], level: float, delta: float) -> float | None:
    """`losses` gives, from the safest threshold to the boldest, the threshold and its texts' losses. -> the last threshold before the first whose
    p-value exceeds `delta`; None where even the first does. With probability 1 - delta its risk is at most `level`. Losses of several kinds are the rows of a
    matrix; then all their risks are, since the largest p-value tests that one of them is not."""
    chosen = None
    for threshold, given in losses:
        losses_KT = np.atleast_2d(given)
        if max(hoeffding_bentkus(float(mean), losses_KT.shape[1], level) for mean in losses_KT.mean(axis=1)) > delta:
            break
        chosen = threshold
    return chosen


def _divergence(a: float, b: float) -> float:
    """Kullback-Leibler divergence of two coins, for a < b < 1."""
    first = a * math.log(a / b) if a > 0 else 0.0
    return first + (1 - a) * math.log((1 - a) / (1 - b))


def _binomial_cdf(k: int, n: int, p: float) -> float:
    """P(Bin(n, p) <= k)."""
    if k >= n:
        return 1.0
    logs = (math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) + i * math.log(p) + (n - i) * math.log1p(-p) for i in range(k + 1))
    return min(1.0, sum(map(math.exp, logs)))
