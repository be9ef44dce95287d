"""How much the first of two is preferred, from a judge's logit differences in either order; exactly antisymmetric in floating point.

A difference is z_A - z_B, turned so that it speaks for the first: the negative of what the judge said where the second stood in slot A. Divided by the
temperature it is a log-odds (GRAM, arXiv 2506.14175). All sums are exact before they are rounded (`math.fsum`), so their order changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Average = Literal["probability", "logit"]
# Probabilities are multiples of 2**-52, so that p and 1 - p are both exact and add up to exactly 1.
_GRID = 2.0**52


@dataclass(frozen=True, slots=True)
class Preference:
    """`probability` that the first is better, `logit` its log-odds, both calibrated; `raw` is the mean logit difference as the model said it."""

    probability: float
    logit: float
    raw: float

    def flipped(self) -> Preference:
        """The same, told of the second."""
        return Preference(1.0 - self.probability, -self.logit, -self.raw)


EVEN = Preference(0.5, 0.0, 0.0)


def combine(deltas: Sequence[float], *, temperature: float = 1.0, average: Average = "probability", weights: Sequence[float] | None = None) -> Preference:
    """One preference from several logit differences, all turned towards the first: both orders, several criteria, several opponents.

    `probability` averages sigmoid(delta / temperature), `logit` the log-odds, which removes a bias towards a slot that is the same in both orders.
    Weights are above 0 and need not add up to 1. `combine` of the negated differences is exactly `flipped`.
    """
    shares = _shares(weights if weights is not None else [1.0] * len(deltas))
    odds = [delta / temperature for delta in deltas]
    raw = math.fsum(share * delta for share, delta in zip(shares, deltas, strict=True)) / math.fsum(shares)
    if average == "logit":
        logit = math.fsum(share * odd for share, odd in zip(shares, odds, strict=True)) / math.fsum(shares)
        return Preference(_probability(math.tanh(logit / 2)), logit, raw)
    lean = math.fsum(share * math.tanh(odd / 2) for share, odd in zip(shares, odds, strict=True)) / math.fsum(shares)
    logit = _log_mean(shares, [log_sigmoid(odd) for odd in odds]) - _log_mean(shares, [log_sigmoid(-odd) for odd in odds])
    return Preference(_probability(lean), logit, raw)


def sigmoid(x: float) -> float:
    return 0.5 + 0.5 * math.tanh(x / 2)


def log_sigmoid(x: float) -> float:
    return min(x, 0.0) - math.log1p(math.exp(-abs(x)))


def _shares(weights: Sequence[float]) -> list[float]:
    """Relative to the largest, so that no sum overflows."""
    largest = max(weights)
    return [weight / largest for weight in weights]


def _probability(lean: float) -> float:
    """From -1..1."""
    return 0.5 + round(0.5 * lean * _GRID) / _GRID


def _log_mean(shares: Sequence[float], logs: Sequence[float]) -> float:
    """log of the weighted mean of exp(logs), up to the sum of the shares."""
    highest = max(logs)
    return highest + math.log(math.fsum(share * math.exp(value - highest) for share, value in zip(shares, logs, strict=True)))
