"""Questions with labels about one input, answered by probabilities."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request

from gpu_backend.chat_template import TemplateRefusedError
from gpu_backend.server.caller import cache_salt, deadline_of
from gpu_backend.server.decisions.keys import option_keys
from gpu_backend.server.decisions.prompts import DecisionPrompts
from gpu_backend.server.decisions.schemas import Decision, DecisionRequest, Decisions
from gpu_backend.server.errors import BackendError
from gpu_backend.server.label_scores import Caller, Prompt, reading
from gpu_backend.server.leaving import unless_client_leaves
from gpu_backend.server.rewards.schemas import TokenUsage
from gpu_backend.server.state import model_that_can
from gpu_backend.server.strict_json import StrictJsonRoute

if TYPE_CHECKING:
    from gpu_backend.engine.async_engine import AsyncEngine
    from gpu_backend.server.served_model import ServedModel

router = APIRouter(route_class=StrictJsonRoute)


@router.post("/internal/decisions")
async def decide(request: Request, body: DecisionRequest) -> Decisions:
    deadline_s = deadline_of(request)
    model, engine = model_that_can(request, body.model, "reward", "chat")
    caller = Caller(deadline_s=deadline_s, tenant=body.tenant, priority=body.priority, cache_salt=cache_salt(body.tenant, body.end_user), adapter=model.adapter)
    return await unless_client_leaves(request, _decide(model, engine, caller, body))


async def _decide(model: ServedModel, engine: AsyncEngine, caller: Caller, body: DecisionRequest) -> Decisions:
    keys = await asyncio.to_thread(option_keys, model.tokenizer)
    prompts, is_cut = await _encode(model, [key for key, _ in keys], body)
    key_ids = [key_id for _, key_id in keys]
    asked = [Prompt(ids, tuple(key_ids[: len(question.labels)])) for ids, question in zip(prompts, body.questions, strict=True)]
    async with reading(engine, caller) as reader:
        scores = await reader.read(asked)
        usage = TokenUsage(input_tokens=reader.input_tokens, cached_tokens=reader.cached_tokens)
    return Decisions(answers=[Decision(probabilities=softmax(each.logits)) for each in scores], usage=usage, truncated=is_cut)


async def _encode(model: ServedModel, keys: list[str], body: DecisionRequest) -> tuple[list[tuple[int, ...]], bool]:
    if model.template is None:
        raise BackendError("unsupported_value", f"{model.spec.id} has no chat template, so it cannot be asked.", param="model")
    for index, question in enumerate(body.questions):
        if len(question.labels) > len(keys):
            message = f"{model.spec.id} can tell {len(keys)} labels apart, and questions[{index}] has {len(question.labels)}."
            raise BackendError("unsupported_value", message, param=f"questions[{index}].labels")
    # One place less than the context: the engine keeps room for a token after the prompt.
    prompts = DecisionPrompts(model.template, model.tokenizer, keys, model.context_length - 1)
    try:
        return await asyncio.to_thread(prompts.encode, [turn.model_dump() for turn in body.input], body.questions, may_cut=body.truncation == "auto")
    except TemplateRefusedError as error:
        raise BackendError("unsupported_value", str(error), param="input") from error


def softmax(logits: Sequence[float]) -> list[float]:
    highest = max(logits)
    powers = [math.exp(logit - highest) for logit in logits]
    total = math.fsum(powers)
    return [power / total for power in powers]
