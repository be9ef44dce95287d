"""What the pairs judged so far say of all: a total order with scores, how often somebody won, and whether the order contradicts itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

from gpu_backend.ranking.bradley_terry import Fit, Pair, fit

# One-sided, 95 %.
_CERTAIN_ERRORS = 1.645


@dataclass(frozen=True, slots=True)
class Place:
    """One item of a ranking. `score` is its mean win probability against the others under the fit; `win_rate` the share of its own `comparisons` that it
    won, a tie counting half."""

    index: int
    score: float
    strength: float
    standard_error: float
    win_rate: float
    comparisons: int


@dataclass(frozen=True, slots=True)
class Ranking:
    """Best first. `cycles` counts triples that beat each other in a circle; `is_certain` says that the first is better than each other, at 95 %."""

    places: tuple[Place, ...]
    cycles: int
    is_certain: bool


def rank(num_items: int, probabilities: Mapping[Pair, float], *, champion: int | None = None) -> Ranking:
    """`probabilities[i, j]` as `bradley_terry.fit` takes them. Ties keep the order of the indices. A `champion` comes first whatever the fit says."""
    model = fit(num_items, probabilities)
    order = order_of(model)
    if champion is not None:
        order = [champion, *(index for index in order if index != champion)]
    places = tuple(_place(index, num_items, model, probabilities) for index in order)
    return Ranking(places, num_cycles(num_items, probabilities), is_certain(model, order))


def order_of(model: Fit) -> list[int]:
    """Indices from the strongest on. Strengths that differ by rounding only are ties."""
    return sorted(range(len(model.strengths_N)), key=lambda index: (-round(float(model.strengths_N[index]), 9), index))


def is_certain(model: Fit, order: list[int]) -> bool:
    """Who asks for an order of many wants the best of them; neighbours further down are often as good as each other, however much is compared."""
    return all(model.distance_in_errors(order[0], other) >= _CERTAIN_ERRORS for other in order[1:])


def num_cycles(num_items: int, probabilities: Mapping[Pair, float]) -> int:
    """Among triples of which all three pairs were judged. Ties make no circle."""
    beats = {(i, j) if probability > 0.5 else (j, i) for (i, j), probability in probabilities.items() if probability != 0.5}
    return sum({(i, j), (j, k), (k, i)} <= beats or {(j, i), (k, j), (i, k)} <= beats for i, j, k in combinations(range(num_items), 3))


def _place(index: int, num_items: int, model: Fit, probabilities: Mapping[Pair, float]) -> Place:
    own = [p for (i, _), p in probabilities.items() if i == index] + [1 - p for (_, j), p in probabilities.items() if j == index]
    wins = sum(1.0 if p > 0.5 else 0.5 if p == 0.5 else 0.0 for p in own)
    expected = [model.win_probability(index, other) for other in range(num_items) if other != index]
    return Place(
        index=index,
        score=sum(expected) / len(expected),
        strength=float(model.strengths_N[index]),
        standard_error=model.standard_error(index),
        win_rate=wins / len(own) if own else 0.5,
        comparisons=len(own),
    )
