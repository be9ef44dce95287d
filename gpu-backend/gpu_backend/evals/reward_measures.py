"""What one reward model is worth on one set, from the margins of its pairs; and how a control compares with it on the same pairs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from gpu_backend.evals.preference_sets import PreferenceSet
from gpu_backend.evals.reward_bench import section_accuracies
from gpu_backend.evals.statistics import (
    Array,
    Interval,
    bootstrap_interval,
    calibration_error,
    calibration_error_by_chance,
    log_losses,
    probabilities,
    reliability_bins,
    rightness,
    sigmoid,
    wilson_interval,
)


@dataclass(frozen=True, slots=True)
class Share:
    """A share of `num` pairs; `interval` is its 95 % interval (Wilson)."""

    value: float
    interval: Interval
    num: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SetMeasures:
    """Verdicts are averaged over both orders; a tie is worth half.

    `consistency` is the share of pairs with the same verdict in both orders. `position_bias` is the mean distance of P in the two orders, `first_slot` the
    mean probability that slot A gets, whoever is in it. `log_loss_less_constant` is the mean log-loss less ln 2, `log_loss_interval` its bootstrap interval.
    `calibration_error_by_chance` is the error that right probabilities would show on so few pairs.
    """

    name: str
    num_available: int
    num_cut: int
    accuracy: Share
    shorter_is_better: Share
    longer_is_better: Share
    subsets: dict[str, Share]
    consistency: float
    position_bias: float
    first_slot: float
    calibration_error: float
    calibration_error_by_chance: float
    log_loss: float
    log_loss_less_constant: float
    log_loss_interval: Interval
    reliability: list[tuple[float, float, int]]

    @property
    def sections(self) -> dict[str, float]:
        """RewardBench's, by its weights, where the subsets are its own."""
        return section_accuracies({name: share.value for name, share in self.subsets.items()})

    @property
    def macro_accuracy(self) -> float:
        """The mean over RewardBench's sections, else over subsets; the accuracy itself is the mean over pairs (micro)."""
        return float(np.mean(list(self.sections.values()) or [share.value for share in self.subsets.values()]))


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlMeasures:
    """`less_control` is the model's accuracy less the control's on the same pairs, with its bootstrap interval."""

    name: str
    set_name: str
    accuracy: Share
    less_control: float
    interval: Interval
    consistency: float | None


def measure_set(one: PreferenceSet, margins_P2: Array, num_cut: int, temperature: float, seed: int) -> SetMeasures:
    right_P = rightness(margins_P2.mean(axis=1))
    lengths_P = np.array([len(pair.chosen) - len(pair.rejected) for pair in one.pairs])
    probability_P, losses_P = probabilities(margins_P2, temperature), log_losses(margins_P2, temperature)
    first_P, second_P = sigmoid(margins_P2 / temperature).T
    names_P = np.array([pair.subset for pair in one.pairs])
    return SetMeasures(
        name=one.name,
        num_available=one.num_available,
        num_cut=num_cut,
        accuracy=share_of(right_P),
        shorter_is_better=share_of(right_P[lengths_P < 0]),
        longer_is_better=share_of(right_P[lengths_P > 0]),
        subsets={name: share_of(right_P[names_P == name]) for name in sorted(set(names_P.tolist()))},
        consistency=consistency_of(margins_P2),
        position_bias=float(np.abs(first_P - second_P).mean()),
        first_slot=float((first_P + 1 - second_P).mean() / 2),
        calibration_error=calibration_error(probability_P),
        calibration_error_by_chance=calibration_error_by_chance(probability_P, seed),
        log_loss=float(losses_P.mean()),
        log_loss_less_constant=float(losses_P.mean() - math.log(2)),
        log_loss_interval=bootstrap_interval(losses_P - math.log(2), one.groups, seed),
        reliability=reliability_bins(probability_P),
    )


def measure_control(name: str, one: PreferenceSet, model_margins_P2: Array, control_margins_PK: Array, seed: int) -> ControlMeasures:
    """`control_margins_PK` has a column per order, or one column where the order plays no part."""
    model_P, control_P = rightness(model_margins_P2.mean(axis=1)), rightness(control_margins_PK.mean(axis=1))
    return ControlMeasures(
        name=name,
        set_name=one.name,
        accuracy=share_of(control_P),
        less_control=float((model_P - control_P).mean()),
        interval=bootstrap_interval(model_P - control_P, one.groups, seed),
        consistency=consistency_of(control_margins_PK) if control_margins_PK.shape[1] == 2 else None,
    )


def share_of(right_P: Array) -> Share:
    num = len(right_P)
    return Share(float(right_P.mean()) if num else math.nan, wilson_interval(float(right_P.sum()), num), num)


def consistency_of(margins_P2: Array) -> float:
    return float((np.sign(margins_P2[:, 0]) == np.sign(margins_P2[:, 1])).mean())
