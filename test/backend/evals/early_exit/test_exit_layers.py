"""Oracles, patience and thresholds: known answers, and what holds for all readings."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gpu_backend.decoding.early_exit.gates import gate_scores
from gpu_backend.evals.early_exit.exit_layers import first_layers, gated_layers, patience_layers, stable_layers

# z[l, v] = (l + 1) sin(1 + 2 v + 0.3 l): layers 1 to 5, six tokens.
LAYERS = torch.tensor([[(layer + 1) * math.sin(1 + 2 * token + 0.3 * layer) for token in range(6)] for layer in range(5)], dtype=torch.float64)
TOKENS = st.integers(2, 8).flatmap(lambda layers: st.lists(st.lists(st.integers(0, 3), min_size=layers, max_size=layers), min_size=1, max_size=6))


def column(tokens: list[int]) -> np.ndarray:
    return np.array(tokens)[:, None]


def test_a_lucky_hit_is_first_but_not_stable() -> None:
    tokens = column([5, 7, 9, 7, 9, 9])
    assert first_layers(tokens).tolist() == [3]
    assert stable_layers(tokens).tolist() == [5]


def test_five_layers_by_hand() -> None:
    scores = gate_scores(LAYERS)
    tokens = scores.tokens_K.numpy()[:, None]
    assert first_layers(tokens).tolist() == stable_layers(tokens).tolist() == [4]
    assert [patience_layers(tokens, patience).item() for patience in (2, 3)] == [2, 3]
    checked = np.ones(5, dtype=bool)
    cases = ((scores.max_prob_K, 0.5, 3), (scores.max_prob_K, 0.52, 4), (scores.margin_K, 0.09, 2), (scores.margin_K, 0.1, 4))
    for score, threshold, layer in (*cases, (scores.entropy_K, 0.5, 3), (scores.entropy_K, 0.6, 5)):
        assert gated_layers(score.double().numpy()[:, None], threshold, checked).item() == layer


@given(TOKENS)
def test_first_is_never_after_stable(columns: list[list[int]]) -> None:
    tokens = np.array(columns).T
    first, stable = first_layers(tokens), stable_layers(tokens)
    assert (first >= 1).all() and (first <= stable).all() and (stable <= len(tokens)).all()
    assert (tokens[first - 1, np.arange(tokens.shape[1])] == tokens[-1]).all()


@pytest.mark.parametrize("patience", [1, 2, 3])
@given(columns=TOKENS)
def test_patience_leaves_where_so_many_tokens_are_equal(patience: int, columns: list[list[int]]) -> None:
    for tokens in columns:
        layer = patience_layers(column(tokens), patience).item()
        wanted = next((n for n in range(patience, len(tokens)) if len(set(tokens[n - patience : n])) == 1), len(tokens))
        assert layer == wanted


@given(st.lists(st.floats(0, 1), min_size=3, max_size=9), st.floats(0, 1), st.floats(0, 1))
def test_a_higher_threshold_never_leaves_sooner(scores: list[float], one: float, other: float) -> None:
    checked = np.arange(1, len(scores) + 1) >= 2
    low, high = sorted((one, other))
    at = [gated_layers(column(scores), threshold, checked).item() for threshold in (-0.5, low, high, 1.01)]
    assert at[0] == 2 and at[-1] == len(scores)
    assert at == sorted(at)


def test_the_gate_leaves_at_the_threshold_itself() -> None:
    scores = torch.tensor([0.2, 0.5, 0.9]).double().numpy()[:, None]
    assert gated_layers(scores, 0.5, np.ones(3, dtype=bool)).item() == 2
