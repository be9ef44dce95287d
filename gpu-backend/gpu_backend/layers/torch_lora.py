"""Low-rank updates of linear layers with torch's operators: served where the C operators do not run, and their twin in float32.

A row x with an adapter gets out += scale * B (A x), added up in float32. How a matrix product rounds may depend on its shape, so the shapes here are
fixed: the rows of an adapter are taken in tiles of 8, the last one filled up with repeats, and its ranks in slices of 16, the last one filled up with
zeros. Every product is then (8, I) x (I, 16 P) or (8, 16) x (16, O), whatever else is in the batch, and a row's result is the same bit for bit alone
and in any company. Within such a shape the place of a row does not matter: true of the CPU libraries that PyTorch ships, and held by a test.

Shapes: N rows of the batch, K rows with an adapter, M tiles of T = 8 rows, I inputs, O outputs, P projections fused into one layer, R = 16 ranks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gpu_backend.layers.linear import AnyLinear
from gpu_backend.layers.low_rank import LowRank, Site

TILE_ROWS = 8
SLICE_RANKS = 16


@dataclass(frozen=True, slots=True)
class FusedUpdate:
    """The update of one linear layer in slices of 16 ranks, each A (I, 16 P) and B (16, O) in float32 with the scale in it.

    Columns 16p..16p+15 of A belong to projection p, whose outputs are the next `widths[p]` columns of B; a projection without an update has zeros.
    """

    slices: tuple[tuple[Tensor, Tensor], ...]
    widths: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        return sum(tensor.numel() * tensor.element_size() for pair in self.slices for tensor in pair)


@dataclass(frozen=True, slots=True, eq=False)
class TorchAdapter:
    """A loaded adapter: its updates by layer and site."""

    updates: Mapping[tuple[int, Site], FusedUpdate]

    @property
    def num_bytes(self) -> int:
        return sum(update.num_bytes for update in self.updates.values())


def fuse(parts: Sequence[LowRank | None], widths: Sequence[int], num_inputs: int, device: torch.device) -> FusedUpdate:
    """Lay out the updates of the projections of one linear layer; None for a projection that has none."""
    num_slices = -(-max(part.a_RI.shape[0] for part in parts if part is not None) // SLICE_RANKS)
    a_SIP = torch.zeros(num_slices, num_inputs, len(parts) * SLICE_RANKS)
    b_SRO = torch.zeros(num_slices, SLICE_RANKS, sum(widths))
    for index, part in enumerate(parts):
        if part is None:
            continue
        columns = slice(sum(widths[:index]), sum(widths[: index + 1]))
        first = index * SLICE_RANKS
        a_slices, b_slices = torch.split(part.a_RI.float(), SLICE_RANKS), torch.split(part.b_OR.float().T * part.scale, SLICE_RANKS)
        for number, (a_RI, b_RO) in enumerate(zip(a_slices, b_slices, strict=True)):
            a_SIP[number, :, first : first + a_RI.shape[0]] = a_RI.T
            b_SRO[number, : b_RO.shape[0], columns] = b_RO
    return FusedUpdate(tuple(zip(a_SIP.to(device), b_SRO.to(device), strict=True)), tuple(widths))


class TorchBatchAdapters:
    """Which rows of a batch have which adapter. An adapter with few rows shares one gathered product with others; one with many has its own."""

    def __init__(self, rows_of: Mapping[TorchAdapter, Sequence[int]], device: torch.device) -> None:
        few = {adapter: rows for adapter, rows in rows_of.items() if len(rows) <= TILE_ROWS}
        many = [{adapter: rows} for adapter, rows in rows_of.items() if len(rows) > TILE_ROWS]
        self._groups = tuple(_Group.of(members, device) for members in (few, *many) if members)

    def at(self, layer: int) -> TorchLayerAdapters:
        return TorchLayerAdapters(self._groups, layer)


@dataclass(frozen=True, slots=True)
class TorchLayerAdapters:
    """The updates of one decoder layer."""

    groups: tuple[_Group, ...]
    layer: int

    def apply(self, linear: AnyLinear, x_NI: Tensor, site: Site) -> Tensor:
        """`linear(x)` with the rows' own updates: (N, I) -> (N, O)."""
        out_NO: Tensor = linear(x_NI)
        self.add(out_NO, x_NI, site)
        return out_NO

    def add(self, out_NO: Tensor, x_NI: Tensor, site: Site) -> None:
        """Add the updates to the rows of `out_NO` that have any; the others are not touched."""
        for group in self.groups:
            group.add(out_NO, x_NI, self.layer, site)


@dataclass(frozen=True, slots=True)
class _Group:
    """Tiles that are computed together. `adapters` has one for every tile, or a single one for all of them.

    `tile_rows_F` are the F = M T rows of the batch that fill the tiles; those at `filled_K` are `rows_K`, the others repeat one of the same adapter.
    """

    adapters: tuple[TorchAdapter, ...]
    tile_rows_F: Tensor
    filled_K: Tensor
    rows_K: Tensor

    @classmethod
    def of(cls, members: Mapping[TorchAdapter, Sequence[int]], device: torch.device) -> _Group:
        tile_rows: list[int] = []
        filled: list[int] = []
        for rows in members.values():
            filled += range(len(tile_rows), len(tile_rows) + len(rows))
            tile_rows += [*rows, *[rows[-1]] * (-len(rows) % TILE_ROWS)]
        tile_rows_F, filled_K = torch.tensor(tile_rows, device=device), torch.tensor(filled, device=device)
        return cls(tuple(members), tile_rows_F, filled_K, tile_rows_F[filled_K])

    def add(self, out_NO: Tensor, x_NI: Tensor, layer: int, site: Site) -> None:
        updates = [adapter.updates.get((layer, site)) for adapter in self.adapters]
        num_slices = max(0 if update is None else len(update.slices) for update in updates)
        if num_slices == 0:
            return
        x_MTI = x_NI[self.tile_rows_F].float().view(-1, TILE_ROWS, x_NI.shape[1])
        total_MTO = out_NO[self.tile_rows_F].float().view(-1, TILE_ROWS, out_NO.shape[1])
        for number in range(num_slices):
            _add_slice(total_MTO, x_MTI, updates, number)
        out_NO[self.rows_K] = total_MTO.flatten(0, 1)[self.filled_K].to(out_NO.dtype)


def _add_slice(total_MTO: Tensor, x_MTI: Tensor, updates: Sequence[FusedUpdate | None], number: int) -> None:
    """Add one slice of ranks, in those tiles whose adapter has so many."""
    tiles = [tile for tile, update in enumerate(updates) if update is not None and number < len(update.slices)]
    present = [update for update in updates if update is not None and number < len(update.slices)]
    where = slice(None) if len(tiles) == len(updates) else torch.tensor(tiles, device=total_MTO.device)
    # One adapter for all tiles is read in place; several are gathered.
    a_MIP, b_MRO = (
        tensors[0].expand(total_MTO.shape[0], -1, -1) if len(updates) == 1 else torch.stack(tensors)
        for tensors in zip(*(update.slices[number] for update in present), strict=True)
    )
    reduced_MTP = torch.bmm(x_MTI[where], a_MIP)
    start = 0
    for index, width in enumerate(present[0].widths):
        ranks = slice(index * SLICE_RANKS, (index + 1) * SLICE_RANKS)
        total_MTO[where, :, start : start + width] += torch.bmm(reduced_MTP[:, :, ranks], b_MRO[:, :, start : start + width])
        start += width
