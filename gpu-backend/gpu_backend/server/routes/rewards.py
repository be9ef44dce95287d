"""Comparing, scoring and ranking answers with a model that judges."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from fastapi import APIRouter, Request

from gpu_backend.models.reward.judge import Judge
from gpu_backend.server.caller import cache_salt, deadline_of
from gpu_backend.server.errors import BackendError
from gpu_backend.server.label_scores import Caller, LabelReader, reading
from gpu_backend.server.leaving import unless_client_leaves
from gpu_backend.server.rewards import verdicts
from gpu_backend.server.rewards.comparisons import Comparisons
from gpu_backend.server.rewards.depth import depth_of, gate_of
from gpu_backend.server.rewards.schemas import CompareRequest, Comparison, RankedAnswers, RankRequest, RewardAnswer, RewardRequest, ScoreRequest, Scores
from gpu_backend.server.state import model_that_can
from gpu_backend.server.strict_json import StrictJsonRoute

router = APIRouter(route_class=StrictJsonRoute)
T = TypeVar("T", bound=RewardAnswer)


@dataclass(frozen=True, slots=True)
class Setting:
    """What a call of this module works with."""

    judge: Judge
    reader: LabelReader
    comparisons: Comparisons


@router.post("/internal/rewards/compare")
async def compare(request: Request, body: CompareRequest) -> Comparison:
    def work(at: Setting) -> Awaitable[Comparison]:
        return verdicts.compare(at.comparisons, at.reader, body)

    return await _judging(request, body, lambda _: {"a": body.a, "b": body.b}, work)


@router.post("/internal/rewards/score")
async def score(request: Request, body: ScoreRequest) -> Scores:
    if (body.against == "reference") != (body.reference is not None):
        raise BackendError("invalid_value", "reference is needed with against: reference, and only there.", param="reference")
    if body.against == "others" and len(body.responses) < 2:
        raise BackendError("invalid_value", "responses: one alone has no others to be compared with.", param="responses")

    def answers(judge: Judge) -> dict[str, str]:
        other = {} if body.against == "others" else {"reference": judge.spec.anchor if body.reference is None else body.reference}
        return {**_named(body.responses), **other}

    def work(at: Setting) -> Awaitable[Scores]:
        do = verdicts.score_among if body.against == "others" else verdicts.score_against
        return do(at.comparisons, at.reader, len(body.responses))

    return await _judging(request, body, answers, work)


@router.post("/internal/rewards/rank")
async def rank(request: Request, body: RankRequest) -> RankedAnswers:
    return await _judging(request, body, lambda _: _named(body.responses), lambda at: verdicts.rank(at.comparisons, at.reader, body))


async def _judging(request: Request, body: RewardRequest, answers: Callable[[Judge], dict[str, str]], work: Callable[[Setting], Awaitable[T]]) -> T:
    """Find the model, cut the texts to what it reads, do the work; all of it ends when the client leaves."""
    deadline_s = deadline_of(request)
    model, engine = model_that_can(request, body.model, "reward")
    judge = model.judge
    assert judge is not None, "a row with the capability has a judge"
    gate = gate_of(model, body)
    caller = Caller(deadline_s=deadline_s, tenant=body.tenant, priority=body.priority, cache_salt=cache_salt(body.tenant, body.end_user), adapter=model.adapter)

    async def run() -> T:
        async with reading(engine, caller, gate) as reader:
            comparisons = await Comparisons.prepare(judge, reader, body, answers(judge))
            answer = await work(Setting(judge, reader, comparisons))
            answer.early_exit = depth_of(model, body, reader)
            return answer

    return await unless_client_leaves(request, run())


def _named(responses: list[str]) -> dict[str, str]:
    return {f"responses[{index}]": text for index, text in enumerate(responses)}
