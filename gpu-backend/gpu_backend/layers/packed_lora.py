"""Low-rank updates as the C operators read them: A and B, with the scale in it, rounded to bfloat16; only rows that have an adapter are touched.

`layers/torch_lora.py` is the twin in float32. The order of a row's sums is in `kernels/cpu/low_rank.h`.

Shapes: N rows of the batch, I inputs, O outputs, R ranks.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gpu_backend.kernels import structs
from gpu_backend.kernels.packing import LANES, pack_bfloat16, pack_pairs
from gpu_backend.layers.linear import AnyLinear, PackedLinear
from gpu_backend.layers.low_rank import PROJECTIONS, LowRank, Site

# As low_rank.h counts them.
_NAMES = tuple(name for names in PROJECTIONS.values() for name in names)


class PackedAdapter:
    """A loaded adapter: a table of its updates, seven projections in each layer, and the tensors that it points to."""

    def __init__(self, parts: Mapping[tuple[int, str], LowRank], widths: Mapping[str, int], num_layers: int) -> None:
        """`parts` by layer and projection; `widths` are the outputs of every projection, multiples of 16, whether it has an update or not."""
        self._tensors: list[Tensor] = []
        self._table = (structs.LowRank * (num_layers * len(_NAMES)))(
            *(self._pack(parts.get((layer, name)), widths[name]) for layer in range(num_layers) for name in _NAMES)
        )
        self.max_rank = -(-max(part.a_RI.shape[0] for part in parts.values()) // LANES) * LANES
        self.address = ctypes.addressof(self._table)

    @property
    def num_bytes(self) -> int:
        return ctypes.sizeof(self._table) + sum(tensor.nbytes for tensor in self._tensors)

    def _pack(self, part: LowRank | None, width: int) -> structs.LowRank:
        assert width % LANES == 0
        if part is None:
            return structs.LowRank(None, None, width, 0)
        a, b = pack_bfloat16(part.a_RI), pack_pairs(part.b_OR.float() * part.scale)
        self._tensors += (a, b)
        return structs.LowRank(a.data_ptr(), b.data_ptr(), width, part.a_RI.shape[0])


class PackedBatchAdapters:
    """Which rows of a batch have which adapter. Holds the adapters, so that they stay where they are."""

    def __init__(self, rows_of: Mapping[PackedAdapter, Sequence[int]], num_rows: int) -> None:
        self._adapters = tuple(rows_of)
        addresses = [0] * num_rows
        for adapter, rows in rows_of.items():
            for row in rows:
                addresses[row] = adapter.address
        self._addresses_N = torch.tensor(addresses)
        self.struct = structs.Adapters(self._addresses_N.data_ptr(), max(adapter.max_rank for adapter in rows_of))

    def at(self, layer: int) -> PackedLayerAdapters:
        return PackedLayerAdapters(self, layer)


@dataclass(frozen=True, slots=True)
class PackedLayerAdapters:
    """The updates of one decoder layer."""

    batch: PackedBatchAdapters
    layer: int

    def apply(self, linear: AnyLinear, x_NI: Tensor, site: Site) -> Tensor:
        """`linear(x)` with the rows' own updates: (N, I) -> (N, O)."""
        assert isinstance(linear, PackedLinear)
        first = self.layer * len(_NAMES) + _NAMES.index(PROJECTIONS[site][0])
        return linear(x_NI, self.batch.struct, range(first, first + len(PROJECTIONS[site])))
