"""An engine that drafts, with costs that always invite it, and models whose upper layers leave the token as it is or change it."""

from __future__ import annotations

from typing import Any

import torch
from prometheus_client import CollectorRegistry

from gpu_backend.config import EngineConfig
from gpu_backend.decoding.early_exit.draft_length import DraftLengths, PassCost, RoundCosts
from gpu_backend.decoding.early_exit.drafter import Drafter, HeadDrafter
from gpu_backend.engine.adapter_store import AdapterStore
from gpu_backend.engine.engine import Engine
from gpu_backend.engine.metrics import EngineMetrics
from gpu_backend.engine.model_runner import ModelRunner
from gpu_backend.layers.lora import LoraAdapter
from gpu_backend.models.causal_lm.model import CausalLM
from support import byte_tokenizer

# Only a pass through the upper layers costs anything, however many rows it has.
INVITING = RoundCosts(lower=PassCost.line(0.0, 0.0), draft=PassCost.line(0.0, 0.0), upper=PassCost.line(1.0, 0.0))


def drafting_engine(
    model: CausalLM,
    *,
    exit_layer: int = 1,
    most: int = 3,
    costs: RoundCosts = INVITING,
    end_token_ids: tuple[int, ...] = (),
    adapters: AdapterStore[LoraAdapter] | None = None,
    drafter: Drafter | None = None,
    clock: Any = None,
    **limits: Any,
) -> Engine:
    """As `tiny_engine` with drafts of up to `most` tokens; a prior of nearly 1 keeps them going while they are wrong.
    The model's own head guesses, unless there is another `drafter`."""
    config = EngineConfig(**{"max_num_sequences": 4, "max_tokens_per_step": 16, "kv_block_size": 4, "kv_cache_tokens": 256, **limits})
    runner = ModelRunner(model, config, adapters, drafter or HeadDrafter(model, exit_layer))
    extra = {} if clock is None else {"clock": clock}
    lengths = DraftLengths(costs, prior=0.999, most=most)
    return Engine("tiny", runner, byte_tokenizer(), config, end_token_ids, EngineMetrics(CollectorRegistry()), draft_lengths=lengths, **extra)


def counts(engine: Engine) -> tuple[int, int]:
    """-> tokens drafted, and how many of them became part of an answer."""
    metrics = engine._metrics
    return tuple(int(counter.labels(engine.name)._value.get()) for counter in (metrics.drafted_tokens, metrics.accepted_drafts))  # type: ignore[return-value]


def quiet_above(model: CausalLM, exit_layer: int, size: float = 0.0) -> CausalLM:
    """The same model with what the layers above the exit add to the residual stream made `size` times as large; at 0 every draft is right."""
    for block in list(model.blocks)[exit_layer:]:
        for linear in (block.output, block.mlp.down):  # type: ignore[union-attr]
            with torch.no_grad():
                linear.weight.mul_(size)  # type: ignore[union-attr, operator]
    return model
