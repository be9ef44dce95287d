"""Names the request and its trace in every log line that is written while it is handled."""

from __future__ import annotations

import re

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from gpu_backend.logs import request_facts

_MAX_ID_LENGTH = 128
# W3C Trace Context: version, trace id, parent id, flags; a trace id of zeros means none.
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")


class LogFacts:
    """Plain ASGI. The facts are never taken back: each request has a task, and so a context, of its own, and its last line is written after this returns."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            request_facts.set(_facts_of(Headers(scope=scope)))
        await self._app(scope, receive, send)


def _facts_of(headers: Headers) -> dict[str, str]:
    facts = {}
    if "x-request-id" in headers:
        facts["request_id"] = headers["x-request-id"][:_MAX_ID_LENGTH]
    trace = _TRACEPARENT.fullmatch(headers.get("traceparent", ""))
    if trace is not None:
        facts["trace_id"] = trace[1]
    return facts
