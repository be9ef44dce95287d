"""Finds the operating point of a gate that a caller names by its risk, for tokens and for verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from gpu_backend.server.errors import BackendError

_DEFAULT_RISK = 0.01
GateT = TypeVar("GateT")


def point_of(gates: Mapping[float, GateT], model: str, max_risk: float | None) -> GateT:
    """Raises BackendError, which lists the model's points, for a risk that is none of them."""
    risk = _DEFAULT_RISK if max_risk is None else max_risk
    if risk not in gates:
        message = f"{model} has operating points for a max_risk of {', '.join(map(str, sorted(gates)))}, not of {risk}."
        raise BackendError("unsupported_value", message, param="early_exit.max_risk")
    return gates[risk]
