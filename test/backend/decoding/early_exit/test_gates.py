"""Gates against hand arithmetic, on masked logits, and on the worked example of five layers."""

from __future__ import annotations

import math

import pytest
import torch

from gpu_backend.decoding.early_exit.gates import cosine, gate_scores

# z[l, v] = (l + 1) sin(1 + 2 v + 0.3 l): layers 1 to 5, six tokens.
LAYERS = torch.tensor([[(layer + 1) * math.sin(1 + 2 * token + 0.3 * layer) for token in range(6)] for layer in range(5)], dtype=torch.float64)


def test_scores_by_hand() -> None:
    # p = 0.6439, 0.2369, 0.0871, 0.0321; H = 0.9475 nat; ln 4 = 1.3863.
    scores = gate_scores(torch.tensor([[2.0, 1.0, 0.0, -1.0]]))
    assert scores.max_prob_K.item() == pytest.approx(0.6439, abs=1e-4)
    assert scores.margin_K.item() == pytest.approx(0.4070, abs=1e-4)
    assert scores.entropy_K.item() == pytest.approx(0.3165, abs=1e-4)
    assert scores.tokens_K.item() == 0


def test_five_layers_by_hand() -> None:
    scores = gate_scores(LAYERS)
    assert scores.tokens_K.tolist() == [0, 0, 0, 3, 3]
    assert scores.max_prob_K.tolist() == pytest.approx([0.302783, 0.467385, 0.509191, 0.549473, 0.656112], abs=1e-6)
    assert scores.margin_K.tolist() == pytest.approx([0.051009, 0.094634, 0.046129, 0.104330, 0.317397], abs=1e-6)
    assert (1 - scores.entropy_K).tolist() == pytest.approx([0.898318, 0.662837, 0.464044, 0.404228, 0.376203], abs=1e-6)


def test_the_lowest_id_wins_a_tie() -> None:
    assert gate_scores(torch.tensor([[1.0, 3.0, 3.0, 0.0]])).tokens_K.item() == 1
    assert gate_scores(torch.zeros(1, 5)).margin_K.item() == 0.0


def test_a_mask_that_leaves_one_choice_is_certain() -> None:
    scores = gate_scores(torch.tensor([[-math.inf, 0.3, -math.inf, -math.inf]]))
    assert (scores.max_prob_K.item(), scores.margin_K.item(), scores.entropy_K.item()) == (1.0, 1.0, 1.0)


def test_entropy_is_measured_against_the_whole_vocabulary_under_a_mask() -> None:
    # Two of four tokens are left, equally likely: H = ln 2, and 1 - ln 2 / ln 4 = 1/2.
    assert gate_scores(torch.tensor([[0.0, 0.0, -math.inf, -math.inf]])).entropy_K.item() == pytest.approx(0.5)


def test_cosine_of_nothing_is_0() -> None:
    x = torch.tensor([[1.0, 0.0], [3.0, 4.0], [0.0, 0.0]])
    assert cosine(x, torch.tensor([[1.0, 1.0], [3.0, 4.0], [1.0, 0.0]])).tolist() == pytest.approx([2**-0.5, 1.0, 0.0])
