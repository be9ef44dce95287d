"""Gates: scores that say how sure an inner layer is of its token. A token may leave where a score reaches a threshold (`>=`).

The first three read the logits of a layer's output after the final norm, whatever processors have changed in them; the cosine needs no head at all.

Shapes: K rows, V vocabulary, H hidden size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

GATES = ("max_prob", "margin", "entropy", "cosine")


@dataclass(frozen=True, slots=True)
class GateScores:
    """`tokens_K` is the most probable token, the one with the lowest id on ties. All scores are at most 1, and higher where the layer is surer."""

    tokens_K: Tensor
    max_prob_K: Tensor
    margin_K: Tensor
    entropy_K: Tensor


def gate_scores(logits_KV: Tensor) -> GateScores:
    """max p; the two highest p's difference; and 1 - H(p) / ln V with V the model's vocabulary, also where a mask leaves few tokens of it."""
    logprobs_KV = torch.log_softmax(logits_KV.float(), dim=-1)
    top_K2 = logprobs_KV.topk(2, dim=-1).values.exp()
    # A masked token has p = 0 and log p = -inf; its share of the entropy is 0.
    terms_KV = torch.where(logprobs_KV > -math.inf, logprobs_KV.exp() * logprobs_KV, 0.0)
    return GateScores(
        tokens_K=logits_KV.argmax(dim=-1),
        max_prob_K=top_K2[:, 0],
        margin_K=top_K2[:, 0] - top_K2[:, 1],
        entropy_K=1 + terms_KV.sum(dim=-1) / math.log(logits_KV.shape[-1]),
    )


def cosine(x_KH: Tensor, previous_KH: Tensor) -> Tensor:
    """(K,): how little a layer turned the residual stream; 0 where one of the two vectors is 0."""
    return torch.nn.functional.cosine_similarity(x_KH.float(), previous_KH.float(), dim=-1)
