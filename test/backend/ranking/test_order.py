"""From judged pairs to a total order: also with circles, ties and nothing to go by."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_backend.ranking.bradley_terry import Pair
from gpu_backend.ranking.order import num_cycles, rank


def indices(num_items: int, probabilities: dict[Pair, float]) -> list[int]:
    return [place.index for place in rank(num_items, probabilities).places]


def test_three_in_a_chain() -> None:
    ranking = rank(3, {(2, 0): 0.9, (0, 1): 0.8, (2, 1): 0.95})
    assert [place.index for place in ranking.places] == [2, 0, 1]
    assert [(place.win_rate, place.comparisons) for place in ranking.places] == [(1.0, 2), (0.5, 2), (0.0, 2)]
    assert ranking.cycles == 0
    assert sum(place.score for place in ranking.places) == pytest.approx(1.5)
    assert ranking.places[0].score > ranking.places[1].score > ranking.places[2].score


def test_a_circle_is_counted_and_ordered_by_the_request() -> None:
    ranking = rank(3, {(0, 1): 0.9, (1, 2): 0.9, (0, 2): 0.1})
    assert ([place.index for place in ranking.places], ranking.cycles, ranking.is_certain) == ([0, 1, 2], 1, False)


@pytest.mark.parametrize(
    ("probabilities", "expected"),
    [
        ({(0, 1): 1.0, (1, 2): 1.0, (2, 0): 1.0}, 1),
        ({(0, 1): 1.0, (1, 2): 1.0, (0, 2): 1.0}, 0),
        ({(0, 1): 1.0, (1, 2): 1.0}, 0),
        ({(0, 1): 0.6, (1, 2): 0.6, (0, 2): 0.5}, 0),
        # 0 > 1 > 2 > 0 and 0 > 1 > 3 > 0; 2 against 3 was not judged.
        ({(0, 1): 1.0, (1, 2): 1.0, (2, 0): 1.0, (1, 3): 1.0, (3, 0): 1.0}, 2),
    ],
)
def test_circles_by_hand(probabilities: dict[Pair, float], expected: int) -> None:
    assert num_cycles(4, probabilities) == expected


def test_a_champion_comes_first() -> None:
    ranking = rank(3, {(0, 1): 0.9, (1, 2): 0.9}, champion=2)
    assert [place.index for place in ranking.places] == [2, 0, 1]


def test_a_tie_counts_half() -> None:
    assert rank(2, {(0, 1): 0.5}).places[0].win_rate == 0.5


def test_who_met_nobody_still_has_a_place() -> None:
    last = rank(3, {(0, 1): 0.9}).places[1]
    assert (last.index, last.comparisons, last.win_rate, last.score) == (2, 0, 0.5, pytest.approx(0.5))


@settings(deadline=None)
@given(st.integers(2, 7), st.data())
def test_always_a_total_order_with_scores_that_fall(num_items: int, data: st.DataObject) -> None:
    pairs = [(i, j) for i in range(num_items) for j in range(i + 1, num_items)]
    probabilities = {pair: data.draw(st.sampled_from([0.0, 0.2, 0.5, 0.8, 1.0])) for pair in pairs}
    ranking = rank(num_items, probabilities)
    assert sorted(place.index for place in ranking.places) == list(range(num_items))
    scores = [place.score for place in ranking.places]
    assert all(higher >= lower - 1e-8 for higher, lower in pairwise(scores))
    assert all(0 <= score <= 1 for score in scores)
    names = data.draw(st.permutations(range(num_items)))
    renamed = rank(num_items, {(names[i], names[j]): p for (i, j), p in probabilities.items()})
    strengths = {place.index: place.strength for place in ranking.places}
    assert {place.index: place.strength for place in renamed.places} == pytest.approx({names[index]: value for index, value in strengths.items()}, abs=1e-6)
    assert renamed.cycles == ranking.cycles
