"""Lays the rows of a pass out for the model: token ids, places in the paged pool, block tables, sources and adapters, in one flat list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from gpu_backend.engine.adapter_store import AdapterStore
from gpu_backend.engine.rows import Stretch
from gpu_backend.engine.sequence import Sequence as RunningSequence
from gpu_backend.layers.batch import ForwardBatch, PromptSpan, SourceSpan
from gpu_backend.layers.lora import BatchAdapters, LoraAdapter, batch_adapters


class Batches:
    """`encoded` are the encoder's states by request, `adapters` holds every adapter that a row may have."""

    def __init__(self, device: torch.device, block_size: int, encoded: Mapping[str, Tensor], adapters: AdapterStore[LoraAdapter] | None) -> None:
        self._device = device
        self._block_size = block_size
        self._encoded = encoded
        self._adapters = adapters

    def of(self, stretches: Sequence[Stretch], num_decodes: int, token_ids: Sequence[int]) -> ForwardBatch:
        """The first `num_decodes` stretches are one position each. `token_ids` has one for each row."""
        positions: list[int] = []
        slots: list[int] = []
        spans: list[PromptSpan] = []
        sources: list[SourceSpan] = []
        for index, stretch in enumerate(stretches):
            sequence, length = stretch.sequence, len(stretch.positions)
            if index >= num_decodes:
                spans.append(PromptSpan(stretch.start, length, stretch.positions.stop, self.tensor(sequence.blocks)))
            if sequence.request.id in self._encoded:
                sources.append(SourceSpan(stretch.start, length, self._encoded[sequence.request.id]))
            positions += stretch.positions
            slots += self.slots(sequence.blocks, stretch.positions)
        assert len(positions) == len(token_ids)
        blocks_BM, lengths_B = self._decode_tables(stretches[:num_decodes]) if num_decodes else (None, None)
        return ForwardBatch(
            token_ids_N=self.tensor(token_ids),
            positions_N=self.tensor(positions),
            slots_N=self.tensor(slots),
            num_decodes=num_decodes,
            decode_blocks_BM=blocks_BM,
            decode_lengths_B=lengths_B,
            spans=tuple(spans),
            sources=tuple(sources),
            adapters=self._adapters_of(stretches, len(token_ids)),
        )

    def ahead(self, sequence: RunningSequence, positions: range) -> ForwardBatch:
        """Rows for these positions of one sequence without an adapter, each of which sees those before it, whatever tokens will stand there."""
        num_columns = -(-positions.stop // self._block_size)
        positions_N = torch.arange(positions.start, positions.stop, device=self._device)
        return ForwardBatch(
            token_ids_N=torch.zeros_like(positions_N),
            positions_N=positions_N,
            slots_N=self.tensor(self.slots(sequence.blocks, positions)),
            num_decodes=len(positions),
            decode_blocks_BM=self.tensor(sequence.blocks[:num_columns]).repeat(len(positions), 1),
            decode_lengths_B=positions_N + 1,
            spans=(),
        )

    def slots(self, blocks: list[int], positions: range) -> list[int]:
        return [blocks[at // self._block_size] * self._block_size + at % self._block_size for at in positions]

    def tensor(self, values: Sequence[int] | Sequence[list[int]]) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=self._device)

    def _adapters_of(self, stretches: Sequence[Stretch], num_rows: int) -> BatchAdapters | None:
        """Which rows of the flat batch have which adapter; every adapter in a plan is pinned."""
        rows_of: dict[LoraAdapter, list[int]] = {}
        for stretch in stretches:
            adapter_id = stretch.sequence.request.adapter
            if adapter_id is not None:
                assert self._adapters is not None
                rows_of.setdefault(self._adapters.get(adapter_id), []).extend(range(stretch.start, stretch.stop))
        return batch_adapters(rows_of, num_rows, self._device) if rows_of else None

    def _decode_tables(self, decodes: Sequence[Stretch]) -> tuple[Tensor, Tensor]:
        """Block table padded with block 0, and the number of positions that each row sees."""
        lengths = [stretch.positions.stop for stretch in decodes]
        num_columns = -(-max(lengths) // self._block_size)
        tables = [stretch.sequence.blocks[:num_columns] for stretch in decodes]
        return self.tensor([blocks + [0] * (num_columns - len(blocks)) for blocks in tables]), self.tensor(lengths)
