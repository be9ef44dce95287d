"""Chooses the next token of each row from its logits, each with the parameters and the random numbers of its own request.

A row's choice depends on its own logits, parameters and seed only, never on the rows beside it. K rows, V tokens, C chunks of the vocabulary.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpu_backend.core import GrammarError, SamplingParams, TokenLogprob
from gpu_backend.decoding.grammar import GrammarState
from gpu_backend.decoding.truncation import keep_best

Row = NDArray[np.float32]
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


def sample(logits: Sequence[Tensor] | Tensor, states: list[SamplerState]) -> list[TokenLogprob | GrammarError]:
    """One token per row (V,) of float32 logits, or the reason why a row's grammar cannot go on. Updates each state's counts.

    The log-probability is 0.0 unless the request asked for it.
    """
    result: list[TokenLogprob | GrammarError] = []
    for row, (choice, state) in enumerate(zip(_choose(logits, states), states, strict=True)):
        outcome = choice if isinstance(choice, GrammarError) else _accept(choice, state)
        result.append(outcome if isinstance(outcome, GrammarError) else _with_logprob(logits[row], outcome, state.params))
    return result


def _accept(token_id: int, state: SamplerState) -> int | GrammarError:
    """Let the choice remember its token; -> the token, unless the grammar has come to its limits with it."""
    if state.grammar is not None:
        try:
            state.grammar.consume(token_id)
        except GrammarError as error:
            return error
    state.counts[token_id] = state.counts.get(token_id, 0) + 1
    return token_id


def _choose(logits: Sequence[Tensor] | Tensor, states: list[SamplerState]) -> list[int | GrammarError]:
    if logits[0].is_cuda and not any(_is_adjusted(state) or not state.params.is_greedy for state in states):
        # Nothing but ids has to leave the device.
        best_K: list[int | GrammarError] = torch.stack(tuple(logits)).argmax(-1).tolist()
        return best_K
    # In numpy and on one core: at this size torch spends more on waking threads than on arithmetic, most of all when they have other work.
    return [_choose_row(logits_V.cpu().numpy(), state) for logits_V, state in zip(logits, states, strict=True)]


def _choose_row(logits_V: Row, state: SamplerState) -> int | GrammarError:
    """The best token of a greedy row, a drawn one of any other."""
    if _is_adjusted(state):
        logits_V = logits_V.copy()
        try:
            _adjust(logits_V, state)
        except GrammarError as error:
            return error
    return int(logits_V.argmax()) if state.params.is_greedy else _draw(logits_V, state)


def _is_adjusted(state: SamplerState) -> bool:
    params = state.params
    has_penalties = bool(state.counts) and (params.frequency_penalty != 0 or params.presence_penalty != 0)
    return state.grammar is not None or has_penalties or bool(params.logit_bias)


def _adjust(logits_V: Row, state: SamplerState) -> None:
    """In place: penalties on tokens this choice produced, as OpenAI defines them (count * frequency + presence), then the bias, then the grammar."""
    params = state.params
    if state.counts and (params.frequency_penalty or params.presence_penalty):
        counts = np.fromiter(state.counts.values(), np.float32)
        logits_V[np.fromiter(state.counts, np.int64)] -= counts * np.float32(params.frequency_penalty) + np.float32(params.presence_penalty)
    if params.logit_bias:
        logits_V[np.fromiter(params.logit_bias, np.int64)] += np.fromiter(params.logit_bias.values(), np.float32)
    if state.grammar is not None:
        state.grammar.mask_(logits_V)


def _draw(logits_V: Row, state: SamplerState) -> int:
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
