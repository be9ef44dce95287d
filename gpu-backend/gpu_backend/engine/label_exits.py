"""Rows that leave at an inner layer: those of label tasks whose gate is sure. What later prompts share with them goes on.

Shapes: N rows of a step, H hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence as Rows

from torch import Tensor

from gpu_backend.core import LabelGate, LabelScores
from gpu_backend.engine.rows import Stretch
from gpu_backend.engine.sequence import Sequence


def exit_layers(stretches: Rows[Stretch]) -> list[int]:
    """The layers after which gates read something in this step, lowest first."""
    return sorted({gate.layer for stretch in stretches if (gate := _gate_of(stretch)) is not None})


def read_gates(stretches: Rows[Stretch], layer: int, x_NH: Tensor) -> dict[Sequence, float]:
    """What the gates of this layer are sure of: the difference of the labels' logits, for sequences that end here."""
    asked: dict[LabelGate, list[Stretch]] = {}
    for stretch in stretches:
        gate = _gate_of(stretch)
        if gate is not None and gate.layer == layer:
            asked.setdefault(gate, []).append(stretch)
    found: dict[Sequence, float] = {}
    for gate, ended in asked.items():
        differences = gate.read(x_NH[[stretch.stop - 1 for stretch in ended]])
        found |= {stretch.sequence: difference for stretch, difference in zip(ended, differences, strict=True) if difference is not None}
    return found


def rows_that_stay(stretches: Rows[Stretch], left: dict[Sequence, float]) -> tuple[list[Stretch], list[int]]:
    """The stretches without the rows that have left, and which of the N rows these are. Of a sequence that has left, shared positions stay."""
    staying: list[Stretch] = []
    rows: list[int] = []
    for stretch in stretches:
        positions = stretch.positions
        if stretch.sequence in left:
            positions = range(positions.start, min(positions.stop, stretch.sequence.num_shared))
        if positions:
            staying.append(Stretch(stretch.sequence, positions, len(rows)))
            rows += range(stretch.start, stretch.start + len(positions))
    return staying, rows


def _gate_of(stretch: Stretch) -> LabelGate | None:
    """Where the sequence ends with this stretch: before, there is nothing to read."""
    task = stretch.sequence.request.task
    return task.gate if stretch.is_last and isinstance(task, LabelScores) else None
