"""The closed list of error codes on the backend's side, and the one place that turns failures into answers."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

logger = logging.getLogger(__name__)

# The subset of test/contract/errors.json that a backend may answer: code -> (status, type).
CODES = {
    "invalid_json": (400, "invalid_request_error"),
    "missing_required_parameter": (400, "invalid_request_error"),
    "invalid_type": (400, "invalid_request_error"),
    "invalid_value": (400, "invalid_request_error"),
    "unknown_parameter": (400, "invalid_request_error"),
    "unsupported_value": (400, "invalid_request_error"),
    "context_length_exceeded": (400, "invalid_request_error"),
    "upstream_auth_error": (401, "server_error"),
    "model_not_found": (404, "not_found_error"),
    "not_found": (404, "not_found_error"),
    "unknown_url": (404, "not_found_error"),
    "method_not_allowed": (405, "invalid_request_error"),
    "request_too_large": (413, "invalid_request_error"),
    "internal_error": (500, "server_error"),
    "server_is_overloaded": (503, "service_unavailable_error"),
    "model_loading": (503, "service_unavailable_error"),
    "deadline_exceeded": (504, "server_error"),
}


class BackendError(Exception):
    """A failure with a code of the closed list and a message written for callers."""

    def __init__(self, code: str, message: str, *, param: str | None = None, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s


def envelope(code: str, message: str, request_id: str | None, param: str | None = None) -> dict[str, Any]:
    """OpenAI's error body."""
    return {"error": {"message": message, "type": CODES[code][1], "code": code, "param": param, "request_id": request_id}}


def install(app: FastAPI) -> None:
    """Every way to fail ends in the envelope; text of unknown failures goes to the log only."""

    def answer(request: Request, error: BackendError) -> JSONResponse:
        headers = {"retry-after": str(error.retry_after_s)} if error.retry_after_s is not None else {}
        body = envelope(error.code, error.message, request.headers.get("x-request-id"), error.param)
        return JSONResponse(body, status_code=CODES[error.code][0], headers=headers)

    @app.exception_handler(BackendError)
    async def on_backend_error(request: Request, error: BackendError) -> JSONResponse:
        return answer(request, error)

    @app.exception_handler(RequestValidationError)
    async def on_invalid_body(request: Request, error: RequestValidationError) -> JSONResponse:
        return answer(request, _of_validation(error))

    @app.exception_handler(HTTPException)
    async def on_http_error(request: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == 400:
            return answer(request, BackendError("invalid_json", "The request body could not be parsed as JSON."))
        code = "method_not_allowed" if error.status_code == 405 else "unknown_url"
        return answer(request, BackendError(code, f"{request.method} {request.url.path} is not an operation of this backend."))

    @app.exception_handler(Exception)
    async def on_unknown(request: Request, error: Exception) -> JSONResponse:
        logger.error("unexpected failure", exc_info=error)
        return answer(request, BackendError("internal_error", "The backend failed while it handled this request."))


def _of_validation(error: RequestValidationError) -> BackendError:
    """The first issue, named the way OpenAI names parameters: messages[0].content. The value itself is not repeated."""
    issue = error.errors()[0]
    kind = issue["type"]
    path = issue["loc"][1:]
    param = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".") or None
    if kind == "json_invalid":
        return BackendError("invalid_json", "The request body is not valid JSON.")
    if kind == "missing":
        return BackendError("missing_required_parameter", f"{param or 'The request body'} is required.", param=param)
    if kind == "extra_forbidden":
        return BackendError("unknown_parameter", f"{param} is not a parameter of this operation.", param=param)
    code = "invalid_type" if kind.endswith(("_type", "_parsing")) else "invalid_value"
    return BackendError(code, f"{param or 'The request body'}: {issue['msg']}.", param=param)
