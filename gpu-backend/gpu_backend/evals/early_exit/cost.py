"""What a token costs in layer units, calls of the head included: the time of one decoder layer on one token is 1.

Two bounds. Memory-bound: a pass over several tokens costs what a pass over one does, because the weights are read once. Compute-bound: every token
costs the same, however many share a pass; then nothing that is computed anyway, sooner or later, is saved.
"""

from __future__ import annotations

from dataclasses import dataclass

from gpu_backend.decoding.early_exit.draft_length import expected_tokens


@dataclass(frozen=True, slots=True)
class CostModel:
    """`head` is the cost of one call of the head, `gate_head` that of the call a gate needs (less where it reads a part of the vocabulary; 0 for cosine)."""

    num_layers: int
    head: float
    gate_head: float

    @property
    def full(self) -> float:
        return self.num_layers + self.head

    def gated(self, shares: dict[int, float]) -> float:
        """A token's mean cost, memory-bound, where layers `shares` are checked in turn and that share of all tokens leaves there. What leaves is
        computed further together with the next token that goes deeper, at no cost of its own (deferred keys and values)."""
        cost, staying, done = 0.0, 1.0, 0
        for layer in sorted(shares):
            cost += staying * (layer - done + self.gate_head)
            # A token that leaves has its logits from the gate, except where the gate read none.
            cost += shares[layer] * (self.head if self.gate_head == 0 else 0.0)
            staying, done = staying - shares[layer], layer
        return cost + staying * (self.num_layers - done + self.head)

    def gated_speed_up(self, shares: dict[int, float]) -> float:
        return self.full / self.gated(shares)

    def lossless(self, acceptance: float, num_drafts: int, exit_layer: int, draft_head: float) -> float:
        """A token's mean cost, memory-bound, when `num_drafts` tokens come from layer `exit_layer` and one pass of the rest verifies them."""
        round_cost = (num_drafts + 1) * exit_layer + num_drafts * draft_head + (self.num_layers - exit_layer) + self.head
        return round_cost / expected_tokens(acceptance, num_drafts)

    def best_lossless(self, acceptance: float, exit_layer: int, draft_head: float, most_drafts: int = 8) -> tuple[float, int]:
        """-> the speed-up against full depth and the number of drafts that reaches it; (1, 0) where no drafts pay."""
        costs = {count: self.lossless(acceptance, count, exit_layer, draft_head) for count in range(1, most_drafts + 1)}
        best = min(costs, key=lambda count: costs[count])
        return (self.full / costs[best], best) if costs[best] < self.full else (1.0, 0)
