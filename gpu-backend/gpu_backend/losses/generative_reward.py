"""Preference loss of a generative reward model: label smoothing on two label tokens, which is a regularised Bradley-Terry loss (GRAM, arXiv 2506.14175).

With D = z_winner - z_loser, the difference of the two label logits, and e the rate at which labels are taken to be flipped:

    L(D) = -(1 - e) log sigmoid(D) - e log sigmoid(-D) = softplus(-D) + e D          smallest at D* = log((1 - e) / e)

PyTorch's (and the authors' configuration's) `label_smoothing` spreads its mass over both labels, so label_smoothing = 2 e. Both names are kept apart here.

Shapes: P pairs, 2 orders (column 0: the better answer in slot A; column 1: in slot B), 2 label logits (A, B).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from gpu_backend.losses import LossOutput


@dataclass(frozen=True, slots=True)
class GenerativeRewardLossConfig:
    """`epsilon` is the flip rate e. `order_penalty` is ours, not the paper's: it weighs the square of the position bias of each pair."""

    epsilon: float = 0.05
    order_penalty: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.epsilon < 0.5:
            raise ValueError(f"epsilon must be at least 0 and below 0.5, got {self.epsilon}")
        if self.order_penalty < 0:
            raise ValueError(f"order_penalty must not be negative, got {self.order_penalty}")

    @property
    def label_smoothing(self) -> float:
        """What PyTorch's cross entropy over the two labels calls the same thing."""
        return 2 * self.epsilon


class GenerativeRewardLoss:
    """The mean over pairs and orders, in float32."""

    def __init__(self, config: GenerativeRewardLossConfig) -> None:
        self._config = config

    def __call__(self, label_logits_P22: Tensor, is_seen_P2: Tensor | None = None, epsilon_P: Tensor | None = None) -> LossOutput:
        """`is_seen_P2` says which orders count, at least one of each pair; without it both do. `epsilon_P` are flip rates of each pair instead of one for all.
        The order penalty, consistency and position bias are means over pairs that are seen in both, or 0 where there is none."""
        margin_P2 = winner_margins(label_logits_P22)
        seen_P2 = torch.ones_like(margin_P2) if is_seen_P2 is None else is_seen_P2.to(margin_P2)
        num_seen_P, in_both_P = seen_P2.sum(dim=1), seen_P2.prod(dim=1)
        num_both = in_both_P.sum().clamp(min=1)
        epsilon = self._config.epsilon if epsilon_P is None else epsilon_P.to(margin_P2).unsqueeze(1)
        loss = ((smoothed_margin_loss(margin_P2, epsilon) * seen_P2).sum(dim=1) / num_seen_P).mean()
        bias_P = (margin_P2[:, 0] - margin_P2[:, 1]) / 2
        if self._config.order_penalty > 0:
            loss = loss + self._config.order_penalty * (bias_P.square() * in_both_P).sum() / num_both
        mean_P = (margin_P2.detach() * seen_P2).sum(dim=1) / num_seen_P
        agrees_P = ((margin_P2[:, 0] > 0) == (margin_P2[:, 1] > 0)).float()
        metrics = {
            "accuracy": (mean_P > 0).float().mean().item(),
            "consistency": ((agrees_P * in_both_P).sum() / num_both).item(),
            "margin": mean_P.mean().item(),
            "position_bias": ((bias_P.detach() * in_both_P).sum() / num_both).item(),
        }
        return LossOutput(loss, metrics)


def winner_margins(label_logits_P22: Tensor) -> Tensor:
    """(P, 2) float32: logit of the better answer's label less that of the other's, for both orders."""
    first_P2, second_P2 = label_logits_P22.float().unbind(dim=1)
    return torch.stack((first_P2[:, 0] - first_P2[:, 1], second_P2[:, 1] - second_P2[:, 0]), dim=1)


def smoothed_margin_loss(margin: Tensor, epsilon: float | Tensor) -> Tensor:
    """softplus(-D) + epsilon D, element by element: the loss that a margin D of the better answer costs. With epsilon = sigmoid(-t) it is smallest at D = t."""
    return functional.softplus(-margin) + epsilon * margin
