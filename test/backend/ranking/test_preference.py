"""The maths of a pair: known answers by hand, and antisymmetry that is exact in floating point."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_backend.ranking.preference import EVEN, Average, combine, log_sigmoid, sigmoid

DELTAS = st.floats(-1e4, 1e4)
AVERAGES = st.sampled_from(["probability", "logit"])


def test_both_orders_that_say_the_same() -> None:
    """Logits of (A, B): [3, 1], and [0.5, 2.5] with the answers swapped. Both say sigmoid(2)."""
    preference = combine([3 - 1, -(0.5 - 2.5)])
    assert preference.probability == pytest.approx(0.8807970780, abs=1e-10)
    assert (preference.logit, preference.raw) == (pytest.approx(2.0), 2.0)


def test_the_labels_are_compared_within_an_order_not_across_orders() -> None:
    """[-3, -5], then [4.5, 6.5] swapped: right is 0.8808. A softmax over what the two orders said of one answer, -3 and 6.5, is the opposite verdict."""
    preference = combine([-3 - -5, -(4.5 - 6.5)])
    assert preference.probability == pytest.approx(0.8807970780, abs=1e-10)
    assert preference.flipped().probability == pytest.approx(0.1192029220, abs=1e-10)
    across_orders = [math.exp(logit) / (math.exp(-3) + math.exp(6.5)) for logit in (-3, 6.5)]
    assert across_orders == [pytest.approx(0.0000748, abs=5e-8), pytest.approx(0.9999, abs=5e-5)]
    assert across_orders[0] < 0.5 < preference.probability


def test_a_slot_bias_shrinks_probabilities_and_leaves_the_logit_average() -> None:
    """s = 0.8 with a bias of 1.3 towards slot A: the orders say 2.1 and -0.5. By hand: (0.8909 + 0.3775) / 2 and sigmoid(0.8)."""
    orders = [0.8 + 1.3, -(-0.8 + 1.3)]
    assert combine(orders).probability == pytest.approx(0.634, abs=5e-4)
    by_logit = combine(orders, average="logit")
    assert by_logit.probability == pytest.approx(0.690, abs=5e-4)
    assert (by_logit.logit, by_logit.raw) == (pytest.approx(0.8), pytest.approx(0.8))


def test_temperature_divides_all_but_raw() -> None:
    preference = combine([2.0, 2.0], temperature=2.0)
    assert preference.probability == pytest.approx(0.7310585786300049) and preference.logit == pytest.approx(1.0) and preference.raw == 2.0


def test_criteria_count_by_weight() -> None:
    """Weights 3 and 1: (3 * sigmoid(2) + sigmoid(-2)) / 4, and log-odds (3 * 2 - 2) / 4 = 1."""
    assert combine([2.0, -2.0], weights=[3, 1]).probability == pytest.approx((3 * 0.8807970780 + 0.1192029220) / 4)
    by_logit = combine([2.0, -2.0], weights=[3, 1], average="logit")
    assert by_logit.logit == pytest.approx(1.0) and by_logit.raw == pytest.approx(1.0)


def test_the_logit_of_a_mean_probability_is_its_log_odds() -> None:
    preference = combine([2.1, -0.5, 4.0], weights=[1, 2, 5])
    assert preference.logit == pytest.approx(math.log(preference.probability / (1 - preference.probability)))


def test_saturated_probabilities_keep_a_finite_logit() -> None:
    preference = combine([2000.0, 1000.0])
    assert (preference.probability, preference.flipped().probability) == (1.0, 0.0)
    # The mean of 1 - exp(-2000) and 1 - exp(-1000) has the odds of 2 to exp(-1000).
    assert preference.logit == pytest.approx(1000 + math.log(2))


def test_opposite_orders_are_exactly_even() -> None:
    assert combine([1.7, -1.7]) == EVEN and combine([1.7, -1.7], average="logit") == EVEN


def test_extreme_weights_neither_overflow_nor_vanish() -> None:
    assert combine([1.0, 1.0], weights=[1e308, 1e308]).probability == combine([1.0, 1.0]).probability
    assert combine([1.0, -3.0], weights=[1e308, 1e-308]).probability == combine([1.0]).probability


@given(st.lists(st.tuples(DELTAS, st.floats(1e-6, 1e6)), min_size=1, max_size=8), st.floats(0.1, 10), AVERAGES, st.randoms(use_true_random=False))
def test_antisymmetry_is_exact_in_any_order_of_the_terms(terms: list[tuple[float, float]], temperature: float, average: Average, source: object) -> None:
    deltas, weights = zip(*terms, strict=True)
    preference = combine(deltas, temperature=temperature, average=average, weights=weights)
    shuffled = list(terms)
    source.shuffle(shuffled)  # type: ignore[attr-defined]
    negated = combine([-delta for delta, _ in shuffled], temperature=temperature, average=average, weights=[weight for _, weight in shuffled])
    assert negated == preference.flipped()
    assert preference.probability + negated.probability == 1.0
    assert 0 <= preference.probability <= 1 and math.isfinite(preference.logit)
    assert (preference.probability > 0.5) <= (preference.logit > 0)


@given(st.floats(-700, 700))
def test_sigmoid_and_its_logarithm_belong_together(x: float) -> None:
    assert log_sigmoid(x) == pytest.approx(-math.log1p(math.exp(-x)) if x > -30 else x, rel=1e-9)
    if abs(x) < 30:
        assert sigmoid(x) == pytest.approx(1 / (1 + math.exp(-x)), rel=1e-6)
