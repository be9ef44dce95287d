"""Loads the label exit that a judge's row names."""

from __future__ import annotations

import logging

from gpu_backend.config import ConfigError, ModelSpec
from gpu_backend.decoding.early_exit.label_exit import LabelExit
from gpu_backend.engine.engine import Engine

logger = logging.getLogger(__name__)


def load_label_exit(spec: ModelSpec, engine: Engine, judge_revision: str) -> LabelExit | None:
    """None for a row without one. Raises ConfigError for one that is missing, broken, or was fitted to another judge."""
    folder = spec.label_exit_folder
    if folder is None:
        return None
    try:
        label_exit = LabelExit.load(folder)
        config = label_exit.config
        if config.judge != judge_revision:
            raise ValueError(f"it was fitted to the judge {config.judge!r}, and this one is {judge_revision!r}")
        if not 0 < config.layer < engine.num_layers or len(label_exit.direction_H) != engine.hidden_size:
            raise ValueError(f"it reads {len(label_exit.direction_H)} numbers after layer {config.layer}, which this model does not have")
    except (OSError, ValueError) as error:
        raise ConfigError(f"models.toml: {spec.id}: the label exit in {folder} cannot be used: {error}") from error
    logger.info("label exit loaded", extra={"model": spec.id, "exit_layer": config.layer, "max_risks": sorted(label_exit.gates)})
    return label_exit
