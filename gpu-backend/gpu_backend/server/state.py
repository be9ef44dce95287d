"""What the running server knows: which models are ready, and why not yet if they are not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from fastapi import Request

from gpu_backend.server.errors import BackendError

if TYPE_CHECKING:
    from gpu_backend.engine.async_engine import AsyncEngine
    from gpu_backend.server.served_model import ServedModel


@dataclass
class ServerState:
    """Lives in `app.state.server`; changed on the event loop only."""

    models: dict[str, tuple[ServedModel, AsyncEngine]] = field(default_factory=dict)
    status: Literal["loading", "ready", "draining", "failed"] = "loading"

    @property
    def is_ready(self) -> bool:
        return self.status == "ready" and not any(engine.is_failing for _, engine in self.models.values())


def model_for(request: Request, model_id: str) -> tuple[ServedModel, AsyncEngine]:
    """The model a body names. Raises model_loading while starting, model_not_found afterwards."""
    state: ServerState = request.app.state.server
    if state.status == "loading":
        raise BackendError("model_loading", "The model is still loading; try again in a few seconds.", retry_after_s=5)
    if state.status != "ready":
        raise BackendError("server_is_overloaded", "The backend is not taking requests at the moment.", retry_after_s=10)
    if model_id not in state.models:
        known = ", ".join(sorted(state.models))
        raise BackendError("model_not_found", f"The model {model_id[:128]!r} does not exist. Available: {known}.", param="model")
    return state.models[model_id]


def model_that_can(request: Request, model_id: str, *capabilities: str) -> tuple[ServedModel, AsyncEngine]:
    """As `model_for`, for an operation that needs one of these capabilities of its row. Raises unsupported_value and names the models that have one."""
    state: ServerState = request.app.state.server
    model, engine = model_for(request, model_id)
    if not set(capabilities) & set(model.spec.capabilities):
        others = sorted(name for name, (other, _) in state.models.items() if set(capabilities) & set(other.spec.capabilities))
        can = f"Models that can: {', '.join(others)}." if others else "No model that is served here can."
        raise BackendError("unsupported_value", f"{model_id} cannot do this: it has no capability {' or '.join(capabilities)!r}. {can}", param="model")
    return model, engine


def models_with_tools(request: Request) -> list[str]:
    state: ServerState = request.app.state.server
    return sorted(name for name, (model, _) in state.models.items() if model.tool_call_tokens is not None)
