"""The loss of a scalar reward model: -log sigmoid(r(chosen) - r(rejected)) (Bradley and Terry 1952), the discriminative rival of the generative one."""

from __future__ import annotations

from torch import Tensor

from gpu_backend.losses import LossOutput
from gpu_backend.losses.generative_reward import smoothed_margin_loss


def bradley_terry_loss(chosen_P: Tensor, rejected_P: Tensor, epsilon: float = 0.0) -> LossOutput:
    """The mean over P pairs; `epsilon` as in the generative loss."""
    margin_P = chosen_P.float() - rejected_P.float()
    return LossOutput(smoothed_margin_loss(margin_P, epsilon).mean(), {"accuracy": (margin_P > 0).float().mean().item()})
