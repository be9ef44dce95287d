"""What this backend serves."""

from __future__ import annotations

from fastapi import APIRouter, Request

from gpu_backend.server.errors import BackendError
from gpu_backend.server.schemas import ModelInfo, ModelList
from gpu_backend.server.state import ServerState

router = APIRouter()


@router.get("/internal/models")
async def list_models(request: Request) -> ModelList:
    state: ServerState = request.app.state.server
    if state.status == "loading":
        raise BackendError("model_loading", "The models are still loading; try again in a few seconds.", retry_after_s=5)
    return ModelList(
        data=[
            ModelInfo(
                id=model.spec.id,
                created=model.spec.created,
                owned_by=model.spec.owned_by,
                revision=model.revision,
                context_length=model.context_length,
                capabilities=model.capabilities,
                languages=model.spec.languages,
                license=model.spec.license,
                shutdown_date=model.spec.shutdown_date,
            )
            for model, _ in state.models.values()
        ]
    )
