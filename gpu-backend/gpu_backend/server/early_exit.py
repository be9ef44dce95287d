"""What `early_exit` of a chat request means for its model, and what the answer says about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gpu_backend.core import Finished, TokenGate
from gpu_backend.server.errors import BackendError
from gpu_backend.server.operating_points import point_of
from gpu_backend.server.schemas import ChatRequest

if TYPE_CHECKING:
    from gpu_backend.server.served_model import ServedModel


def may_draft(model: ServedModel, body: ChatRequest) -> bool:
    """Whether the engine may draft tokens for this request; it does so only while that pays. Raises BackendError where the model cannot do what is asked."""
    mode = "auto" if body.early_exit is None else body.early_exit.mode
    if mode == "lossless" and model.engine.exit_layer is None:
        raise BackendError("unsupported_value", f"{body.model} has no exit adapter, so no token can leave early.", param="early_exit.mode")
    return mode != "off" and model.engine.exit_layer is not None


def gate_of(model: ServedModel, body: ChatRequest) -> TokenGate | None:
    """The gate at the operating point that was asked for; None for any mode but `gated`. Raises BackendError where the model has no such point."""
    if body.early_exit is None or body.early_exit.mode != "gated":
        return None
    if not model.exit_gates:
        message = f"{body.model} has no operating point for gated early exit: none was shown to hold its risk and to be faster than lossless. Use 'auto'."
        raise BackendError("unsupported_value", message, param="early_exit.mode")
    if body.adapter is not None:
        message = "The risk of gated early exit is known for the model as it is, not with an adapter: leave 'adapter' out, or use 'auto'."
        raise BackendError("unsupported_value", message, param="early_exit.mode")
    return point_of(model.exit_gates, body.model, body.early_exit.max_risk)


def exit_object(model: ServedModel, body: ChatRequest, finished: Finished) -> dict[str, Any]:
    """The field `early_exit` of an answer; empty where the request did not name it.

    A draft that became part of the answer left at the exit layer: the layers above ran once for it and its neighbours together. All other tokens left at the
    last layer. Where every token was verified the least confidence is 1.
    """
    if body.early_exit is None:
        return {}
    engine, accepted = model.engine, finished.accepted_drafts
    saved = 0 if engine.exit_layer is None else accepted * (engine.num_layers - engine.exit_layer)
    mean = engine.num_layers - saved / max(1, finished.usage.completion_tokens)
    mode = "gated" if body.early_exit.mode == "gated" else "lossless" if may_draft(model, body) else "off"
    depth = {"mean_exit_layer": round(mean, 3), "layers_saved": saved, "accepted_drafts": accepted}
    return {"early_exit": {"mode": mode, **depth, "min_confidence": finished.min_confidence}}
