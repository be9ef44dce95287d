"""Keys and values of all running sequences in fixed blocks, so that memory is bounded and no sequence needs a contiguous stretch.

Shapes: G key/value heads, D head size, P blocks in the pool, S positions in a block, N tokens of this step, B sequences, M blocks of the longest one.
A layer's pool is (2G, P, S, D): the first G planes hold keys, the last G values. One gather over dimension 1 then brings both, contiguous per head.
"""

from __future__ import annotations

import ctypes
import math

import numpy as np
import torch
from torch import Tensor

from gpu_backend.kernels import structs


class PagedKVCache:
    """The pool. Which block belongs to whom is the block manager's affair; this class only writes and reads."""

    def __init__(
        self, *, num_layers: int, num_kv_heads: int, head_dim: int, num_blocks: int, block_size: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.block_size = block_size
        self.num_kv_heads = num_kv_heads
        shape = (2 * num_kv_heads, num_blocks, block_size, head_dim)
        self.layers = [_zeros(shape, dtype, device) for _ in range(num_layers)]
        self.pointers = (ctypes.c_void_p * num_layers)(*(pool.data_ptr() for pool in self.layers))

    def head_shape(self, num_heads: int) -> structs.HeadShape:
        """The pool as C operators see it, under this many query heads."""
        _, num_blocks, block_size, head_dim = self.layers[0].shape
        return structs.HeadShape(num_heads, self.num_kv_heads, head_dim, num_blocks, block_size)

    def write(self, layer: int, slots_N: Tensor, keys_NGD: Tensor, values_NGD: Tensor) -> None:
        """Store one key and one value per token at `slots_N` (block * block_size + offset)."""
        pool = self.layers[layer]
        flat = pool.view(pool.shape[0], -1, pool.shape[3])
        flat.index_copy_(1, slots_N, torch.cat((keys_NGD, values_NGD), dim=1).transpose(0, 1))

    def read(self, layer: int, blocks: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of these blocks: (B, M) -> two of (G, B, M*S, D); (M,) -> two of (G, 1, M*S, D)."""
        pool = self.layers[layer]
        num_rows = blocks.shape[0] if blocks.dim() == 2 else 1
        gathered = pool.index_select(1, blocks.reshape(-1)).view(pool.shape[0], num_rows, -1, pool.shape[3])
        return gathered[: self.num_kv_heads], gathered[self.num_kv_heads :]


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros, not garbage: a padded position is masked by adding -inf to its score, and a NaN in the pool would survive that.

    On a CPU the pages come zeroed from the operating system when they are first written, so a pool costs only what was ever used of it.
    """
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    return torch.from_numpy(np.zeros(math.prod(shape) * dtype.itemsize, dtype=np.uint8)).view(dtype).view(shape)
