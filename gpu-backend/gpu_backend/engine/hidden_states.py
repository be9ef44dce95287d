"""Runs the layers in segments for requests that ask for inner layers, and pools what they ask for, over as many steps as their prompts take.

Shapes: N rows of a step, L chosen layers, H hidden size.
"""

from __future__ import annotations

from collections.abc import Callable
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
    """Holds the sums of unfinished means, by request. `whole_pass` runs all layers where nobody asks for inner ones: the model, or what stands for it."""

    def __init__(self, whole_pass: Callable[[ForwardBatch, PagedKVCache], Tensor]) -> None:
        self._whole_pass = whole_pass
        self._sums: dict[str, _Sum] = {}

    def run(self, model: Decoder, batch: ForwardBatch, cache: PagedKVCache, stretches: list[Stretch]) -> tuple[Tensor, dict[Sequence, Tensor]]:
        """All layers. -> the residual stream (N, H) as `model.forward` gives it, and states (L, H) in float32 of the sequences whose prompts end here."""
        readings = [(stretch, task) for stretch in stretches if isinstance(task := stretch.sequence.request.task, HiddenStates)]
        if not readings:
            return self._whole_pass(batch, cache), {}
        x, done = model.embed(batch.token_ids_N), 0
        picked: dict[Sequence, dict[int, Tensor]] = {stretch.sequence: {} for stretch, _ in readings}
        for layer in sorted({layer for _, task in readings for layer in task.layers}):
            x, done = model.run_layers(x, done, layer, cache, batch), layer
            for stretch, task in readings:
                if layer in task.layers:
                    picked[stretch.sequence][layer] = self._pick(stretch, task, x)
        # The layers above must run too: later steps and other requests find this step's keys and values in the cache.
        x = model.run_layers(x, done, model.config.num_layers, cache, batch)
        states: dict[Sequence, Tensor] = {}
        for stretch, task in readings:
            picked_LH = torch.stack([picked[stretch.sequence][layer] for layer in task.layers])
            if task.pooling is Pooling.MEAN:
                picked_LH = self._add(stretch, picked_LH)
            if stretch.is_last:
                states[stretch.sequence] = picked_LH.float()
        return x, states

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
