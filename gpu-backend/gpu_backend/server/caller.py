"""Who calls, as the engine needs to know it: until when they wait, and whose cached prompts they may meet."""

from __future__ import annotations

import hashlib
import json
import time

from fastapi import Request

from gpu_backend.server.errors import BackendError

_MAX_DEADLINE_MS = 24 * 3600 * 1000


def deadline_of(request: Request) -> float | None:
    """`x-deadline-ms` on the clock of `time.monotonic`."""
    header = request.headers.get("x-deadline-ms")
    if header is None:
        return None
    if not header.isascii() or not header.isdigit() or len(header) > 12 or not 0 < int(header) <= _MAX_DEADLINE_MS:
        raise BackendError("invalid_value", f"x-deadline-ms must be a whole number of milliseconds between 1 and {_MAX_DEADLINE_MS}.", param="x-deadline-ms")
    return time.monotonic() + int(header) / 1000


def cache_salt(tenant: str, end_user: str) -> bytes:
    """Whose prompts may be told apart by how fast they are answered: those of one end user of one tenant."""
    return hashlib.blake2b(json.dumps([tenant, end_user]).encode(), digest_size=16).digest()
