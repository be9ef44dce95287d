"""Compiles grammars in a thread of their own, one after the other, so that slow schemas keep nobody waiting but those who sent schemas."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from gpu_backend.server.errors import BackendError

T = TypeVar("T")
_MAX_WAITING = 32
_RETRY_AFTER_S = 5


class GrammarQueue:
    """Use from one event loop."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "grammars")
        self._num_waiting = 0

    async def run(self, work: Callable[[], T]) -> T:
        """Raises server_is_overloaded at once when too many wait already."""
        if self._num_waiting >= _MAX_WAITING:
            message = f"Too many new schemas wait to be compiled; try again in {_RETRY_AFTER_S} s."
            raise BackendError("server_is_overloaded", message, retry_after_s=_RETRY_AFTER_S)
        self._num_waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._num_waiting -= 1
