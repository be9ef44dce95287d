"""Refuses bodies above a fixed size before anything parses them, also when no Content-Length announced them."""

from __future__ import annotations

from fastapi import Request
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gpu_backend.adapters.content import MAX_CONTENT_BYTES
from gpu_backend.server.errors import envelope

MAX_BODY_BYTES = 4 * 1024 * 1024
# What the edge takes, and room for what it adds.
MAX_REWARD_BODY_BYTES = 9 * 1024 * 1024


class BodyLimit:
    """Plain ASGI, so that it also sees streamed bodies and never buffers answers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        announced = request.headers.get("content-length", "0")
        limit = limit_of(request)
        if not announced.isdigit() or int(announced) > limit:
            await _refuse(request, limit)(scope, receive, send)
            return
        num_bytes = 0
        is_over = False

        async def counted() -> Message:
            nonlocal num_bytes, is_over
            message = await receive()
            num_bytes += len(message.get("body", b""))
            if num_bytes > limit:
                is_over = True
                return {"type": "http.request", "body": b"", "more_body": False}
            return message

        async def guarded(message: Message) -> None:
            if is_over and message["type"] == "http.response.start":
                await _refuse(request, limit)(scope, receive, send)
            elif not is_over:
                await send(message)

        await self._app(scope, counted, guarded)


def limit_of(request: Request) -> int:
    """Adapters go to disk piece by piece; everything else is held in memory."""
    if request.method == "PUT" and request.url.path.startswith("/internal/adapters/"):
        return MAX_CONTENT_BYTES
    return MAX_REWARD_BODY_BYTES if request.url.path.startswith(("/internal/rewards/", "/internal/decisions")) else MAX_BODY_BYTES


def _refuse(request: Request, limit: int) -> JSONResponse:
    message = f"The request body is larger than {limit} bytes."
    return JSONResponse(envelope("request_too_large", message, request.headers.get("x-request-id")), status_code=413)
