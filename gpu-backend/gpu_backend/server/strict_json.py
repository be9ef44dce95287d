"""Parses bodies as JSON in the strict sense: no NaN, no repeated names, no half surrogate pairs, each with its own error."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

from fastapi import Request, Response
from fastapi.routing import APIRoute

from gpu_backend.server.errors import BackendError

_MAX_PATH = 200
# UTF-8 holds none, so only an escape can make half a pair, and most bodies need no second look.
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")


class StrictJsonRoute(APIRoute):
    """A route whose body goes through `parse`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            strict = _StrictRequest(request.scope, request.receive)
            # Here, because what the handler's own reading raises would all become one error.
            await strict.json()
            return await handler(strict)

        return handle


class _StrictRequest(Request):
    _value: Any = None

    async def json(self) -> Any:
        if self._value is None:
            self._value = parse(await self.body())
        return self._value


def parse(body: bytes) -> Any:
    """Raises BackendError."""
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise BackendError("invalid_json", "The request body is not valid JSON.") from error
    if _SURROGATE_ESCAPE.search(body):
        _refuse_lone_surrogates(value)
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise ValueError("a name is repeated")
    return result


def _refuse_lone_surrogates(root: Any) -> None:
    """Walks without recursion, with the way to each value as a chain of (parent, key)."""
    stack: list[tuple[Any, Any]] = [(root, None)]
    while stack:
        value, way = stack.pop()
        if isinstance(value, str):
            if not _is_text(value):
                raise _lone_surrogate(way)
        elif isinstance(value, dict | list):
            for key, child in value.items() if isinstance(value, dict) else enumerate(value):
                if isinstance(key, str) and not _is_text(key):
                    raise _lone_surrogate(way)
                stack.append((child, (way, key)))


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _lone_surrogate(way: Any) -> BackendError:
    keys: list[Any] = []
    while way is not None:
        way, key = way
        keys.append(key)
    param = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in reversed(keys)).lstrip(".")[:_MAX_PATH]
    return BackendError("invalid_value", f"{param or 'The request body'} holds half of a surrogate pair, which is not text.", param=param or None)
