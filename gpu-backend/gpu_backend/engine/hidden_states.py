"""Runs layers in segments for requests that ask for inner layers, and pools what they ask for, over as many steps as their prompts take.

Shapes: N rows of a step, L chosen layers, H hidden size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gpu_backend.core import HiddenStates, Pooling
from gpu_backend.engine.rows import Stretch
from gpu_backend.engine.sequence import Sequence
from gpu_backend.layers.batch import ForwardBatch
from gpu_backend.layers.kv_cache import PagedKVCache
from gpu_backend.models.interface import Decoder


@dataclass(slots=True)
class _Sum:
    """Over positions first..stop-1 of one prompt; in float64, so that how the prompt was cut into steps does not show."""

    first: int
    stop: int
    total_LH: Tensor | None = None


class HiddenStatesReader:
    """Holds what the layers of the running step have given so far, and the sums of unfinished means, by request."""

    def __init__(self) -> None:
        self._sums: dict[str, _Sum] = {}
        self._picked: dict[Sequence, dict[int, Tensor]] = {}

    def run_layers(self, model: Decoder, x_NH: Tensor, start: int, stop: int, cache: PagedKVCache, batch: ForwardBatch, stretches: list[Stretch]) -> Tensor:
        """Layers start..stop-1 of the residual stream (N, H), as `model.run_layers`, noting on the way what these rows ask for."""
        readings = [(stretch, task) for stretch in stretches if isinstance(task := stretch.sequence.request.task, HiddenStates)]
        # The stream at `start` is the last one of the segment before, but for the embeddings.
        for layer in sorted({layer for _, task in readings for layer in task.layers if start < layer <= stop or layer == start == 0}):
            x_NH, start = model.run_layers(x_NH, start, layer, cache, batch), layer
            for stretch, task in readings:
                if layer in task.layers:
                    self._picked.setdefault(stretch.sequence, {})[layer] = self._pick(stretch, task, x_NH)
        # The layers above must run too: later steps and other requests find this step's keys and values in the cache.
        return model.run_layers(x_NH, start, stop, cache, batch)

    def take(self, stretches: list[Stretch]) -> dict[Sequence, Tensor]:
        """When all layers have run: states (L, H) in float32 of the sequences whose prompts end here."""
        states: dict[Sequence, Tensor] = {}
        for stretch in stretches:
            task = stretch.sequence.request.task
            if isinstance(task, HiddenStates):
                picked_LH = torch.stack([self._picked[stretch.sequence][layer] for layer in task.layers])
                if task.pooling is Pooling.MEAN:
                    picked_LH = self._add(stretch, picked_LH)
                if stretch.is_last:
                    states[stretch.sequence] = picked_LH.float()
        self._picked.clear()
        return states

    def forget(self, request_id: str) -> None:
        self._sums.pop(request_id, None)

    def _pick(self, stretch: Stretch, task: HiddenStates, x_NH: Tensor) -> Tensor:
        """The last row, or the sum of those that were not summed before; a copy in either case, since later layers may add to `x_NH` in place."""
        if task.pooling is Pooling.LAST:
            return x_NH[stretch.stop - 1].clone()
        first_new = stretch.start + self._sum_of(stretch).stop - stretch.positions.start
        assert first_new >= stretch.start, "positions were skipped"
        return x_NH[first_new : stretch.stop].double().sum(0)

    def _add(self, stretch: Stretch, new_LH: Tensor) -> Tensor:
        """-> the mean so far. After a preemption positions come again; they count once."""
        summed = self._sum_of(stretch)
        summed.total_LH = new_LH if summed.total_LH is None else summed.total_LH + new_LH
        summed.stop = max(summed.stop, stretch.positions.stop)
        return summed.total_LH / (summed.stop - summed.first)

    def _sum_of(self, stretch: Stretch) -> _Sum:
        first = stretch.sequence.num_given
        return self._sums.setdefault(stretch.sequence.request.id, _Sum(first, first))
