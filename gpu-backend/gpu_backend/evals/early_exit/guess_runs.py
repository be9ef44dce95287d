"""Rounds of guesses along a known text: what they would take, and where a guess that leaves unverified is not the token of full depth.

Full depth says the text, and a wrong token changes nothing of what comes after it. Shapes: A guesses in a row, P positions; [a, p] is the guess made at
position p after `a` guesses before it in the same round.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpu_backend.decoding.early_exit.draft_length import DraftRule, RoundCosts
from gpu_backend.models.causal_lm.exit_adapter import calibrated


@dataclass(frozen=True, slots=True)
class TextGuesses:
    """Of one text. At [a, p] with p < a there is none."""

    is_right_AP: NDArray[np.bool_]
    prob_AP: NDArray[np.float64]

    @property
    def num_positions(self) -> int:
        return self.is_right_AP.shape[1]


@dataclass(slots=True)
class Taken:
    """Sums over rounds. `num_early` tokens left at the exit, `num_wrong` of them with another token than full depth gives."""

    num_tokens: int = 0
    num_early: int = 0
    num_wrong: int = 0
    cost: float = 0.0

    def add(self, other: Taken) -> None:
        self.num_tokens += other.num_tokens
        self.num_early += other.num_early
        self.num_wrong += other.num_wrong
        self.cost += other.cost


def lossless(text: TextGuesses, costs: RoundCosts, calibration: tuple[float, ...], rule: DraftRule) -> Taken:
    """As the engine drafts by the rule; drafts count up to the first wrong one."""
    taken, at = Taken(), 0
    while at < text.num_positions:
        chance, num_kept, num_guesses = 1.0, 0, 0
        for ahead in range(min(rule.most, text.num_positions - at)):
            if ahead and chance < rule.least_to_go_on:
                break
            num_guesses += 1
            chance *= calibrated(float(text.prob_AP[ahead, at + ahead]), calibration)
            if chance < rule.least_kept:
                break
            num_kept += 1
        num_right = 0
        while num_right < num_kept and text.is_right_AP[num_right, at + num_right]:
            num_right += 1
        taken.add(Taken(num_right + 1, num_right, 0, _cost(costs, num_guesses, num_kept)))
        at += num_right + 1
    return taken


def gated(text: TextGuesses, costs: RoundCosts, threshold: float) -> Taken:
    """Deferred keys and values: a guess of at least this probability leaves; the first below it ends the round, whose one pass above the exit brings what all
    tokens that left still owe the cache, and the next token."""
    taken, at = Taken(), 0
    while at < text.num_positions:
        num_left, num_guesses, num_wrong = 0, 0, 0
        for ahead in range(min(len(text.prob_AP), text.num_positions - at)):
            num_guesses += 1
            if text.prob_AP[ahead, at + ahead] < threshold:
                break
            num_left += 1
            num_wrong += not text.is_right_AP[ahead, at + ahead]
        taken.add(Taken(num_left + 1, num_left, num_wrong, _cost(costs, num_guesses, num_left)))
        at += num_left + 1
    return taken


def _cost(costs: RoundCosts, num_guesses: int, num_kept: int) -> float:
    return (1 + num_kept) * costs.lower.of(1) + num_guesses * costs.draft.of(1) + costs.upper.of(1 + num_kept)
