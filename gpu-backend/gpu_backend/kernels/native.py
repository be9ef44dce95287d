"""Calls native.c on bfloat16 CPU tensors. Every method has a torch twin in `layers` with the same meaning.

Shapes: N tokens, M blocks of the longest sequence, H query heads, G key/value heads, D head size.
"""

from __future__ import annotations

import ctypes
import logging
from pathlib import Path

import torch
from torch import Tensor

from gpu_backend.kernels.build import ensure_built

logger = logging.getLogger(__name__)
MAX_BLOCK_SIZE = 32
_POINTER, _LONG, _FLOAT = ctypes.c_void_p, ctypes.c_long, ctypes.c_float
_SIGNATURES = {
    "attune_set_threads": (_POINTER, _POINTER, _POINTER, ctypes.c_int),
    "attune_norm": (*[_POINTER] * 5, _LONG, _LONG, _FLOAT),
    "attune_gate": (_POINTER, _POINTER, _LONG, _LONG),
    "attune_rotate_and_store": (*[_POINTER] * 6, *[_LONG] * 5),
    "attune_head": (*[_POINTER] * 3, *[_LONG] * 3),
    "attune_attend": (*[_POINTER] * 5, *[_LONG] * 7),
}


class NativeKernels:
    """The loaded library. All tensors are contiguous, on the CPU, and bfloat16 unless said otherwise."""

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))
        for name, arguments in _SIGNATURES.items():
            function = getattr(self._library, name)
            function.argtypes, function.restype = arguments, None
        self._keep_alive = _share_threads(self._library)

    @staticmethod
    def supports(*, head_dim: int, num_heads: int, num_kv_heads: int, hidden_size: int) -> bool:
        """The bounds that native.c states."""
        is_small = head_dim <= 256 and num_heads // num_kv_heads <= 16
        return is_small and head_dim % 32 == 0 and hidden_size % 32 == 0

    def norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """Root-mean-square norm of the last dimension of a float32 x, in bfloat16."""
        out = torch.empty_like(x, dtype=weight.dtype)
        self._library.attune_norm(out.data_ptr(), None, x.data_ptr(), None, weight.data_ptr(), x.numel() // x.shape[-1], x.shape[-1], eps)
        return out

    def add_norm(self, x: Tensor, delta: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        """-> x + delta in float32, and its norm in bfloat16."""
        out, total = torch.empty_like(delta), torch.empty_like(x)
        rows, size = x.numel() // x.shape[-1], x.shape[-1]
        self._library.attune_norm(out.data_ptr(), total.data_ptr(), x.data_ptr(), delta.data_ptr(), weight.data_ptr(), rows, size, eps)
        return total, out

    def gate(self, gate_up: Tensor) -> Tensor:
        """silu(gate) * up: (N, 2F) -> (N, F)."""
        size = gate_up.shape[-1] // 2
        out = gate_up.new_empty((gate_up.shape[0], size))
        self._library.attune_gate(out.data_ptr(), gate_up.data_ptr(), gate_up.shape[0], size)
        return out

    def head(self, x: Tensor, weight: Tensor) -> Tensor:
        """Logits in float32: x (K, hidden), weight (V, hidden) -> (K, V)."""
        out = torch.empty((x.shape[0], weight.shape[0]), dtype=torch.float32)
        self._library.attune_head(out.data_ptr(), x.data_ptr(), weight.data_ptr(), x.shape[0], x.shape[1], weight.shape[0])
        return out

    def rotate_and_store(
        self, qkv: Tensor, pool: Tensor, cos: Tensor, sin: Tensor, positions_N: Tensor, slots_N: Tensor, *, num_heads: int, num_kv_heads: int
    ) -> None:
        """Rotate queries and keys inside the first N rows of `qkv` (N or more, H+2G, D), then write keys and values to `pool` (2G, P, S, D).
        `cos` and `sin` are float32 tables."""
        _, num_blocks, block_size, head_dim = pool.shape
        self._library.attune_rotate_and_store(
            qkv.data_ptr(), pool.data_ptr(), cos.data_ptr(), sin.data_ptr(), positions_N.data_ptr(), slots_N.data_ptr(),
            positions_N.shape[0], num_heads, num_kv_heads, head_dim, num_blocks * block_size,
        )  # fmt: skip

    def attend(self, qkv: Tensor, pool: Tensor, blocks_NM: Tensor, lengths_N: Tensor, *, num_heads: int, num_kv_heads: int) -> Tensor:
        """Attention of the first N rows of `qkv`, each over the positions before and at its own: -> (rows of qkv, H*D), zeros beyond N."""
        _, num_blocks, block_size, head_dim = pool.shape
        num_rows, num_columns = blocks_NM.shape
        out = (qkv.new_empty if num_rows == qkv.shape[0] else qkv.new_zeros)((qkv.shape[0], num_heads * head_dim))
        self._library.attune_attend(
            out.data_ptr(), qkv.data_ptr(), pool.data_ptr(), blocks_NM.data_ptr(), lengths_N.data_ptr(),
            num_rows, num_heads, num_kv_heads, head_dim, num_blocks, block_size, num_columns,
        )  # fmt: skip
        return out


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
        names = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")
        pointers = [ctypes.cast(getattr(openmp, name), ctypes.c_void_p) for name in names]
    except (OSError, StopIteration, AttributeError):
        return None
    library.attune_set_threads(*pointers, torch.get_num_threads())
    return openmp
