"""From what a model said to what is told: a comparison, scores, a ranking."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Literal, TypedDict

from gpu_backend.ranking.methods import Judged, Method, adaptive, round_robin, scan
from gpu_backend.ranking.order import Ranking
from gpu_backend.ranking.preference import Preference
from gpu_backend.server.label_scores import LabelReader
from gpu_backend.server.rewards.comparisons import Comparisons, Judgement, Pair, flipped
from gpu_backend.server.rewards.schemas import (
    CompareRequest,
    Comparison,
    OneOrder,
    RankedAnswer,
    RankedAnswers,
    RankRequest,
    Score,
    Scores,
    TokenUsage,
    Truncated,
)


class Counts(TypedDict):
    """What every answer says of its cost."""

    num_comparisons: int
    num_forwards: int
    usage: TokenUsage


MethodName = Literal["scan", "round_robin", "adaptive"]
# What the two log-probabilities of an order are called, whichever tokens the model's row answers with.
_SLOTS = ("A", "B")
_METHODS = {"scan": scan, "round_robin": round_robin, "adaptive": adaptive}
# Up to here all pairs are few.
_MAX_ALL_PAIRS_RANKED = 8
# A response meets this many others on either side of it in the request.
_REACH = 4


async def compare(comparisons: Comparisons, reader: LabelReader, body: CompareRequest) -> Comparison:
    """Answer 0 is `a`, answer 1 is `b`."""
    judgement = (await comparisons.judged([(0, 1)], (body.order != "ba", body.order != "ab")))[0, 1]
    whole = comparisons.scale.whole([judgement])
    orders = _orders(comparisons, judgement)
    leans = [order.probability_a - 0.5 for order in orders]
    is_consistent = None if len(orders) < 2 else judgement.is_same or leans[0] * leans[1] >= 0
    margin = abs(2 * whole.probability - 1)
    is_tie = body.allow_tie and (judgement.is_same or whole.probability == 0.5 or margin < body.tie_margin or is_consistent is False)
    fitted = comparisons.fitted
    return Comparison(
        winner="tie" if is_tie else "a" if whole.probability >= 0.5 else "b",
        probability_a=whole.probability,
        margin=margin,
        logit=whole.logit,
        raw=whole.raw,
        consistent=is_consistent,
        position_bias_delta=_position_bias(comparisons, judgement) if len(orders) == 2 else None,
        orders=orders,
        criteria={name: preference.probability for name, preference in _by_criterion(comparisons, [judgement])},
        truncated=Truncated(input=fitted.question_is_cut, a=fitted.answer_is_cut[0], b=fitted.answer_is_cut[1]),
        **_counts(comparisons, reader),
    )


def _orders(comparisons: Comparisons, judgement: Judgement) -> list[OneOrder]:
    orders = []
    for first, scores, turn in (("a", judgement.first, 1), ("b", judgement.second, -1)):
        if scores:
            probability = comparisons.scale.of_order(scores, turn).probability
            logprobs = dict(zip(_SLOTS, scores[0].logprobs, strict=True))
            orders.append(OneOrder.model_validate({"first": first, "probability_a": probability, "logprobs": logprobs}))
    return orders


def _position_bias(comparisons: Comparisons, judgement: Judgement) -> float:
    """How far apart the two orders are, in the mean over the criteria."""
    one_by_one = [Judgement(judgement.first, (), is_same=False), Judgement((), judgement.second, is_same=False)]
    gaps = []
    for criterion in range(len(comparisons.criteria)):
        first, second = (comparisons.scale.of_criterion([order], criterion).probability for order in one_by_one)
        gaps.append(abs(first - second))
    return math.fsum(gaps) / len(gaps)


async def score_against(comparisons: Comparisons, reader: LabelReader, num_responses: int) -> Scores:
    """Each response against the answer that comes after all of them."""
    judged = await comparisons.judged([(index, num_responses) for index in range(num_responses)])
    return _scores(comparisons, reader, [[judged[index, num_responses]] for index in range(num_responses)])


async def score_among(comparisons: Comparisons, reader: LabelReader, num_responses: int) -> Scores:
    """Each against all others, or against 8 neighbours in a ring where there are more: every pair is judged once and counts for both."""
    pairs = ring(num_responses)
    judged = await comparisons.judged(pairs)
    met: list[list[Judgement]] = [[] for _ in range(num_responses)]
    for i, j in pairs:
        met[i].append(judged[i, j])
        met[j].append(flipped(judged[i, j]))
    return _scores(comparisons, reader, met)


def ring(num_items: int) -> list[Pair]:
    if num_items <= 2 * _REACH + 1:
        return list(combinations(range(num_items), 2))
    return [(index, (index + step) % num_items) for index in range(num_items) for step in range(1, _REACH + 1)]


def _scores(comparisons: Comparisons, reader: LabelReader, met: Sequence[Sequence[Judgement]]) -> Scores:
    data = []
    for index, judgements in enumerate(met):
        whole = comparisons.scale.whole(judgements)
        data.append(
            Score(
                index=index,
                probability=whole.probability,
                logit=whole.logit,
                raw=whole.raw,
                criteria={name: preference.probability for name, preference in _by_criterion(comparisons, judgements)},
                truncated=comparisons.fitted.question_is_cut or comparisons.fitted.answer_is_cut[index],
                input_tokens=comparisons.input_tokens_of(index),
            )
        )
    return Scores(data=data, **_counts(comparisons, reader))


async def rank(comparisons: Comparisons, reader: LabelReader, body: RankRequest) -> RankedAnswers:
    name = _method_of(body)
    ranking = await _drive(_METHODS[name](len(body.responses), max_comparisons=body.max_comparisons), comparisons)
    fitted = comparisons.fitted
    return RankedAnswers(
        method=name,
        results=[
            RankedAnswer(
                index=place.index,
                rank=rank,
                score=place.score,
                strength=place.strength,
                standard_error=place.standard_error,
                win_rate=place.win_rate,
                comparisons=place.comparisons,
            )
            for rank, place in enumerate(ranking.places, 1)
        ],
        best_index=ranking.places[0].index,
        cycles=ranking.cycles,
        is_certain=ranking.is_certain,
        truncated=[fitted.question_is_cut or is_cut for is_cut in fitted.answer_is_cut],
        **_counts(comparisons, reader),
    )


def _method_of(body: RankRequest) -> MethodName:
    if body.method == "auto":
        return "round_robin" if len(body.responses) <= _MAX_ALL_PAIRS_RANKED else "adaptive"
    return body.method


async def _drive(method: Method, comparisons: Comparisons) -> Ranking:
    """As `methods.run`, with a model for a judge."""
    try:
        pairs = next(method)
        while True:
            judged = await comparisons.judged(pairs)
            probabilities: Judged = {pair: comparisons.scale.whole([judged[pair]]).probability for pair in pairs}
            pairs = method.send(probabilities)
    except StopIteration as end:
        ranking: Ranking = end.value
        return ranking


def _by_criterion(comparisons: Comparisons, judgements: Sequence[Judgement]) -> list[tuple[str, Preference]]:
    """Nothing where the caller named none."""
    return [(criterion.name, comparisons.scale.of_criterion(judgements, index)) for index, criterion in enumerate(comparisons.criteria) if criterion.name]


def _counts(comparisons: Comparisons, reader: LabelReader) -> Counts:
    usage = TokenUsage(input_tokens=reader.input_tokens, cached_tokens=reader.cached_tokens)
    return {"num_comparisons": comparisons.num_comparisons, "num_forwards": reader.num_forwards, "usage": usage}
