"""Loads the exit adapter that a model's row names, and finds out on this machine how many drafts pay."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from gpu_backend.config import ConfigError, ModelSpec
from gpu_backend.core import TokenGate
from gpu_backend.decoding.early_exit.draft_length import DraftLengths, expected_speed_up
from gpu_backend.decoding.early_exit.drafter import AdapterDrafter
from gpu_backend.engine.pass_costs import measure_round_costs
from gpu_backend.models.causal_lm.exit_adapter import ExitAdapter
from gpu_backend.models.causal_lm.model import CausalLM

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoadedExit:
    """What drafts, how much that costs here, and the gates of the adapter's operating points by their risk."""

    drafter: AdapterDrafter
    lengths: DraftLengths
    gates: dict[float, TokenGate]


def load_exit_adapter(spec: ModelSpec, model: CausalLM, revision: str, verified_ids: frozenset[int]) -> LoadedExit | None:
    """None for a row without one. No gate lets `verified_ids` through. Raises ConfigError for one that is missing, broken, or was trained on other weights."""
    folder = spec.exit_adapter_folder
    if folder is None:
        return None
    try:
        adapter = ExitAdapter.load(folder)
        if adapter.config.base != revision:
            raise ValueError(f"it was trained on the revision {adapter.config.base!r}, and the weights are {revision!r}")
        drafter = AdapterDrafter(model, adapter)
    except (OSError, ValueError) as error:
        raise ConfigError(f"models.toml: {spec.id}: the exit adapter in {folder} cannot be used: {error}") from error
    lengths = DraftLengths(measure_round_costs(model, drafter), prior=adapter.config.acceptance)
    num_drafts = lengths.best(1, lengths.prior)
    speed_up = round(expected_speed_up(lengths.costs, lengths.prior, num_drafts), 2)
    logger.info("exit adapter loaded", extra={"model": spec.id, "exit_layer": drafter.exit_layer, "drafts": num_drafts, "expected_speed_up": speed_up})
    return LoadedExit(drafter, lengths, {point.max_risk: TokenGate(point.least_prob, verified_ids) for point in adapter.config.points})
