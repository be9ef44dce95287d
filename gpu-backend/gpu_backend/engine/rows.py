"""What goes into the flat list of a step's rows, and what comes out of it.

Shapes: V vocabulary, L chosen layers, H hidden size.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from gpu_backend.engine.sequence import Sequence


@dataclass(frozen=True, slots=True)
class Stretch:
    """Positions of one sequence that the model computes in this step; the first of them is row `start` of the flat list."""

    sequence: Sequence
    positions: range
    start: int

    @property
    def stop(self) -> int:
        return self.start + len(self.positions)

    @property
    def is_last(self) -> bool:
        """Nothing of the sequence is left to compute."""
        return self.positions.stop == len(self.sequence.token_ids)


@dataclass(frozen=True, slots=True)
class Draft:
    """A token that may come next, the chance that full depth gives it, and the logits after it: None where the draft that follows stands unverified."""

    token_id: int
    chance: float
    logits_V: Tensor | None


@dataclass(frozen=True, slots=True)
class DueRow:
    """What the model says at the end of a sequence whose tokens are all computed: next-token logits or hidden states, both float32, as its task wants.

    `drafted` are tokens that may come next; they hold as long as every draft before them is the token that was chosen. Where the first of them stands
    unverified there are no logits before it.
    `num_guesses` were made for that; the last of them was dropped where it is one more than there are drafts.
    `label_difference` is what the gate of a label task read, where the sequence left early: then there are no logits.
    """

    sequence: Sequence
    logits_V: Tensor | None = None
    states_LH: Tensor | None = None
    drafted: tuple[Draft, ...] = ()
    num_guesses: int = 0
    label_difference: float | None = None
