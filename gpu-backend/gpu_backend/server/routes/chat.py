"""Step 5 of a request: body in, `engine.submit`, answer or event stream out."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from gpu_backend.core import AdapterError, AdapterNotFoundError, Delta, EngineOverloadedError, Failed, Finished, SamplingParams, UnfitRequestError
from gpu_backend.core import Request as EngineRequest
from gpu_backend.server.caller import cache_salt, deadline_of
from gpu_backend.server.chat_format import ChatFormat, sse
from gpu_backend.server.early_exit import gate_of, may_draft
from gpu_backend.server.errors import BackendError, envelope
from gpu_backend.server.prompts import check_length, encode_messages
from gpu_backend.server.response_format import to_grammar
from gpu_backend.server.schemas import ChatRequest
from gpu_backend.server.state import model_that_can
from gpu_backend.server.strict_json import StrictJsonRoute
from gpu_backend.server.tools import AnswerForm, plan_tools, require_tools, to_answer_form

if TYPE_CHECKING:
    from gpu_backend.engine.async_engine import AsyncEngine, RequestStream
    from gpu_backend.server.served_model import ServedModel

router = APIRouter(route_class=StrictJsonRoute)
logger = logging.getLogger(__name__)


@router.post("/internal/chat")
async def create_chat(request: Request, body: ChatRequest) -> Response:
    deadline_s = deadline_of(request)
    model, engine = model_that_can(request, body.model, "chat")
    require_tools(request, model, body.messages, has_tools=bool(body.tools))
    plan = plan_tools(model, body)
    prompt_ids = await encode_messages(model, body.messages, None if plan is None else plan.shown)
    max_tokens = check_length(model, len(prompt_ids), body.max_tokens)
    form = await to_answer_form(model, plan, await to_grammar(model, body.response_format))
    sampling = _sampling(body, model, max_tokens, form)
    engine_request = EngineRequest(
        id=body.id,
        prompt_ids=tuple(prompt_ids),
        task=sampling,
        num_choices=body.n,
        deadline_s=deadline_s,
        tenant=body.tenant,
        priority=body.priority,
        cache_salt=cache_salt(body.tenant, body.end_user),
        adapter=_adapter_of(model, body),
    )
    stream = await _submit(engine, engine_request)
    fmt = ChatFormat(body, model)
    logger.info("chat admitted", extra={"id": body.id, "model": body.model, "prompt_tokens": len(prompt_ids), "stream": body.stream})
    if body.stream:
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(_events(stream, fmt, request.headers.get("x-request-id")), media_type="text/event-stream", headers=headers)
    return JSONResponse(await _whole(request, stream, fmt))


async def _submit(engine: AsyncEngine, engine_request: EngineRequest) -> RequestStream:
    """Admit to the engine, or say what is wrong with the adapter, or how long to wait."""
    try:
        async with engine.holding(engine_request.adapter):
            return engine.submit(engine_request)
    except AdapterNotFoundError as error:
        raise BackendError("not_found", "This backend does not have the adapter; store it here first.", param="adapter") from error
    except AdapterError as error:
        raise BackendError("invalid_value", f"The adapter cannot be used: {error}.", param="adapter") from error
    except UnfitRequestError as error:
        raise BackendError("invalid_value", f"The model cannot take this request: {error}.", param="messages") from error
    except EngineOverloadedError as error:
        message = f"The server takes no more requests at the moment; try again in {error.retry_after_s} s."
        raise BackendError("server_is_overloaded", message, retry_after_s=error.retry_after_s) from error


async def _events(stream: RequestStream, fmt: ChatFormat, request_id: str | None) -> AsyncIterator[bytes]:
    """The bytes the caller will see. When the client leaves, this generator is closed and the request cancelled."""
    try:
        yield fmt.opening()
        async for event in stream:
            if isinstance(event, Delta):
                yield fmt.chunk(event)
            elif isinstance(event, Finished):
                yield fmt.closing(event)
            elif isinstance(event, Failed):
                yield sse(envelope(event.code, event.message, request_id, event.param))
    finally:
        stream.cancel()


async def _whole(request: Request, stream: RequestStream, fmt: ChatFormat) -> dict[str, object]:
    """Collect the answer, while watching for a client that leaves."""

    async def watch() -> None:
        while not await request.is_disconnected():
            await asyncio.sleep(0.25)
        stream.cancel()

    watcher = asyncio.create_task(watch())
    deltas: list[Delta] = []
    try:
        async for event in stream:
            if isinstance(event, Delta):
                deltas.append(event)
            elif isinstance(event, Failed):
                raise BackendError(event.code, event.message, param=event.param)
            elif isinstance(event, Finished):
                return fmt.whole(deltas, event)
        raise BackendError("internal_error", "The client left.")
    finally:
        watcher.cancel()
        stream.cancel()


def _adapter_of(model: ServedModel, body: ChatRequest) -> str | None:
    """The model's own, or the caller's; there is no sum of two."""
    if model.adapter is not None and body.adapter is not None:
        raise BackendError("unsupported_value", f"{body.model} is an adapter itself and takes no other.", param="adapter")
    return model.adapter or body.adapter


def _sampling(body: ChatRequest, model: ServedModel, max_tokens: int, form: AnswerForm) -> SamplingParams:
    bias = {}
    for key, value in body.logit_bias.items():
        if not key.isascii() or not key.isdigit() or len(key) > 9 or int(key) >= model.vocab_size:
            raise BackendError("invalid_value", f"logit_bias: {key[:32]!r} is not a token id of {body.model}.", param="logit_bias")
        bias[int(key)] = value
    return SamplingParams(
        max_tokens=max_tokens,
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=body.top_k,
        seed=body.seed if body.seed is not None else random.getrandbits(63),
        stop=tuple(body.stop),
        frequency_penalty=body.frequency_penalty,
        presence_penalty=body.presence_penalty,
        logit_bias=bias,
        logprobs=body.logprobs,
        top_logprobs=body.top_logprobs,
        grammar=form.grammar,
        grammar_trigger=form.trigger,
        tool_call_tokens=form.tool_call_tokens,
        drafts=may_draft(model, body),
        gate=gate_of(model, body),
    )
