"""The plain twin is worth something only if it agrees with the decoder that is checked against transformers."""

from __future__ import annotations

import torch
from slow_decoder import slow_decoder

from gpu_backend.decoding.reference import full_logits
from support import tiny_model


def test_the_plain_twin_computes_the_same_logits() -> None:
    weights: dict[str, torch.Tensor] = {}
    model = tiny_model(recorded=weights)
    token_ids = [5, 9, 33, 2, 71, 8, 8, 40, 12, 13, 90]
    assert (slow_decoder(weights, token_ids)[1] - full_logits(model, token_ids)).abs().max() < 1e-4
