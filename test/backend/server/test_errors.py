"""The backend's codes are the contract's codes, with the same statuses and types."""

from __future__ import annotations

from typing import Any

from gpu_backend.server.errors import CODES, envelope


def test_codes_match_the_contract(error_codes: dict[str, dict[str, Any]]) -> None:
    for code, (status, kind) in CODES.items():
        assert code in error_codes
        # To the edge a wrong secret is a 401; to the caller of the edge it is the edge's own failure, a 502.
        assert (error_codes[code]["status"], error_codes[code]["type"]) == ((502 if code == "upstream_auth_error" else status), kind), code


def test_envelope_has_openais_keys() -> None:
    assert envelope("invalid_value", "m", "req_1", "n")["error"] == {
        "message": "m",
        "type": "invalid_request_error",
        "code": "invalid_value",
        "param": "n",
        "request_id": "req_1",
    }
