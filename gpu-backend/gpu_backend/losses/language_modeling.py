"""Cross entropy of next tokens, over the tokens that count: stage 1 of GRAM generates pairs of answers."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from gpu_backend.losses import LossOutput


def language_modeling_loss(logits_NV: Tensor, targets_N: Tensor) -> LossOutput:
    """The mean over N target tokens, in float32; `logits_NV` are those of the positions before them."""
    loss = functional.cross_entropy(logits_NV.float(), targets_N)
    return LossOutput(loss, {"nll": loss.item()})
