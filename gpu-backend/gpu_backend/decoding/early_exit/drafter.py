"""Drafters: what guesses a next token from an inner layer, so that the layers above can verify several guesses in one pass.

Shapes: K rows, H hidden size.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from gpu_backend.models.causal_lm.model import CausalLM


class Drafter(Protocol):
    """`exit_layer` is the number of layers below the guess. Guesses may be wrong; they cost time then, never a token."""

    exit_layer: int

    def draft(self, x_KH: Tensor) -> list[int]:
        """One token for each row of the residual stream after `exit_layer` layers."""


class HeadDrafter:
    """The model's own final norm and head, as they are: no parameters of its own, and the price of the whole head for each guess."""

    def __init__(self, model: CausalLM, exit_layer: int) -> None:
        if not 1 <= exit_layer < model.config.num_layers:
            raise ValueError(f"exit_layer must be between 1 and {model.config.num_layers - 1}, got {exit_layer}")
        self.exit_layer = exit_layer
        self._model = model

    def draft(self, x_KH: Tensor) -> list[int]:
        tokens: list[int] = self._model.compute_logits(x_KH).argmax(dim=-1).tolist()
        return tokens
