"""What `early_exit` of a reward request means for its model, and what the answer says about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpu_backend.decoding.early_exit.label_exit import LabelExitGate
from gpu_backend.server.errors import BackendError
from gpu_backend.server.label_scores import LabelReader
from gpu_backend.server.operating_points import point_of
from gpu_backend.server.rewards.schemas import Depth, RewardRequest

if TYPE_CHECKING:
    from gpu_backend.server.served_model import ServedModel


def gate_of(model: ServedModel, body: RewardRequest) -> LabelExitGate | None:
    """The gate at the operating point that was asked for. `auto` is full depth: what leaves early is never verified, so it is for the caller to choose.
    Raises BackendError where the model cannot do what is asked."""
    asked = body.early_exit
    if asked is None or asked.mode in ("auto", "off"):
        return None
    if asked.mode == "lossless":
        message = "A verdict that leaves early is verified by nothing, so none is lossless: use 'gated', or 'off'."
        raise BackendError("unsupported_value", message, param="early_exit.mode")
    if model.label_exit is None:
        raise BackendError("unsupported_value", f"{body.model} has no label exit, so no verdict can leave early.", param="early_exit.mode")
    return point_of(model.label_exit.gates, body.model, asked.max_risk)


def depth_of(model: ServedModel, body: RewardRequest, reader: LabelReader) -> Depth | None:
    """None where the request did not name `early_exit`."""
    if body.early_exit is None:
        return None
    num_layers = model.engine.num_layers
    early = reader.early
    saved = sum(num_layers - (scores.exit_layer or num_layers) for scores in early)
    confidences = [] if model.label_exit is None else [model.label_exit.confidence(scores.logits[0] - scores.logits[1]) for scores in early]
    return Depth(
        mode="gated" if body.early_exit.mode == "gated" else "off",
        mean_exit_layer=round(num_layers - saved / max(1, reader.num_forwards), 3),
        layers_saved=saved,
        early_forwards=len(early),
        min_confidence=min(confidences, default=1.0),
    )
