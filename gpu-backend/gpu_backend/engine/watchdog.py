"""Knows whether a step has been running for too long: one thread steps, another asks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Watchdog:
    """A step that never comes back, and one that took its thread down, stay overdue."""

    def __init__(self, limit_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit_s = limit_s
        self._clock = clock
        self._began_s: float | None = None

    @contextmanager
    def step(self) -> Iterator[None]:
        """Around each step. Deliberately without `finally`: what raises out of here has ended the loop of steps."""
        self._began_s = self._clock()
        yield
        self._began_s = None

    @property
    def is_overdue(self) -> bool:
        began_s = self._began_s
        return began_s is not None and self._clock() - began_s > self._limit_s
