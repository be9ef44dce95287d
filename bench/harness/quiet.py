"""Waits until nobody else uses the machine: with two threads that meet after every operator, one busy stranger slows both down many times."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import IO

_LIMIT_CORES = 0.25
_SAMPLE_S = 0.5
_MAX_WAIT_S = 45.0
_held: list[IO[str]] = []


def be_the_only_bench() -> None:
    """Waits for another bench of this checkout to end: two at once measure each other. The system lets go of the lock with the process."""
    if os.name != "posix":
        return
    import fcntl

    folder = Path(os.environ["ATTUNE_MODELS_DIR"]).parent / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    _held.append((folder / "lock").open("w", encoding="utf-8"))
    fcntl.flock(_held[0], fcntl.LOCK_EX)


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
