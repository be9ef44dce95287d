"""Gates at work: what each would save where it is asked at every layer, and operating points with one check whose risk holds on held-out texts.

The risk of a point is the mean over texts of the share of a text's tokens that leave early with another token than full depth would give.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gpu_backend.decoding.early_exit.gates import GATES
from gpu_backend.evals.early_exit.cost import CostModel
from gpu_backend.evals.early_exit.exit_layers import Bools, Floats, Ints, gated_layers
from gpu_backend.evals.early_exit.layer_readings import Readings
from gpu_backend.evals.early_exit.learn_then_test import fixed_sequence
from gpu_backend.evals.statistics import Array, Interval, bootstrap_interval

LEVELS = (0.005, 0.01, 0.02, 0.05)
# From the safest to the boldest, the same for every gate and set, so that no data choose them.
THRESHOLDS: Floats = 1 - np.logspace(-4, 0, 81)
_DELTA = 0.05
# Of all texts: where gate and layer are chosen, where the threshold is; the rest is the test. Without a single loss it still takes
# ln(1 / delta) / level texts to show that a level holds: 598 for half a per cent.
_TUNING, _CALIBRATION = 0.2, 0.52


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRow:
    """The boldest threshold with at most `level` disagreement when every layer from a quarter of the depth on is checked, chosen and measured on the same
    texts: the best that this gate could do. `threshold` is None where even the safest exceeds it. Speed-ups are memory-bound, with the head's cost."""

    gate: str
    level: float
    threshold: float | None
    mean_layer: float
    disagreement: float
    speed_up: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PointRow:
    """One check. Gate and layer were chosen on one part of the texts, the threshold by Learn-then-Test on a second, and the rest is from a third.
    `gate` is None where no point could be shown to hold, or none is faster than full depth."""

    level: float
    gate: str | None
    layer: int
    threshold: float
    exit_share: float
    disagreement: float
    disagreement_interval: Interval
    num_positions: int
    speed_up: float


def gate_rows(readings: Readings, cost: dict[str, CostModel]) -> list[GateRow]:
    """`cost` by gate: the cosine needs no head."""
    num_layers = readings.num_layers
    checked_L = np.arange(1, num_layers + 1) >= max(1, num_layers // 4)
    rows = []
    for gate in GATES:
        tried = [(float(threshold), gated_layers(readings.scores[gate], threshold, checked_L)) for threshold in THRESHOLDS]
        for level in LEVELS:
            threshold, layers_P = None, np.full(readings.tokens_LP.shape[1], num_layers)
            for bolder, bolder_P in tried:
                if _wrong(readings, bolder_P).mean() > level:
                    break
                threshold, layers_P = bolder, bolder_P
            rows.append(
                GateRow(
                    gate=gate,
                    level=level,
                    threshold=threshold,
                    mean_layer=float(layers_P.mean()),
                    disagreement=float(_wrong(readings, layers_P).mean()),
                    speed_up=cost[gate].gated_speed_up(_shares(layers_P, checked_L)) if threshold is not None else 1.0,
                )
            )
    return rows


def point_rows(readings: Readings, cost: dict[str, CostModel], seed: int) -> list[PointRow]:
    """One row for each level of risk."""
    numbers = np.random.default_rng(seed).permutation(int(readings.text_P.max()) + 1)
    cuts = [round(_TUNING * len(numbers)), round((_TUNING + _CALIBRATION) * len(numbers))]
    tuning, calibration, test = (readings.of_texts(part.tolist()) for part in np.split(numbers, cuts))
    return [_point(tuning, calibration, test, cost, level, seed) for level in LEVELS]


def _point(tuning: Readings, calibration: Readings, test: Readings, cost: dict[str, CostModel], level: float, seed: int) -> PointRow:
    best: tuple[float, str, int] = (1.0, "", 0)
    for gate in GATES:
        for layer in range(1, tuning.num_layers):
            # A little below the level, so that the second part is likely to confirm it.
            threshold = _boldest(tuning, gate, layer, 0.7 * level)
            if threshold is not None:
                best = max(best, (_speed_up(tuning, cost[gate], gate, layer, threshold), gate, layer))
    _, gate, layer = best
    threshold = fixed_sequence(_losses(calibration, gate, layer), level, _DELTA) if gate else None
    speed_up = 1.0 if threshold is None else _speed_up(test, cost[gate], gate, layer, threshold)
    if threshold is None or speed_up <= 1:
        return PointRow(
            level=level, gate=None, layer=test.num_layers, threshold=1.01, exit_share=0.0, disagreement=0.0, disagreement_interval=(0.0, 0.0),
            num_positions=len(test.text_P), speed_up=1.0,
        )  # fmt: skip
    leaves_P = test.scores[gate][layer - 1] >= threshold
    wrong_P = leaves_P & ~test.agrees_LP[layer - 1]
    return PointRow(
        level=level,
        gate=gate,
        layer=layer,
        threshold=threshold,
        exit_share=float(leaves_P.mean()),
        disagreement=float(wrong_P.mean()),
        disagreement_interval=bootstrap_interval(wrong_P.astype(np.float64), [str(text) for text in test.text_P], seed),
        num_positions=len(test.text_P),
        speed_up=speed_up,
    )


def _boldest(readings: Readings, gate: str, layer: int, level: float) -> float | None:
    chosen = None
    for threshold, losses_T in _losses(readings, gate, layer):
        if losses_T.mean() > level:
            break
        chosen = threshold
    return chosen


def _losses(readings: Readings, gate: str, layer: int) -> Iterator[tuple[float, Array]]:
    """Each threshold with every text's share of tokens that leave at `layer` with another token."""
    texts, text_P = np.unique(readings.text_P, return_inverse=True)
    counts_T = np.bincount(text_P, minlength=len(texts))
    score_P, wrong_P = readings.scores[gate][layer - 1], ~readings.agrees_LP[layer - 1]
    for threshold in THRESHOLDS:
        yield float(threshold), np.bincount(text_P, ((score_P >= threshold) & wrong_P).astype(np.float64), len(texts)) / counts_T


def _speed_up(readings: Readings, cost: CostModel, gate: str, layer: int, threshold: float) -> float:
    return cost.gated_speed_up({layer: float((readings.scores[gate][layer - 1] >= threshold).mean())})


def _wrong(readings: Readings, layers_P: Ints) -> Floats:
    agrees_P = readings.agrees_LP[layers_P - 1, np.arange(len(layers_P))]
    return 1 - agrees_P.astype(np.float64)


def _shares(layers_P: Ints, checked_L: Bools) -> dict[int, float]:
    """By checked layer, below the last: the share of positions that leave there."""
    return {layer: float((layers_P == layer).mean()) for layer in range(1, len(checked_L)) if checked_L[layer - 1]}
