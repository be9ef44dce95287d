"""Is the process alive, can it answer, and what has it counted. These need no secret."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from gpu_backend.server.state import ServerState

router = APIRouter()


@router.get("/live")
async def live() -> dict[str, str]:
    return {"status": "ok"}


@router.get("/ready")
async def ready(request: Request) -> JSONResponse:
    """200 once every model has run a real forward pass, and while its steps succeed."""
    state: ServerState = request.app.state.server
    if state.is_ready:
        models = [{"id": model.spec.id, "revision": model.revision} for model, _ in state.models.values()]
        return JSONResponse({"status": "ready", "models": models})
    return JSONResponse({"status": "failed" if state.status == "ready" else state.status, "models": []}, status_code=503)


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    return Response(generate_latest(request.app.state.registry), media_type=CONTENT_TYPE_LATEST)
