"""Times the parts of a round of drafts on this machine, so that drafts are made only where they pay here."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from gpu_backend.decoding.early_exit.draft_length import DraftRule, PassCost, RoundCosts
from gpu_backend.decoding.early_exit.drafter import DraftAlone, Drafter, Guesses
from gpu_backend.engine.draft_round import VERIFY_ALL, run_upper
from gpu_backend.layers.batch import ForwardBatch
from gpu_backend.layers.kv_cache import PagedKVCache
from gpu_backend.models.causal_lm.model import CausalLM

_ROWS = (1, 2, 4, 8, 16)
_MOST_SECONDS = 0.6
ResultT = TypeVar("ResultT")
_CONTEXT_BLOCKS, _BLOCK_SIZE = 8, 16
_ALONE = 2


@torch.inference_mode()
def measure_round_costs(model: CausalLM, drafter: Drafter, num_rounds: int = 12) -> RoundCosts:
    """Milliseconds on 1 to 16 rows in the middle of contexts of 128 tokens, the best of rounds that go through all sizes, so that a disturbance costs no size
    all of its chances. A slow machine gets fewer rounds, two at least. More rows never cost less."""
    cache = model.new_cache(num_blocks=_ROWS[-1] * _CONTEXT_BLOCKS, block_size=_BLOCK_SIZE)
    batches = [_decoding_batch(num_rows, model.device) for num_rows in _ROWS]
    rounds: list[list[tuple[float, float, float]]] = []
    started = time.perf_counter()
    while len(rounds) < min(2, num_rounds) or (len(rounds) < num_rounds and time.perf_counter() - started < _MOST_SECONDS):
        rounds.append([_times(model, drafter, cache, batch) for batch in batches])
    parts = torch.tensor(rounds, dtype=torch.float64).amin(dim=0).cummax(dim=0).values
    if drafter.draft_alone is not None:
        parts[0, :2] = _times_alone(drafter.draft_alone, len(drafter.inner_layers) + 1, model, cache, len(rounds))
    lower, draft, upper = (PassCost(tuple(zip(_ROWS, part, strict=True))) for part in parts.T.tolist())
    return RoundCosts(lower=lower, draft=draft, upper=upper)


def _times_alone(draft_alone: DraftAlone, num_deep_layers: int, model: CausalLM, cache: PagedKVCache, num_rounds: int) -> Tensor:
    """Of the lower layers and of the guess, where a sequence makes its drafts in one call: the best of calls without a draft, and what two drafts add to it.
    Between two calls the upper layers run, as between two rounds: what they read pushes the drafter's weights out of the processor's cache."""
    rows, deep_RH = _decoding_batch(1, model.device, _ALONE + 1), torch.zeros(num_deep_layers, model.config.hidden_size, device=model.device)
    row = rows.first(1)

    def time_of(num_drafts: int) -> float:
        model(row, cache)
        rule = DraftRule(num_drafts, least_kept=0.0, least_to_go_on=0.0)
        return _timed(lambda x_RH: draft_alone(0, x_RH, rule, VERIFY_ALL, cache, rows.first(num_drafts + 1)), deep_RH)[1]

    lower, whole = (min(times) for times in zip(*((time_of(0), time_of(_ALONE)) for _ in range(num_rounds)), strict=True))
    return torch.tensor([lower, max(0.0, (whole - lower) / _ALONE - lower)], dtype=torch.float64)


def _times(model: CausalLM, drafter: Drafter, cache: PagedKVCache, batch: ForwardBatch) -> tuple[float, float, float]:
    """Of the lower layers, of the guess, and of the upper layers with the head."""

    def run_lower(x_NH: Tensor) -> Tensor:
        return model.run_layers(x_NH, 0, drafter.exit_layer, cache, batch)

    def guess(x_NH: Tensor) -> Guesses:
        return drafter.draft(x_NH, drafter.fuse(torch.stack([x_NH] * (len(drafter.inner_layers) + 1), dim=1)))

    def verify(x_NH: Tensor) -> Tensor:
        return model.compute_logits(run_upper(model, drafter, x_NH, cache, batch)[0])

    x_NH, lower = _timed(run_lower, model.embed(batch.token_ids_N))
    return lower, _timed(guess, x_NH)[1], _timed(verify, x_NH)[1]


def _decoding_batch(num_sequences: int, device: torch.device, num_tokens: int = 1) -> ForwardBatch:
    """So many tokens each of so many sequences, halfway through their blocks."""
    blocks_BM = torch.arange(num_sequences * _CONTEXT_BLOCKS, device=device).view(num_sequences, _CONTEXT_BLOCKS).repeat_interleave(num_tokens, dim=0)
    middle = _CONTEXT_BLOCKS // 2
    offsets_N = torch.arange(num_tokens, device=device).repeat(num_sequences)
    positions_N = middle * _BLOCK_SIZE + offsets_N
    return ForwardBatch(
        token_ids_N=torch.zeros_like(positions_N),
        positions_N=positions_N,
        slots_N=blocks_BM[:, middle] * _BLOCK_SIZE + offsets_N,
        num_decodes=len(positions_N),
        decode_blocks_BM=blocks_BM,
        decode_lengths_B=positions_N + 1,
        spans=(),
    )


def _timed(run: Callable[[Tensor], ResultT], x_NH: Tensor) -> tuple[ResultT, float]:
    started = time.perf_counter()
    result = run(x_NH)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return result, 1000 * (time.perf_counter() - started)
