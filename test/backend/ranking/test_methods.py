"""Which pairs are asked for: never twice, never beyond the budget, and enough to find the best."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_backend.ranking.bradley_terry import Pair
from gpu_backend.ranking.methods import Judged, adaptive, round_robin, run, scan, swiss_pairs
from gpu_backend.ranking.order import Ranking
from gpu_backend.ranking.preference import sigmoid

METHODS = [scan, round_robin, adaptive]


class Judge:
    """Answers from a function and keeps what it was asked."""

    def __init__(self, probability: Callable[[int, int], float]) -> None:
        self._probability = probability
        self.batches: list[list[Pair]] = []

    def __call__(self, pairs: list[Pair]) -> Judged:
        self.batches.append(pairs)
        return {(i, j): self._probability(i, j) for i, j in pairs}

    @property
    def pairs(self) -> list[Pair]:
        return [pair for batch in self.batches for pair in batch]


def by_strength(strengths: list[float]) -> Judge:
    return Judge(lambda i, j: sigmoid(strengths[i] - strengths[j]))


def order(ranking: Ranking) -> list[int]:
    return [place.index for place in ranking.places]


def test_scan_asks_as_by_hand() -> None:
    judge = by_strength([0, 2, 1, 3])
    assert order(run(scan(4), judge))[0] == 3
    assert judge.batches == [[(0, 1)], [(1, 2)], [(1, 3)]]


def test_scan_keeps_the_first_of_equals() -> None:
    assert order(run(scan(3), Judge(lambda i, j: 0.5))) == [0, 1, 2]


def test_scan_depends_on_the_order_where_preferences_go_in_a_circle() -> None:
    """0 > 1 > 2 > 0, named in three ways: the last who is challenged wins each time."""
    beats = {(0, 1), (1, 2), (2, 0)}
    for names, winner in (([0, 1, 2], 2), ([1, 2, 0], 0), ([2, 0, 1], 1)):
        ranking = run(scan(3), Judge(lambda i, j, names=names: 0.9 if (names[i], names[j]) in beats else 0.1))  # type: ignore[misc]
        assert names[order(ranking)[0]] == winner


def test_round_robin_asks_for_all_pairs_at_once() -> None:
    judge = by_strength([0, 2, 1, 3])
    assert order(run(round_robin(4), judge)) == [3, 1, 2, 0]
    assert len(judge.batches) == 1 and sorted(judge.pairs) == [(i, j) for i in range(4) for j in range(i + 1, 4)]


def test_a_short_round_robin_is_fair() -> None:
    """8 pairs for 8 are a circle: everybody has two."""
    ranking = run(round_robin(8, max_comparisons=8), by_strength([0.0] * 8))
    assert {place.comparisons for place in ranking.places} == {2}


def test_swiss_rounds_by_hand() -> None:
    assert swiss_pairs([3, 1, 0, 2], {}) == [(3, 1), (0, 2)]
    assert swiss_pairs([3, 1, 0, 2], {(1, 3): 0.4}) == [(3, 0), (1, 2)]
    assert swiss_pairs([0, 1, 2], {}) == [(0, 1)]
    assert swiss_pairs([0, 1], {(0, 1): 0.5}) == []


def test_the_adaptive_method_asks_in_rounds() -> None:
    judge = by_strength([float(index % 7) for index in range(16)])
    run(adaptive(16), judge)
    assert all(len(batch) <= 8 for batch in judge.batches)
    assert all(len({index for pair in batch for index in pair}) == 2 * len(batch) for batch in judge.batches), "nobody twice in a round"
    assert len(judge.pairs) <= 48


@pytest.mark.parametrize("spread", [0.1, 0.5, 1.0, 3.0, 8.0])
@pytest.mark.parametrize("num_items", [2, 5, 9, 16, 33])
def test_the_adaptive_method_finds_the_winner_of_the_round_robin(num_items: int, spread: float) -> None:
    for seed in range(20):
        source = random.Random(f"{num_items}/{spread}/{seed}")
        strengths = [source.gauss(0, spread) for _ in range(num_items)]
        judge = by_strength(strengths)
        best = order(run(adaptive(num_items), judge))[0]
        assert best == order(run(round_robin(num_items), by_strength(strengths)))[0] == max(range(num_items), key=lambda index: strengths[index])
        assert len(judge.pairs) <= 3 * num_items


@pytest.mark.parametrize("num_items", [9, 16, 32])
def test_certain_verdicts_end_the_tournament_early(num_items: int) -> None:
    strengths = list(range(num_items))
    random.Random(num_items).shuffle(strengths)
    judge = Judge(lambda i, j: float(strengths[i] > strengths[j]))
    ranking = run(adaptive(num_items), judge)
    assert ranking.is_certain and order(ranking)[0] == strengths.index(num_items - 1)
    assert len(judge.pairs) < 3 * num_items < num_items * (num_items - 1) / 2


def test_equals_are_never_certain() -> None:
    judge = by_strength([0.0] * 16)
    assert not run(adaptive(16), judge).is_certain and len(judge.pairs) == 48


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(METHODS), st.integers(2, 12), st.one_of(st.none(), st.integers(1, 40)), st.integers(0, 10**6))
def test_no_pair_twice_no_budget_exceeded_and_always_an_order(method: Callable[..., object], num_items: int, budget: int | None, seed: int) -> None:
    """Whatever the judge says, contradictions too."""
    source = random.Random(seed)
    judge = Judge(lambda i, j: source.choice([0.0, 0.1, 0.5, 0.7, 1.0]))
    ranking = run(method(num_items, max_comparisons=budget), judge)  # type: ignore[arg-type]
    assert len({frozenset(pair) for pair in judge.pairs}) == len(judge.pairs) <= num_items * (num_items - 1) / 2
    assert budget is None or len(judge.pairs) <= budget
    assert sorted(order(ranking)) == list(range(num_items))
    assert sum(place.comparisons for place in ranking.places) == 2 * len(judge.pairs)
