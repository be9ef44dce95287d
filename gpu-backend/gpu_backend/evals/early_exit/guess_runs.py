"""Rounds of guesses along a known text: what they would take, and where a guess that leaves unverified is not the token of full depth.

Full depth says the text, and a wrong token changes nothing of what comes after it. Shapes: A guesses in a row, P positions; [a, p] is the guess made at
position p after `a` guesses before it in the same round.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpu_backend.decoding.early_exit.draft_length import DraftRule, RoundCosts
from gpu_backend.engine.draft_round import VERIFY_ALL
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
    """Sums over rounds. `num_early` tokens left at the exit unverified, `num_wrong` of them with another token than full depth gives."""

    num_tokens: int = 0
    num_early: int = 0
    num_wrong: int = 0
    cost: float = 0.0

    def add(self, other: Taken) -> None:
        self.num_tokens += other.num_tokens
        self.num_early += other.num_early
        self.num_wrong += other.num_wrong
        self.cost += other.cost


def drafted(text: TextGuesses, costs: RoundCosts, calibration: tuple[float, ...], rule: DraftRule, least_prob: float = VERIFY_ALL) -> Taken:
    """As the engine drafts by the rule. Guesses of at least `least_prob` stand; the others count up to the first wrong one. The pass above the exit verifies
    them, and brings those that stand the keys and values that they still owe the cache."""
    taken, at = Taken(), 0
    while at < text.num_positions:
        chance, num_kept, num_guesses = 1.0, 0, 0
        for ahead in range(min(rule.most, text.num_positions - at)):
            if ahead and chance < rule.least_to_go_on:
                break
            num_guesses += 1
            prob = float(text.prob_AP[ahead, at + ahead])
            if prob < least_prob:
                chance *= calibrated(prob, calibration)
            if chance < rule.least_kept:
                break
            num_kept += 1
        num_taken, num_early, num_wrong = 0, 0, 0
        while num_taken < num_kept:
            place = num_taken, at + num_taken
            stands, is_right = text.prob_AP[place] >= least_prob, text.is_right_AP[place]
            if not stands and not is_right:
                break
            num_taken += 1
            num_early += int(stands)
            num_wrong += int(stands and not is_right)
        cost = (1 + num_kept) * costs.lower.of(1) + num_guesses * costs.draft.of(1) + costs.upper.of(1 + num_kept)
        taken.add(Taken(num_taken + 1, num_early, num_wrong, cost))
        at += num_taken + 1
    return taken
