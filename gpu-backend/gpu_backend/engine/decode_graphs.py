"""Steps that only decode, as recorded CUDA graphs: one launch for a whole pass instead of hundreds of small ones, which is what few rows wait for on a card.

A graph repeats the same kernels on the same memory. So a batch is laid into fixed tensors, with the next power of two of rows and of columns in the block
table; the rows that are missing are written to a spare block that belongs to no sequence. Every shape is recorded when it is first needed, and used only
if its first replay gives what the pass without a graph gave. Whatever else a step has (prompts, adapters, an encoder's states) takes the usual way.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from gpu_backend.layers.batch import ForwardBatch
from gpu_backend.layers.kv_cache import PagedKVCache

logger = logging.getLogger(__name__)

Replay = Callable[[], object]
# Of the largest number in the output. A recorded pass may choose other kernels for the same sums, but not find other numbers.
_TOLERANCE = 1e-2
# PyTorch's own rule, for all threads of a process.
_ONE_AT_A_TIME = threading.Lock()


class CudaRecorder:
    """Records work on one device. All graphs share a pool of memory: an output is good until the next replay of any of them."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool: Any = None
        self._stream: Any = None

    def __call__(self, work: Callable[[], Tensor]) -> tuple[Replay, Tensor]:
        """-> what does the work again, and where its result lies then."""
        with _ONE_AT_A_TIME, torch.cuda.device(self._device):
            self._pool = self._pool or torch.cuda.graph_pool_handle()
            self._stream = self._stream or torch.cuda.Stream()  # type: ignore[no-untyped-call]
            graph = torch.cuda.CUDAGraph()
            # Threads of other models may be at work on the device meanwhile.
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
                output = work()
        return graph.replay, output


Recorder = Callable[[Callable[[], Tensor]], tuple[Replay, Tensor]]


@dataclass(frozen=True, slots=True)
class _Graph:
    batch: ForwardBatch
    replay: Replay
    hidden_NH: Tensor


class DecodeGraphs:
    """Stands for `model` where all layers are run. The cache must have a block `spare_block` beyond those of sequences; it is the same one in every call."""

    def __init__(self, model: Callable[[ForwardBatch, PagedKVCache], Tensor], spare_block: int, max_rows: int, recorder: Recorder) -> None:
        self._model = model
        self._spare_block = spare_block
        self._max_rows = max_rows
        self._recorder: Recorder | None = recorder
        self._graphs: dict[tuple[int, int], _Graph] = {}

    def __call__(self, batch: ForwardBatch, cache: PagedKVCache) -> Tensor:
        """-> hidden states (N, hidden) before the final norm, as the model gives them."""
        if self._recorder is None or not self._can_record(batch):
            return self._model(batch, cache)
        assert batch.decode_blocks_BM is not None
        shape = (min(_power_of_two(batch.num_decodes), self._max_rows), _power_of_two(batch.decode_blocks_BM.shape[1]))
        laid = self._lay_out(batch, *shape, cache.block_size)
        if shape not in self._graphs:
            return self._record(shape, laid, cache)[: batch.num_decodes]
        graph = self._graphs[shape]
        for fixed, new in zip(_tensors(graph.batch), _tensors(laid), strict=True):
            fixed.copy_(new)
        graph.replay()
        return graph.hidden_NH[: batch.num_decodes].clone()

    def _can_record(self, batch: ForwardBatch) -> bool:
        return 0 < batch.num_decodes <= self._max_rows and not batch.spans and not batch.sources and batch.adapters is None

    def _lay_out(self, batch: ForwardBatch, num_rows: int, num_columns: int, block_size: int) -> ForwardBatch:
        """The same batch in this shape. A missing row is a first token in the spare block, so that it sees nothing but itself."""
        assert batch.decode_blocks_BM is not None and batch.decode_lengths_B is not None
        missing = num_rows - batch.num_decodes
        columns = num_columns - batch.decode_blocks_BM.shape[1]
        return ForwardBatch(
            token_ids_N=functional.pad(batch.token_ids_N, (0, missing)),
            positions_N=functional.pad(batch.positions_N, (0, missing)),
            slots_N=functional.pad(batch.slots_N, (0, missing), value=self._spare_block * block_size),
            num_decodes=num_rows,
            decode_blocks_BM=functional.pad(batch.decode_blocks_BM, (0, columns, 0, missing), value=self._spare_block),
            decode_lengths_B=functional.pad(batch.decode_lengths_B, (0, missing), value=1),
            spans=(),
        )

    def _record(self, shape: tuple[int, int], batch: ForwardBatch, cache: PagedKVCache) -> Tensor:
        """-> what the pass gives without a graph. If the graph does not give the same, or there can be none, there will be no more of them."""
        assert self._recorder is not None
        expected_NH = self._model(batch, cache)
        try:
            replay, hidden_NH = self._recorder(lambda: self._model(batch, cache))
            replay()
            if not (hidden_NH - expected_NH).abs().max() <= _TOLERANCE * expected_NH.abs().max():
                raise RuntimeError("a replay gives other numbers than the pass that was recorded")
        except RuntimeError as error:
            self._recorder = None
            self._graphs.clear()
            logger.warning("decoding goes on without CUDA graphs", extra={"reason": str(error)[:300], "rows": shape[0], "columns": shape[1]})
        else:
            self._graphs[shape] = _Graph(batch, replay, hidden_NH)
        return expected_NH


def _power_of_two(count: int) -> int:
    """The smallest one that is not below `count`."""
    return 1 << (count - 1).bit_length()


def _tensors(batch: ForwardBatch) -> tuple[Tensor, ...]:
    assert batch.decode_blocks_BM is not None and batch.decode_lengths_B is not None
    return (batch.token_ids_N, batch.positions_N, batch.slots_N, batch.decode_blocks_BM, batch.decode_lengths_B)
