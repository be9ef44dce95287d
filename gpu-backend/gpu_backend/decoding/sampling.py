"""Chooses the next token of each row from its logits, each with the parameters and the random numbers of its own request.

A row's choice depends on its own logits, parameters and seed only, never on the rows beside it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gpu_backend.core import GrammarError, SamplingParams, TokenLogprob
from gpu_backend.decoding.grammar import GrammarState

# A nucleus is almost always among this many best tokens; only when it is not is the whole vocabulary sorted.
_NUCLEUS_GUESS = 1024


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
    greedy = logits_KV.argmax(dim=-1).tolist()
    result: list[TokenLogprob | GrammarError] = []
    for row, state in enumerate(states):
        try:
            result.append(_sample_row(logits_KV[row], greedy[row], state))
        except GrammarError as error:
            result.append(error)
    return result


def _sample_row(logits_V: Tensor, greedy: int, state: SamplerState) -> TokenLogprob:
    token_id = _choose(_adjust(logits_V, state), state) if _needs_own_choice(state) else greedy
    if state.grammar is not None:
        state.grammar.consume(token_id)
    state.counts[token_id] = state.counts.get(token_id, 0) + 1
    return _with_logprob(logits_V, token_id, state.params)


def _needs_own_choice(state: SamplerState) -> bool:
    params = state.params
    return state.grammar is not None or not params.is_greedy or bool(params.logit_bias) or params.frequency_penalty != 0 or params.presence_penalty != 0


def _adjust(logits_V: Tensor, state: SamplerState) -> Tensor:
    """Penalties on tokens this choice produced, as OpenAI defines them (count * frequency + presence), then the bias, and nothing that breaks the grammar."""
    params = state.params
    logits_V = logits_V.clone() if state.grammar is None else state.grammar.mask(logits_V)
    if state.counts and (params.frequency_penalty or params.presence_penalty):
        ids = torch.tensor(list(state.counts), device=logits_V.device)
        counts = torch.tensor(list(state.counts.values()), dtype=logits_V.dtype, device=logits_V.device)
        logits_V[ids] -= counts * params.frequency_penalty + params.presence_penalty
    if params.logit_bias:
        ids = torch.tensor(list(params.logit_bias), device=logits_V.device)
        logits_V[ids] += torch.tensor(list(params.logit_bias.values()), dtype=logits_V.dtype, device=logits_V.device)
    return logits_V


def _choose(logits_V: Tensor, state: SamplerState) -> int:
    params = state.params
    if params.is_greedy:
        return int(logits_V.argmax())
    probabilities_V = torch.softmax(logits_V / params.temperature, dim=-1)
    if params.top_k or params.top_p < 1.0:
        kept, ids = _truncate(probabilities_V, params)
        return int(ids[_draw(kept, state.random)])
    return _draw(probabilities_V, state.random)


def _truncate(probabilities_V: Tensor, params: SamplingParams) -> tuple[Tensor, Tensor]:
    """The best tokens within top_k and within the smallest set whose probabilities reach top_p, best first, with their ids."""
    size = probabilities_V.shape[-1]
    limit = min(params.top_k or size, size)
    kept, ids = probabilities_V.topk(min(limit, _NUCLEUS_GUESS))
    if params.top_p < 1.0:
        # The mass that top_p counts is the mass among the top_k, so that the two limits do not depend on their order of writing.
        total = probabilities_V.topk(limit).values.sum() if limit < size else probabilities_V.sum()
        if kept.sum() < params.top_p * total and len(kept) < limit:
            kept, ids = probabilities_V.topk(limit)
        before = kept.cumsum(0) - kept
        num_kept = max(1, int((before < params.top_p * total).sum()))
        kept, ids = kept[:num_kept], ids[:num_kept]
    elif limit > len(kept):
        kept, ids = probabilities_V.topk(limit)
    return kept, ids


def _draw(weights: Tensor, source: random.Random) -> int:
    """Inverse of the cumulative distribution at one uniform number; float64, so that 50,000 small terms add up."""
    cumulative = weights.double().cumsum(0)
    point = source.random() * float(cumulative[-1])
    return min(int(torch.searchsorted(cumulative, point, right=True)), len(weights) - 1)


def _with_logprob(logits_V: Tensor, token_id: int, params: SamplingParams) -> TokenLogprob:
    if not params.logprobs:
        return TokenLogprob(token_id, 0.0)
    logprobs_V = torch.log_softmax(logits_V, dim=-1)
    top: tuple[tuple[int, float], ...] = ()
    if params.top_logprobs:
        values, ids = logprobs_V.topk(params.top_logprobs)
        top = tuple(zip(ids.tolist(), values.tolist(), strict=True))
    return TokenLogprob(token_id, float(logprobs_V[token_id]), top)
