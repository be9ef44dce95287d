"""Ends the work for a client that has left."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request

from gpu_backend.server.errors import BackendError

T = TypeVar("T")
_LOOK_EVERY_S = 0.25


async def unless_client_leaves(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns or raises. When the client leaves first, the work is cancelled, and nobody reads the error that this then raises."""
    working = asyncio.create_task(work)
    try:
        while not (await asyncio.wait({working}, timeout=_LOOK_EVERY_S))[0]:
            if await request.is_disconnected():
                raise BackendError("internal_error", "The client left.")
        return working.result()
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
