"""Rounds of guesses along a text, by hand; and the frontier made of them."""

from __future__ import annotations

import numpy as np
import pytest

from gpu_backend.decoding.early_exit.draft_length import DraftLengths, DraftRule, PassCost, RoundCosts
from gpu_backend.evals.early_exit.frontier import frontier_rows
from gpu_backend.evals.early_exit.guess_runs import Taken, TextGuesses, drafted
from gpu_backend.evals.early_exit.operating_points import LEVELS

COSTS = RoundCosts(lower=PassCost.line(1.0, 0.1), draft=PassCost.line(0.2, 0.0), upper=PassCost.line(8.0, 0.2))
# Tenths of probability are taken at their lower edge.
CALIBRATION = tuple(tenth / 10 for tenth in range(10))


def text_of(right: list[str], prob: list[list[float]]) -> TextGuesses:
    return TextGuesses(np.array([[mark == "x" for mark in row] for row in right]), np.array(prob))


TEXT = text_of(["x-xxx", " x-xx"], [[0.95, 0.65, 0.35, 0.95, 0.95], [0.0, 0.95, 0.95, 0.85, 0.55]])


def test_lossless_rounds_by_hand() -> None:
    """With a least chance of 0.6. From 0: 0.95 (0.9) and then 0.95 (0.81) are kept and right: three tokens. From 3: 0.95 is kept, 0.55 is not (0.45)."""
    taken = drafted(TEXT, COSTS, CALIBRATION, DraftRule(2, 0.6, 0.0))
    first = 3 * 1.1 + 2 * 0.2 + 8.6
    second = 2 * 1.1 + 2 * 0.2 + 8.4
    assert taken == Taken(5, 0, 0, pytest.approx(first + second))


def test_another_guess_is_made_only_where_that_is_likely_to_pay() -> None:
    """From 0: 0.9 is enough to go on, 0.81 would be; two drafts are all that there may be. From 3: 0.9, and 0.45 is dropped."""
    taken = drafted(TEXT, COSTS, CALIBRATION, DraftRule(2, 0.6, 0.85))
    assert taken == drafted(TEXT, COSTS, CALIBRATION, DraftRule(2, 0.6, 0.0))
    # With 0.95 nothing follows a first draft: from 0 two tokens, from 2 the guess of 0.35 is dropped, from 3 two.
    taken = drafted(TEXT, COSTS, CALIBRATION, DraftRule(2, 0.6, 0.95))
    assert taken == Taken(5, 0, 0, pytest.approx(2 * (2.2 + 0.2 + 8.4) + (1.1 + 0.2 + 8.2)))


def test_a_wrong_draft_ends_what_counts() -> None:
    text = text_of(["-x", " x"], [[0.95, 0.95], [0.0, 0.95]])
    # Two drafts kept, the first is wrong: one token. Then one draft, right, and the token after it lies beyond what was looked at.
    assert drafted(text, COSTS, CALIBRATION, DraftRule(2, 0.5, 0.0)) == Taken(3, 0, 0, pytest.approx((3.3 + 0.4 + 8.6) + (2.2 + 0.2 + 8.4)))


def test_guesses_that_stand_by_hand() -> None:
    """At 0.6: from 0 both guesses stand; from 3 the first, and 0.55 is dropped."""
    rule = DraftRule(2, 0.6, 0.0)
    assert drafted(TEXT, COSTS, CALIBRATION, rule, 0.6) == Taken(5, 3, 0, pytest.approx((3.3 + 0.4 + 8.6) + (2.2 + 0.4 + 8.4)))
    wrong = text_of(["-xx", " -x"], [[0.95, 0.95, 0.1], [0.0, 0.95, 0.95]])
    # Both that stand are others than full depth's.
    assert drafted(wrong, COSTS, CALIBRATION, rule, 0.6) == Taken(3, 2, 2, pytest.approx(3.3 + 0.4 + 8.6))
    # Verified, the first is wrong, and after it two are right.
    assert drafted(wrong, COSTS, CALIBRATION, rule) == Taken(4, 0, 0, pytest.approx(2 * (3.3 + 0.4 + 8.6)))
    # One that stands, and one that is verified and wrong after it: the token of full depth takes its place.
    mixed = text_of(["-xx", " -x"], [[0.95, 0.75, 0.1], [0.0, 0.65, 0.95]])
    assert drafted(mixed, COSTS, CALIBRATION, rule, 0.9) == Taken(3, 1, 1, pytest.approx((3.3 + 0.4 + 8.6) + (1.1 + 0.2 + 8.2)))


def test_the_frontier_holds_its_levels_and_shows_what_drafts_do() -> None:
    generator = np.random.default_rng(0)

    def noisy() -> TextGuesses:
        """Guesses are right as often as their probability says."""
        prob = generator.uniform(0, 1, (3, 20))
        return TextGuesses(generator.uniform(0, 1, (3, 20)) < prob, prob)

    lengths = DraftLengths(COSTS, prior=0.6, most=3)
    rows = frontier_rows([noisy() for _ in range(1300)], lengths, CALIBRATION, seed=0)
    assert [row.level for row in rows] == list(LEVELS)
    shares = [row.early_share for row in rows]
    assert shares == sorted(shares) and shares[0] < shares[-1]
    for row in rows:
        assert row.disagreement <= row.level and row.disagreement_interval[0] <= row.disagreement <= row.disagreement_interval[1]
        assert 1.1 < row.lossless_speed_up <= row.gated_speed_up < 2
        assert row.is_offered == (row.gated_speed_up > 1.02 * row.lossless_speed_up)
    assert [row.is_offered for row in rows] == sorted(row.is_offered for row in rows) and rows[-1].is_offered and not rows[0].is_offered
    assert rows[0].threshold is not None and rows[0].threshold > (rows[-1].threshold or 2)
