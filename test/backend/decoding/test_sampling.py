"""The distribution of choices, penalties and limits by hand arithmetic; rows never influence each other."""

from __future__ import annotations

import math
import random

import pytest
import torch

from gpu_backend.core import SamplingParams, TokenLogprob
from gpu_backend.decoding.sampling import SamplerState, sample

LOGITS = torch.log(torch.tensor([0.5, 0.25, 0.125, 0.125]))


def state(choice: int = 0, **values: object) -> SamplerState:
    return SamplerState.of(SamplingParams(**{"max_tokens": 1, "seed": 11, **values}), choice)  # type: ignore[arg-type]


def draws(count: int, **values: object) -> list[int]:
    sampler = state(**values)
    return [sample(LOGITS.unsqueeze(0), [sampler])[0].token_id for _ in range(count)]


def shares(tokens: list[int]) -> list[float]:
    return [tokens.count(token) / len(tokens) for token in range(4)]


def test_greedy_takes_the_best() -> None:
    assert draws(3, temperature=0.0) == [0, 0, 0]


def test_frequencies_follow_the_distribution() -> None:
    """Chi-square with 3 degrees of freedom: above 16.3 has probability 0.001; the seed is fixed, so this either always passes or never."""
    count = 4000
    observed = shares(draws(count, temperature=1.0))
    expected = [0.5, 0.25, 0.125, 0.125]
    assert sum(count * (o - e) ** 2 / e for o, e in zip(observed, expected, strict=True)) < 16.3


def test_temperature_squares_the_odds_at_one_half() -> None:
    """p^2 / sum p^2 = (16, 4, 1, 1) / 22."""
    observed = shares(draws(4000, temperature=0.5))
    assert all(abs(o - e / 22) < 0.03 for o, e in zip(observed, [16, 4, 1, 1], strict=True))


@pytest.mark.parametrize(
    ("limits", "allowed"),
    [({"top_k": 2}, {0, 1}), ({"top_p": 0.49}, {0}), ({"top_p": 0.51}, {0, 1}), ({"top_k": 3, "top_p": 0.9}, {0, 1, 2}), ({"top_k": 3, "top_p": 0.8}, {0, 1})],
)
def test_limits_keep_exactly_the_best_tokens(limits: dict[str, float], allowed: set[int]) -> None:
    """top_p keeps the smallest set that reaches it: 0.49 is reached by the first token, 0.51 needs two. After top_k 3 of (0.5, 0.25, 0.15, 0.1) the mass
    is 0.9: top_p 0.9 asks for 0.81 (three tokens), top_p 0.8 for 0.72 (two)."""
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.15, 0.1]]))
    sampler = state(**limits)
    assert {sample(logits, [sampler])[0].token_id for _ in range(600)} == allowed


def test_a_wide_nucleus_is_still_exact() -> None:
    """3,000 equal tokens: top_p 0.5 keeps 1,500 of them."""
    logits = torch.zeros(1, 3000)
    sampler = state(top_p=0.5)
    seen = {sample(logits, [sampler])[0].token_id for _ in range(6000)}
    assert 1400 < len(seen) <= 1500


def test_same_seed_same_tokens_and_choices_differ() -> None:
    assert draws(20) == draws(20)
    assert draws(20) != draws(20, choice=1)
    assert draws(20) != draws(20, seed=12)


def test_rows_do_not_influence_each_other() -> None:
    logits = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    params = [{"temperature": 0.0}, {"top_p": 0.9}, {"presence_penalty": 1.0, "seed": 3}]
    together = [state(**values) for values in params]
    alone = [state(**values) for values in params]
    for _ in range(5):
        batched = [token.token_id for token in sample(logits, together)]
        single = [sample(logits[row : row + 1], [alone[row]])[0].token_id for row in range(3)]
        assert batched == single


def test_batched_rows_are_bit_for_bit_those_alone() -> None:
    """At the size of a real vocabulary, where operators use threads and vectors: tokens and log-probabilities, for every kind of row at once."""
    kinds: list[dict[str, object]] = [
        {"temperature": 0.0},
        {"temperature": 0.0, "logprobs": True, "top_logprobs": 5},
        {"temperature": 1.0},
        {"temperature": 1.7, "top_p": 0.9},
        {"temperature": 0.6, "top_k": 50, "top_p": 0.8, "presence_penalty": 0.5},
        {"temperature": 1.0, "logit_bias": {7: 5.0}, "frequency_penalty": 0.3, "logprobs": True},
    ]
    source = torch.Generator().manual_seed(1)
    together, alone = ([state(**kind) for kind in kinds] for _ in range(2))
    for _ in range(4):
        logits_KV = torch.randn(len(kinds), 49_152, generator=source) * 3
        kept = logits_KV.clone()
        batched = sample(logits_KV, together)
        assert batched == [sample(logits_KV[row : row + 1].clone(), [alone[row]])[0] for row in range(len(kinds))]
        assert torch.equal(logits_KV, kept)


def test_a_draw_never_takes_a_token_without_weight() -> None:
    """Uniform numbers at both ends, and forbidden tokens at both ends and in the middle."""

    class Ends(random.Random):
        def __init__(self, value: float) -> None:
            super().__init__()
            self._value = value

        def random(self) -> float:
            return self._value

    logits = torch.zeros(1, 1000)
    logits[0, [*range(130), *range(300, 500), *range(870, 1000)]] = float("-inf")
    for value, expected in ((0.0, 130), (1.0, 869), (1 - 2**-53, 869)):
        sampler = state()
        sampler.random = Ends(value)
        assert sample(logits, [sampler])[0].token_id == expected


def test_a_row_of_nan_still_gives_a_token() -> None:
    for values in ({"temperature": 0.0}, {}, {"top_p": 0.9}, {"top_k": 5}):
        assert 0 <= sample(torch.full((1, 300), math.nan), [state(**values)])[0].token_id < 300


def test_penalties_by_hand() -> None:
    """After token 0 came twice: ln 0.5 - 2 * 0.3 - 0.2 = -1.493 is below ln 0.25 = -1.386, so greedy moves to token 1."""
    sampler = state(temperature=0.0, frequency_penalty=0.3, presence_penalty=0.2)
    # once: ln 0.5 - 0.5 = -1.193 is still the best
    assert [sample(LOGITS.unsqueeze(0), [sampler])[0].token_id for _ in range(3)] == [0, 0, 1]


def test_logit_bias_by_hand() -> None:
    assert draws(2, temperature=0.0, logit_bias={3: 2.0}) == [3, 3]
    assert set(draws(300, logit_bias={0: -100.0})) == {1, 2, 3}


def test_logprobs_are_those_of_the_unmodified_model() -> None:
    token = sample(LOGITS.unsqueeze(0), [state(temperature=0.0, logit_bias={1: 50.0}, logprobs=True, top_logprobs=2)])[0]
    assert token.token_id == 1 and math.isclose(token.logprob, math.log(0.25), rel_tol=1e-5)
    assert [i for i, _ in token.top] == [0, 1] and math.isclose(token.top[0][1], math.log(0.5), rel_tol=1e-5)


def test_no_logprobs_unless_asked() -> None:
    assert sample(LOGITS.unsqueeze(0), [state(temperature=0.0)]) == [TokenLogprob(0, 0.0)]


@pytest.mark.parametrize("values", [{"max_tokens": 0}, {"temperature": 2.5}, {"temperature": math.nan}, {"top_p": 0.0}, {"top_p": 1.5}, {"top_k": -1}])
def test_parameters_out_of_range_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        SamplingParams(**{"max_tokens": 1, **values})  # type: ignore[arg-type]
