"""What one forward pass computes: the tokens of all scheduled sequences in one flat list, without padding.

The first `num_decodes` tokens are the newest tokens of that many sequences; the rest are stretches of prompts, one `PromptSpan` each.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from gpu_backend.kernels.native import PagedRows
from gpu_backend.layers.lora import BatchAdapters


@dataclass(frozen=True, slots=True)
class PromptSpan:
    """Tokens [start, start+length) of the flat list are positions [kv_length-length, kv_length) of one sequence whose blocks are `blocks_M`."""

    start: int
    length: int
    kv_length: int
    blocks_M: Tensor


@dataclass(frozen=True, slots=True)
class SourceSpan:
    """Rows [start, start+length) of the flat list look at these encoder states, whose shape is the model's affair."""

    start: int
    length: int
    states: Tensor


@dataclass(frozen=True)
class ForwardBatch:
    """`decode_blocks_BM` is padded with block 0; `decode_lengths_B` says how many positions of it exist, the newest token included.

    `sources` covers the rows of requests that have an encoder's source, one span each. `adapters` is None when no row has one.
    """

    token_ids_N: Tensor
    positions_N: Tensor
    slots_N: Tensor
    num_decodes: int
    decode_blocks_BM: Tensor | None
    decode_lengths_B: Tensor | None
    spans: tuple[PromptSpan, ...]
    sources: tuple[SourceSpan, ...] = ()
    adapters: BatchAdapters | None = None

    @cached_property
    def paged_rows(self) -> PagedRows:
        """Every token as a row of its own, for operators that make no difference between decoding and reading a prompt."""
        if not self.spans:
            assert self.decode_blocks_BM is not None and self.decode_lengths_B is not None
            return PagedRows(self.positions_N, self.slots_N, self.decode_blocks_BM, self.decode_lengths_B)
        return PagedRows(self.positions_N, self.slots_N, self._row_blocks_NM(), self.positions_N + 1)

    def first(self, num_rows: int) -> ForwardBatch:
        """The first rows of a batch that only decodes, without adapters."""
        assert self.num_decodes == len(self.token_ids_N) and self.adapters is None and not self.sources
        assert self.decode_blocks_BM is not None and self.decode_lengths_B is not None
        return ForwardBatch(
            token_ids_N=self.token_ids_N[:num_rows],
            positions_N=self.positions_N[:num_rows],
            slots_N=self.slots_N[:num_rows],
            num_decodes=num_rows,
            decode_blocks_BM=self.decode_blocks_BM[:num_rows],
            decode_lengths_B=self.decode_lengths_B[:num_rows],
            spans=(),
        )

    def _row_blocks_NM(self) -> Tensor:
        """The block table of every token's sequence, padded with block 0."""
        tables = [] if self.decode_blocks_BM is None else [self.decode_blocks_BM]
        tables += [span.blocks_M.unsqueeze(0).expand(span.length, -1) for span in self.spans]
        num_columns = max(table.shape[1] for table in tables)
        return torch.cat([functional.pad(table, (0, num_columns - table.shape[1])) for table in tables])
