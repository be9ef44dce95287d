"""The row of the catalog that a command is about."""

from __future__ import annotations

from pathlib import Path

from gpu_backend.config import ConfigError, ModelSpec, load_catalog


def chat_row(catalog: Path, model: str) -> ModelSpec:
    """Raises ConfigError."""
    spec = next((spec for spec in load_catalog(catalog) if spec.id == model), None)
    if spec is None or "chat" not in spec.capabilities:
        raise ConfigError(f"{catalog} has no row {model!r} with the capability chat")
    return spec
