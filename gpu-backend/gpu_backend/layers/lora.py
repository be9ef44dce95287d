"""Another adapter, or none, for every row of a batch: with the C operators where the model runs with them, else with torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from gpu_backend.layers.linear import AnyLinear
from gpu_backend.layers.low_rank import Site
from gpu_backend.layers.packed_lora import PackedAdapter, PackedBatchAdapters, PackedLayerAdapters
from gpu_backend.layers.torch_lora import TorchAdapter, TorchBatchAdapters, TorchLayerAdapters

LoraAdapter = PackedAdapter | TorchAdapter
BatchAdapters = PackedBatchAdapters | TorchBatchAdapters
LayerAdapters = PackedLayerAdapters | TorchLayerAdapters


def batch_adapters(rows_of: Mapping[LoraAdapter, Sequence[int]], num_rows: int, device: torch.device) -> BatchAdapters:
    """Which of a batch's rows have which adapter; all adapters of a model are of one kind."""
    packed = {adapter: rows for adapter, rows in rows_of.items() if isinstance(adapter, PackedAdapter)}
    if packed:
        assert len(packed) == len(rows_of)
        return PackedBatchAdapters(packed, num_rows)
    return TorchBatchAdapters({adapter: rows for adapter, rows in rows_of.items() if isinstance(adapter, TorchAdapter)}, device)


def adapted(linear: AnyLinear, x_NI: Tensor, site: Site, adapters: LayerAdapters | None) -> Tensor:
    """`linear(x)` with the rows' own updates: (N, I) -> (N, O)."""
    out_NO: Tensor = linear(x_NI) if adapters is None else adapters.apply(linear, x_NI, site)
    return out_NO
