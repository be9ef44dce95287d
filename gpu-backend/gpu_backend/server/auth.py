"""The shared secret between edge and backend."""

from __future__ import annotations

import hmac

from fastapi import Request

from gpu_backend.server.errors import BackendError


def require_secret(request: Request) -> None:
    """Compare in constant time; without a configured secret (loopback only) everybody on the machine may call."""
    expected: str | None = request.app.state.config.secret
    if expected is None:
        return
    given = request.headers.get("x-attune-secret", "")
    if not hmac.compare_digest(given.encode("utf-8", "surrogateescape"), expected.encode()):
        raise BackendError("upstream_auth_error", "x-attune-secret is missing or wrong.")
