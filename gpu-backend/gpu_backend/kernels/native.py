"""Calls the C operators of `cpu/` on CPU tensors. Every method has a torch twin in `layers` with the same meaning.

Shapes: N tokens, M blocks of the longest sequence, H query heads, G key/value heads, D head size, O outputs, I inputs.
"""

from __future__ import annotations

import ctypes
import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gpu_backend.kernels import structs
from gpu_backend.kernels.build import ensure_built
from gpu_backend.kernels.packing import BLOCK, kind_index

logger = logging.getLogger(__name__)
_POINTER, _LONG, _FLOAT = ctypes.c_void_p, ctypes.c_long, ctypes.c_float
_SIGNATURES = {
    "attune_set_threads": (_POINTER, ctypes.c_int),
    "attune_norm": (*[_POINTER] * 3, _LONG, _LONG, _FLOAT),
    "attune_multiply": (*[_POINTER] * 6, _LONG, _LONG, _LONG),
    "attune_look_up": (*[_POINTER] * 3, _LONG),
    "attune_gate": (_POINTER, _POINTER, _LONG, _LONG),
    "attune_attend": (_POINTER,) * 8,
    "attune_run_layers": (*[_POINTER] * 6, _LONG, _LONG, _POINTER, _POINTER),
    "attune_guess": (*[_POINTER] * 6, _LONG, _POINTER),
    "attune_fuse": (*[_POINTER] * 3, _LONG, _POINTER),
    "attune_draft": (_POINTER,) * 12,
}


@dataclass(frozen=True)
class PackedMatrix:
    """`records` as packing.py makes them, for O outputs; `bias` (O,) in float32."""

    records: Tensor
    num_outputs: int
    bias: Tensor | None = None

    @property
    def num_inputs(self) -> int:
        return self.records.shape[1] * BLOCK

    @cached_property
    def struct(self) -> structs.Matrix:
        assert self.records.is_contiguous()
        return structs.Matrix(self.records.data_ptr(), _pointer(self.bias), kind_index(self.records), self.num_inputs, self.num_outputs)


@dataclass(frozen=True)
class PagedRows:
    """Where each of N rows stands: its position, its slot of the pool, its sequence's blocks (N, M), and how many positions it sees."""

    positions_N: Tensor
    slots_N: Tensor
    blocks_NM: Tensor
    lengths_N: Tensor

    @cached_property
    def struct(self) -> structs.Batch:
        tensors = (self.positions_N, self.slots_N, self.blocks_NM, self.lengths_N)
        return structs.Batch(*(tensor.data_ptr() for tensor in tensors), *self.blocks_NM.shape)


class NativeKernels:
    """The loaded library. All tensors are contiguous and on the CPU."""

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))
        for name, arguments in _SIGNATURES.items():
            function = getattr(self._library, name)
            function.argtypes, function.restype = arguments, None
        for name in ("attune_run_layers", "attune_guess", "attune_fuse", "attune_draft"):
            getattr(self._library, name).restype = _LONG
        self._keep_alive = _share_threads(self._library)

    @staticmethod
    def supports(*, head_dim: int, num_heads: int, num_kv_heads: int, hidden_size: int, intermediate_size: int) -> bool:
        """The bounds that the C files state."""
        return head_dim <= 256 and num_heads // num_kv_heads <= 16 and all(size % BLOCK == 0 for size in (head_dim, hidden_size, intermediate_size))

    def norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """Root-mean-square norm of the last dimension of a float32 x, in bfloat16 like the weight."""
        out = torch.empty_like(x, dtype=weight.dtype)
        self._library.attune_norm(out.data_ptr(), x.data_ptr(), weight.data_ptr(), x.numel() // x.shape[-1], x.shape[-1], eps)
        return out

    def multiply(self, x_NI: Tensor, matrix: PackedMatrix, adapters: structs.Adapters | None = None, updates: range = range(0)) -> Tensor:
        """A bfloat16 x times the matrix, plus its bias, and those of the rows' adapters' updates: -> (N, O) in float32."""
        num_rows = x_NI.shape[0]
        assert x_NI.shape[1] == matrix.num_inputs and x_NI.is_contiguous() and x_NI.dtype == torch.bfloat16
        out, sums = torch.empty((num_rows, matrix.num_outputs), dtype=torch.float32), _sums_of(x_NI)
        reduced = torch.empty((num_rows, len(updates) * (adapters.max_rank if adapters else 0)), dtype=torch.bfloat16)
        pointers = (out.data_ptr(), x_NI.data_ptr(), sums.data_ptr(), ctypes.byref(matrix.struct), _reference(adapters), reduced.data_ptr())
        self._library.attune_multiply(*pointers, updates.start, len(updates), num_rows)
        return out

    def look_up(self, rows_N: Tensor, matrix: PackedMatrix) -> Tensor:
        """-> those rows of the weights, (N, I) in float32."""
        out = torch.empty((rows_N.shape[0], matrix.num_inputs), dtype=torch.float32)
        self._library.attune_look_up(out.data_ptr(), rows_N.data_ptr(), ctypes.byref(matrix.struct), rows_N.shape[0])
        return out

    def gate(self, gate_up: Tensor) -> Tensor:
        """silu(gate) * up of float32 numbers: (N, 2F) -> (N, F) in bfloat16."""
        size = gate_up.shape[-1] // 2
        out = torch.empty((gate_up.shape[0], size), dtype=torch.bfloat16)
        self._library.attune_gate(out.data_ptr(), gate_up.data_ptr(), gate_up.shape[0], size)
        return out

    def attend(self, qkv_NAD: Tensor, pool: Tensor, rotation: structs.Rotation, rows: PagedRows, shape: structs.HeadShape) -> Tensor:
        """Norm and rotate the queries and keys of float32 `qkv_NAD` (A = H+2G), store keys and values in `pool` (2G, P, S, D), attend: -> (N, H*D)."""
        out = torch.empty((qkv_NAD.shape[0], shape.num_heads * shape.head_dim), dtype=torch.bfloat16)
        queries, sums = torch.empty_like(out), _sums_of(out)
        pointers = [tensor.data_ptr() for tensor in (out, sums, queries, pool, qkv_NAD)]
        self._library.attune_attend(*pointers, *map(ctypes.byref, (rotation, rows.struct, shape)))
        return out

    def run_layers(
        self,
        x: Tensor,
        decoder: structs.Decoder,
        pools: ctypes.Array[ctypes.c_void_p],
        rows: PagedRows,
        shape: structs.HeadShape,
        adapters: structs.Adapters | None,
        start: int,
        stop: int,
        notes: structs.Notes | None = None,
    ) -> None:
        """Decoder layers start..stop-1 of the float32 residual stream x (N, hidden), in place; what `notes` asks for is written on the way."""
        fixed = (ctypes.byref(decoder), pools, ctypes.byref(rows.struct), ctypes.byref(shape), _reference(adapters), start, stop, _reference(notes))
        scratch = torch.empty(self._library.attune_run_layers(None, *fixed, None), dtype=torch.uint8)
        self._library.attune_run_layers(x.data_ptr(), *fixed, scratch.data_ptr())

    def fuse(self, deep_NRH: Tensor, block: structs.ExitBlock) -> Tensor:
        """From float32 streams after the block's R deep layers: what is known (N, H) of these positions."""
        assert deep_NRH.dtype == torch.float32 and deep_NRH.is_contiguous() and deep_NRH.shape[1] == block.num_deep_layers
        num_rows = len(deep_NRH)
        known_NH = torch.empty(num_rows, deep_NRH.shape[2])
        scratch = torch.empty(self._library.attune_fuse(None, None, ctypes.byref(block), num_rows, None), dtype=torch.uint8)
        self._library.attune_fuse(known_NH.data_ptr(), deep_NRH.data_ptr(), ctypes.byref(block), num_rows, scratch.data_ptr())
        return known_NH

    def guess(self, x_NH: Tensor, known_NH: Tensor, block: structs.ExitBlock) -> tuple[Tensor, Tensor, Tensor]:
        """From float32 rows at the exit and what is known before: places in the block's head (N,), their probabilities among its rows (N,), states (N, H)."""
        assert x_NH.dtype == known_NH.dtype == torch.float32 and x_NH.is_contiguous() and known_NH.is_contiguous()
        num_rows = x_NH.shape[0]
        places_N, probs_N, states_NH = torch.empty(num_rows, dtype=torch.int64), torch.empty(num_rows), torch.empty_like(x_NH)
        outputs = [tensor.data_ptr() for tensor in (states_NH, places_N, probs_N)]
        scratch = torch.empty(self._library.attune_guess(*outputs, None, None, ctypes.byref(block), num_rows, None), dtype=torch.uint8)
        self._library.attune_guess(*outputs, x_NH.data_ptr(), known_NH.data_ptr(), ctypes.byref(block), num_rows, scratch.data_ptr())
        return places_N, probs_N, states_NH

    def draft(
        self,
        token: int,
        deep_RH: Tensor,
        parts: structs.DraftParts,
        rule: structs.DraftRule,
        pools: ctypes.Array[ctypes.c_void_p],
        rows: PagedRows,
        shape: structs.HeadShape,
    ) -> tuple[list[int], list[float], Tensor, int]:
        """The drafts after a token of one sequence, which stands at the first of these rows: -> the token and its drafts, the drafts' probabilities, the
        residual stream at the exit after each token (T, H), and how many guesses were made. `deep_RH` are the deep layers' outputs one position before."""
        size = parts.hidden_size
        lower_TH, states_TH = torch.empty((rule.most + 1, size)), torch.empty((rule.most + 1, size))
        tokens, probs, counts = (ctypes.c_int64 * (rule.most + 1))(token), (_FLOAT * max(1, rule.most))(), (ctypes.c_int64 * 2)()
        fixed = (*map(ctypes.byref, (parts, rule)), pools, ctypes.byref(rows.struct), ctypes.byref(shape))
        scratch = torch.empty(self._library.attune_draft(*[None] * 6, *fixed, None), dtype=torch.uint8)
        outputs = (tokens, probs, lower_TH.data_ptr(), states_TH.data_ptr(), counts, deep_RH.data_ptr())
        self._library.attune_draft(*outputs, *fixed, scratch.data_ptr())
        num_guesses, num_kept = counts
        return tokens[: num_kept + 1], probs[:num_kept], lower_TH[: num_kept + 1], num_guesses


def _sums_of(x_NI: Tensor) -> Tensor:
    """Room for the sums of each row's blocks."""
    return torch.empty((x_NI.shape[0], x_NI.shape[1] // BLOCK), dtype=torch.float32)


def _pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _reference(struct: ctypes.Structure | None) -> Any:
    return None if struct is None else ctypes.byref(struct)


def load_native(folder: Path) -> NativeKernels | None:
    """None where it cannot be built or loaded; the torch twins then do the work."""
    library = ensure_built(folder)
    if library is None:
        return None
    try:
        return NativeKernels(library)
    except OSError as error:
        logger.warning("native kernels could not be loaded", extra={"reason": str(error)})
        return None


def _share_threads(library: ctypes.CDLL) -> object:
    """Hand PyTorch's own OpenMP to the library. Without it (no GNU OpenMP in this process) the library stays on one thread."""
    try:
        maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
        path = next(line.split(maxsplit=5)[5] for line in maps.splitlines() if "libgomp" in line)
        openmp = ctypes.CDLL(path)
        parallel = ctypes.cast(openmp.GOMP_parallel, ctypes.c_void_p)
    except (OSError, StopIteration, AttributeError):
        return None
    library.attune_set_threads(parallel, torch.get_num_threads())
    return openmp
