"""Waits until nobody else uses the machine: with two threads that meet after every operator, one busy stranger slows both down many times."""

from __future__ import annotations

import time
from pathlib import Path

_LIMIT_CORES = 0.25
_SAMPLE_S = 0.5
_MAX_WAIT_S = 45.0


def wait_until_quiet() -> float:
    """-> how many cores were busy in the last half second of this process' sleep; after 45 s it gives up and the measurement is taken as it is."""
    deadline = time.monotonic() + _MAX_WAIT_S
    while True:
        busy = _busy_cores()
        if busy <= _LIMIT_CORES or time.monotonic() > deadline:
            return round(busy, 2)


def _busy_cores() -> float:
    before = _busy_seconds()
    time.sleep(_SAMPLE_S)
    return (_busy_seconds() - before) / _SAMPLE_S


def _busy_seconds() -> float:
    """Over all cores, from Linux's own count; 0 elsewhere."""
    try:
        ticks = [int(field) for field in Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]]
    except OSError:
        return 0.0
    return (sum(ticks[:3]) + sum(ticks[5:8])) / 100
