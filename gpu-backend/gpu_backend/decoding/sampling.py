"""Chooses the next token of each row from its logits, each with the parameters and the random numbers of its own request.

A row's choice depends on its own logits, parameters and seed only, never on the rows beside it. K rows, V tokens, C chunks of the vocabulary.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpu_backend.core import GrammarError, SamplingParams, TokenLogprob
from gpu_backend.decoding.grammar import GrammarState
from gpu_backend.decoding.truncation import keep_best

_CHUNK = 128


@dataclass(slots=True)
class SamplerState:
    """What one choice remembers between steps: its random numbers and how often it produced each token."""

    params: SamplingParams
    random: random.Random
    grammar: GrammarState | None = None
    counts: dict[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, params: SamplingParams, choice: int, grammar: GrammarState | None = None) -> SamplerState:
        """Choices of one seeded request draw different numbers, the same ones in every run."""
        return cls(params, random.Random(None if params.seed is None else f"{params.seed}/{choice}"), grammar)


def sample(logits_KV: Tensor, states: list[SamplerState]) -> list[TokenLogprob | GrammarError]:
    """One token per row of float32 logits, or the reason why a row's grammar cannot go on. Updates each state's counts.

    The log-probability is 0.0 unless the request asked for it.
    """
    adjusted_KV, errors = _adjust(logits_KV, states)
    result: list[TokenLogprob | GrammarError] = []
    for row, token_id in enumerate(_choose(adjusted_KV, states)):
        error = errors.get(row) or _accept(token_id, states[row])
        result.append(error or _with_logprob(logits_KV[row], token_id, states[row].params))
    return result


def _accept(token_id: int, state: SamplerState) -> GrammarError | None:
    if state.grammar is not None:
        try:
            state.grammar.consume(token_id)
        except GrammarError as error:
            return error
    state.counts[token_id] = state.counts.get(token_id, 0) + 1
    return None


def _adjust(logits_KV: Tensor, states: list[SamplerState]) -> tuple[Tensor, dict[int, GrammarError]]:
    """-> the logits to choose from (a copy only where some row needs one), and the rows whose grammar gave up."""
    rows = [row for row, state in enumerate(states) if _is_adjusted(state)]
    if not rows:
        return logits_KV, {}
    adjusted_KV = logits_KV.clone()
    errors: dict[int, GrammarError] = {}
    for row in rows:
        try:
            _adjust_row(adjusted_KV[row], states[row])
        except GrammarError as error:
            errors[row] = error
    return adjusted_KV, errors


def _is_adjusted(state: SamplerState) -> bool:
    params = state.params
    has_penalties = bool(state.counts) and (params.frequency_penalty != 0 or params.presence_penalty != 0)
    return state.grammar is not None or has_penalties or bool(params.logit_bias)


def _adjust_row(logits_V: Tensor, state: SamplerState) -> None:
    """Penalties on tokens this choice produced, as OpenAI defines them (count * frequency + presence), then the bias, and nothing that breaks the grammar."""
    params = state.params
    if state.counts and (params.frequency_penalty or params.presence_penalty):
        ids = torch.tensor(list(state.counts), device=logits_V.device)
        counts = torch.tensor(list(state.counts.values()), dtype=logits_V.dtype, device=logits_V.device)
        logits_V[ids] -= counts * params.frequency_penalty + params.presence_penalty
    if params.logit_bias:
        ids = torch.tensor(list(params.logit_bias), device=logits_V.device)
        logits_V[ids] += torch.tensor(list(params.logit_bias.values()), dtype=logits_V.dtype, device=logits_V.device)
    if state.grammar is not None:
        state.grammar.mask_(logits_V)


def _choose(logits_KV: Tensor, states: list[SamplerState]) -> list[int]:
    """The best token of greedy rows, a drawn one of the others."""
    drawn = [row for row, state in enumerate(states) if not state.params.is_greedy]
    if not drawn:
        return _best(logits_KV)
    best = _best(logits_KV) if len(drawn) < len(states) else [0] * len(states)
    for row, logits_V in zip(drawn, _rows(logits_KV, drawn).cpu().numpy(), strict=True):
        best[row] = _draw(logits_V, states[row])
    return best


def _rows(logits_KV: Tensor, rows: list[int]) -> Tensor:
    return logits_KV if len(rows) == len(logits_KV) else logits_KV[rows]


def _best(logits_KV: Tensor) -> list[int]:
    # numpy finds the place of a maximum several times faster than torch does on a CPU; both take the first of equals.
    best_K: list[int] = logits_KV.numpy().argmax(-1).tolist() if logits_KV.device.type == "cpu" else logits_KV.argmax(-1).tolist()
    return best_K


def _draw(logits_V: NDArray[np.float32], state: SamplerState) -> int:
    """A token at one uniform random number, by the inverse of the cumulative distribution in float64, so that 50,000 small terms add up."""
    params, uniform = state.params, state.random.random()
    # A softmax without its division.
    weights_V = logits_V / np.float32(params.temperature)
    weights_V -= weights_V.max()
    np.exp(weights_V, out=weights_V)
    ends_C = np.add.reduceat(weights_V, np.arange(0, len(weights_V), _CHUNK), dtype=np.float64).cumsum()
    total = float(ends_C[-1])
    if math.isnan(total):
        # A broken model has no distribution. Any token will do: the request still ends by its own limits.
        return 0
    if params.top_k or params.top_p < 1.0:
        kept, ids = keep_best(weights_V, params.top_k, params.top_p, total)
        cumulative = kept.cumsum(dtype=np.float64)
        return int(ids[_first_above(cumulative, uniform * float(cumulative[-1]))])
    # First the chunk of the vocabulary, then the token in it: one long sum would take longer than all the rest.
    chunk = _first_above(ends_C, uniform * total)
    before = float(ends_C[chunk - 1]) if chunk else 0.0
    inside = before + weights_V[chunk * _CHUNK : (chunk + 1) * _CHUNK].cumsum(dtype=np.float64)
    return chunk * _CHUNK + _first_above(inside, uniform * total)


def _first_above(cumulative: NDArray[Any], point: float) -> int:
    """The first place where the sum exceeds the point, or its last increase where rounding put the point at the end: never a term of weight 0."""
    return int(np.searchsorted(cumulative, min(point, float(np.nextafter(cumulative[-1], 0.0))), side="right"))


def _with_logprob(logits_V: Tensor, token_id: int, params: SamplingParams) -> TokenLogprob:
    if not params.logprobs:
        return TokenLogprob(token_id, 0.0)
    logprobs_V = torch.log_softmax(logits_V, dim=-1)
    top: tuple[tuple[int, float], ...] = ()
    if params.top_logprobs:
        values, ids = logprobs_V.topk(params.top_logprobs)
        top = tuple(zip(ids.tolist(), values.tolist(), strict=True))
    return TokenLogprob(token_id, float(logprobs_V[token_id]), top)
