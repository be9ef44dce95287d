"""How many drafts pay: by hand, with costs that forbid or invite them, and as answers go well or badly."""

from __future__ import annotations

import pytest

from gpu_backend.decoding.early_exit.draft_length import NO_DRAFTS, Acceptance, DraftLengths, PassCost, RoundCosts

# A pass costs 1 for the weights below the exit, 2 above, and a tenth of that for each row.
COSTS = RoundCosts(lower=PassCost.line(1.0, 0.1), draft=PassCost.line(0.2, 0.0), upper=PassCost.line(2.0, 0.2))


def test_a_pass_between_and_beyond_what_was_measured() -> None:
    cost = PassCost(((1, 2.0), (2, 2.2), (4, 3.2), (8, 5.2)))
    assert [cost.of(rows) for rows in (1, 2, 3, 4, 6, 8, 10)] == pytest.approx([2.0, 2.2, 2.7, 3.2, 4.2, 5.2, 6.2])
    assert PassCost.line(1.0, 0.5).of(7) == pytest.approx(4.5)


def test_a_round_by_hand() -> None:
    # Two sequences, three drafts each: lower 1.2, three times draft and lower 1.4, upper over 8 rows 3.6.
    assert COSTS.round(2, 3) == pytest.approx(1.2 + 3 * 1.4 + 3.6)
    # One more row that drafts nothing, below and above.
    assert COSTS.round(2, 3, num_others=1) == pytest.approx(1.3 + 3 * 1.4 + 3.8)
    assert COSTS.round(1, 0) == pytest.approx(1.1 + 2.2)


def test_the_length_that_brings_most_tokens_in_a_unit_of_time() -> None:
    lengths = DraftLengths(COSTS, prior=0.5)
    # At a rate of 0.8: 1/3.3, 1.8/4.8, 2.44/6.3, 2.952/7.8, ... = 0.303, 0.375, 0.387, 0.378.
    assert lengths.best(1, 0.8) == 2
    # At 0.3: 0.303, 1.3/4.8 = 0.271.
    assert lengths.best(1, 0.3) == 0
    # At 0.5: 1.5/4.8 = 0.3125, which is more than 0.303, but not by a tenth. At 0.65: 0.344.
    assert lengths.best(1, 0.5) == 0 and lengths.best(1, 0.65) > 0
    assert lengths.best(1, 1.0) == lengths.most


def test_nothing_to_draft_for() -> None:
    assert DraftLengths(COSTS, prior=0.5).choose([]) == NO_DRAFTS


def test_a_draft_is_kept_where_its_chance_is_worth_a_row() -> None:
    lengths = DraftLengths(COSTS, prior=0.5, most=4)
    # A row costs 1.1 below the exit and 0.2 above; two drafts at a rate of 0.8 bring 2.44 tokens in 6.3.
    rule = lengths.choose([0.8])
    # A guess costs 0.2 more, and is right at a rate of 0.8.
    assert (rule.most, rule.least_kept, rule.least_to_go_on) == (4, pytest.approx(1.3 * 2.44 / 6.3), pytest.approx(1.5 * 2.44 / 6.3 / 0.8))
    # For two sequences 1.2 / 2 below, shared; 3.6 / 5.4 for one draft each, 4.88 / 7.2 for two, 5.904 / 9 for three.
    rule = lengths.choose([0.8, 0.8])
    assert (rule.least_kept, rule.least_to_go_on) == (pytest.approx(0.8 * 4.88 / 7.2), pytest.approx(0.9 * 4.88 / 7.2 / 0.8))
    assert lengths.choose([0.3]) == NO_DRAFTS


def test_who_drafts_nothing_counts_too() -> None:
    # Alone it pays; with thirty others that would all wait for a round it does not.
    lengths = DraftLengths(COSTS, prior=0.5)
    assert lengths.best(1, 0.8) > 0
    assert lengths.best(1, 0.8, num_others=30) == 0


def test_large_batches_compute_and_drafts_no_longer_pay() -> None:
    costs = RoundCosts(lower=PassCost.line(1.0, 0.5), draft=PassCost.line(0.2, 0.1), upper=PassCost.line(2.0, 1.0))
    lengths = DraftLengths(costs, prior=0.5)
    assert lengths.best(1, 0.8) > 0
    assert lengths.best(16, 0.8) == 0


def test_acceptance_by_hand() -> None:
    acceptance = Acceptance(prior=0.5)
    assert acceptance.rate == 0.5
    # Four drafts, two right: the third was wrong, the fourth never tried.
    acceptance.note(4, 2)
    assert acceptance.rate == pytest.approx((2 + 4 * 0.5) / (3 + 4))
    acceptance.note(2, 2)
    assert acceptance.rate == pytest.approx((0.9 * 2 + 2 + 2) / (0.9 * 3 + 2 + 4))


def test_bad_drafts_end_drafting() -> None:
    lengths, acceptance = DraftLengths(COSTS, prior=0.8), Acceptance(prior=0.8)
    assert lengths.best(1, acceptance.rate) > 0
    for _ in range(12):
        acceptance.note(2, 0)
    assert lengths.best(1, acceptance.rate) == 0
    # Some twenty tokens later they are tried again, and given up sooner where they are still bad.
    steps = 0
    while not lengths.best(1, acceptance.rate):
        acceptance.fade()
        steps += 1
    assert 10 <= steps <= 40
    acceptance.note(2, 0)
    assert lengths.best(1, acceptance.rate) == 0
