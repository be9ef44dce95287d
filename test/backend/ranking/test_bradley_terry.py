"""The Bradley-Terry fit: by hand where that can be, against its own definition where it cannot, and finite whatever it is given."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_backend.ranking.bradley_terry import PRIOR_PRECISION, Pair, fit
from gpu_backend.ranking.preference import sigmoid


def all_pairs(strengths: list[float]) -> dict[Pair, float]:
    return {(i, j): sigmoid(strengths[i] - strengths[j]) for i in range(len(strengths)) for j in range(i + 1, len(strengths))}


def test_two_by_hand() -> None:
    """Strengths 1 and -1 are where p - sigmoid(2) = 0.01 * 1. The information along (1, -1) / sqrt(2) is 2 sigmoid(2) sigmoid(-2) + 0.01 = 0.2199871708,
    and each strength moves by 1 / sqrt(2) of that direction: sqrt(0.5 / 0.2199871708) = 1.5076. One comparison contradicts nothing: dispersion 1."""
    model = fit(2, {(0, 1): 0.8807970779778823 + 0.01})
    assert model.strengths_N == pytest.approx([1, -1], abs=1e-9)
    assert [model.standard_error(index) for index in (0, 1)] == pytest.approx([1.5076, 1.5076], abs=1e-4)
    assert model.distance_in_errors(0, 1) == pytest.approx(2 / math.sqrt(2 / 0.2199871708), abs=1e-6)
    assert model.win_probability(0, 1) == pytest.approx(0.8807970779778823)


def test_three_even_ones_by_hand() -> None:
    """Information: 0.75 + 0.01 in each direction of the plane of sum 0, of which each strength has 2/3. Dispersion: no surprise in three pairs, one of
    them free: 2 / (1 + 2)."""
    model = fit(3, {(0, 1): 0.5, (1, 2): 0.5, (0, 2): 0.5})
    assert model.strengths_N == pytest.approx([0, 0, 0], abs=1e-12)
    assert model.standard_error(0) == pytest.approx(math.sqrt(2 / 3 * (2 / 3) / 0.76))


def test_a_circle_of_three_is_even_and_worth_little() -> None:
    """Each pair surprises by 0.5^2 / 0.25 = 1: dispersion (3 + 2) / (1 + 2)."""
    model = fit(3, {(0, 1): 1.0, (1, 2): 1.0, (0, 2): 0.0})
    assert model.strengths_N == pytest.approx([0, 0, 0], abs=1e-9)
    assert model.standard_error(0) == pytest.approx(math.sqrt(5 / 3 * (2 / 3) / 0.76))


def test_consistent_probabilities_give_the_strengths_back() -> None:
    """Up to the prior, which pulls by at most its precision times the strength over the information."""
    strengths = [1.2, 0.3, -0.4, -1.1]
    assert fit(4, all_pairs(strengths)).strengths_N == pytest.approx(strengths, abs=0.04)


def test_the_gradient_is_zero_at_the_solution() -> None:
    probabilities = {(0, 1): 0.9, (2, 1): 0.2, (3, 0): 0.6, (2, 3): 0.55, (1, 3): 0.1}
    strengths = fit(4, probabilities).strengths_N
    for index in range(4):
        gradient = -PRIOR_PRECISION * strengths[index]
        for (i, j), p in probabilities.items():
            gradient += ((index == i) - (index == j)) * (p - sigmoid(strengths[i] - strengths[j]))
        assert gradient == pytest.approx(0, abs=1e-9)


def test_a_pair_may_be_told_from_either_side() -> None:
    assert fit(3, {(0, 1): 0.9, (2, 1): 0.3}).strengths_N == pytest.approx(fit(3, {(1, 0): 0.1, (1, 2): 0.7}).strengths_N)


def test_nothing_judged_is_even_and_unsure() -> None:
    model = fit(3, {})
    assert model.strengths_N.tolist() == [0, 0, 0]
    assert model.standard_error(0) == pytest.approx(math.sqrt(2 / 3 / PRIOR_PRECISION))


PROBABILITIES = st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0, 1))


@st.composite
def judged(draw: st.DrawFn) -> tuple[int, dict[Pair, float]]:
    num_items = draw(st.integers(2, 9))
    pairs = draw(st.lists(st.sampled_from([(i, j) for i in range(num_items) for j in range(num_items) if i < j]), unique=True, max_size=24))
    return num_items, {pair: draw(PROBABILITIES) for pair in pairs}


@settings(deadline=None)
@given(judged(), st.randoms(use_true_random=False))
def test_always_finite_and_the_names_do_not_matter(case: tuple[int, dict[Pair, float]], source: object) -> None:
    num_items, probabilities = case
    model = fit(num_items, probabilities)
    assert np.isfinite(model.strengths_N).all() and np.isfinite(model.covariance_NN).all()
    assert all(model.standard_error(index) > 0 for index in range(num_items))
    names = list(range(num_items))
    source.shuffle(names)  # type: ignore[attr-defined]
    renamed = fit(num_items, {(names[i], names[j]): p for (i, j), p in probabilities.items()})
    assert renamed.strengths_N[names] == pytest.approx(model.strengths_N, abs=1e-6)


@settings(deadline=None)
@given(judged())
def test_telling_every_pair_from_the_other_side_turns_the_strengths_round(case: tuple[int, dict[Pair, float]]) -> None:
    num_items, probabilities = case
    opposite = fit(num_items, {pair: 1 - p for pair, p in probabilities.items()})
    assert opposite.strengths_N == pytest.approx(-fit(num_items, probabilities).strengths_N, abs=1e-6)


def test_64_of_which_each_beats_all_below_stay_finite_and_in_order() -> None:
    model = fit(64, {(i, j): 1.0 for i in range(64) for j in range(i + 1, 64)})
    assert (np.diff(model.strengths_N) < 0).all()
