"""Which pairs to compare: each method asks for pairs in batches, is told how likely the first of each is the better one, and returns the ranking.

A method is a generator: it yields lists of pairs (i, j), receives a dictionary from pair to probability, and returns a `Ranking`. It never asks for a pair
twice in either order. `run` drives one with a function.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from itertools import combinations

from gpu_backend.ranking.bradley_terry import Pair, fit
from gpu_backend.ranking.order import Ranking, is_certain, order_of, rank

Judged = dict[Pair, float]
Method = Generator[list[Pair], Judged, Ranking]


def scan(num_items: int, *, max_comparisons: int | None = None) -> Method:
    """Keep the best so far and replace it when a challenger wins; a tie keeps it. One pair at a time, at most `num_items` - 1."""
    judged: Judged = {}
    best = 0
    for challenger in range(1, num_items):
        if max_comparisons is not None and len(judged) >= max_comparisons:
            break
        pair = (best, challenger)
        judged[pair] = (yield [pair])[pair]
        if judged[pair] < 0.5:
            best = challenger
    return rank(num_items, judged, champion=best)


def round_robin(num_items: int, *, max_comparisons: int | None = None) -> Method:
    """All pairs in one batch; where the budget is smaller, those that lie closest to each other in a circle, so that everybody has as many."""
    pairs = sorted(combinations(range(num_items), 2), key=lambda pair: (min(pair[1] - pair[0], num_items + pair[0] - pair[1]), pair))
    judged = yield pairs[:max_comparisons]
    return rank(num_items, judged)


def adaptive(num_items: int, *, max_comparisons: int | None = None) -> Method:
    """Rounds as in a Swiss tournament: neighbours in the present order that have not met, strongest first, a batch for each round.

    Ends when the first is certain to be the best at 95 %, when all have met, or with the budget: 3 pairs for each item unless said otherwise.
    """
    budget = 3 * num_items if max_comparisons is None else max_comparisons
    judged: Judged = {}
    order = list(range(num_items))
    while pairs := swiss_pairs(order, judged)[: budget - len(judged)]:
        judged |= yield pairs
        model = fit(num_items, judged)
        order = order_of(model)
        if is_certain(model, order):
            break
    return rank(num_items, judged)


def swiss_pairs(order: Sequence[int], judged: Judged) -> list[Pair]:
    """Each item once at most, with the nearest below it that it has not met."""
    free = list(order)
    pairs: list[Pair] = []
    while free:
        first = free.pop(0)
        second = next((other for other in free if (first, other) not in judged and (other, first) not in judged), None)
        if second is not None:
            free.remove(second)
            pairs.append((first, second))
    return pairs


def run(method: Method, judge: Callable[[list[Pair]], Judged]) -> Ranking:
    """Drive a method to its end."""
    try:
        pairs = next(method)
        while True:
            pairs = method.send(judge(pairs))
    except StopIteration as end:
        ranking: Ranking = end.value
        return ranking
