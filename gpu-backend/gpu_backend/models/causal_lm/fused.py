"""The decoder's layers as one call of the C operators: bit for bit what the layers compute one operator at a time, without the way back and forth between."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gpu_backend.kernels import structs
from gpu_backend.kernels.native import NativeKernels
from gpu_backend.layers.batch import ForwardBatch
from gpu_backend.layers.kv_cache import PagedKVCache
from gpu_backend.layers.linear import AnyLinear, PackedLinear
from gpu_backend.layers.packed_lora import PackedBatchAdapters
from gpu_backend.layers.rope import RotaryTable

if TYPE_CHECKING:
    from gpu_backend.models.causal_lm.model import DecoderLayer


class FusedLayers:
    """Holds the addresses of the layers' weights, and the layers themselves so that these stay where they are."""

    def __init__(self, layers: Sequence[DecoderLayer], rotary: RotaryTable, num_heads: int, native: NativeKernels) -> None:
        self._layers = layers
        self._rotary = rotary
        self._num_heads = num_heads
        self._native = native
        hidden_size, eps = layers[0].attention_norm.weight.shape[0], layers[0].attention_norm.eps
        array = (structs.Layer * len(layers))(*map(_layer, layers))
        intermediate_size = _matrix(layers[0].mlp.down).num_inputs
        self.decoder = structs.Decoder(array, rotary.cos_PD.data_ptr(), rotary.sin_PD.data_ptr(), hidden_size, intermediate_size, eps)

    def __call__(self, x: Tensor, start: int, stop: int, cache: PagedKVCache, batch: ForwardBatch) -> Tensor:
        """Layers start..stop-1 of the residual stream: (N, hidden) -> (N, hidden), both float32."""
        return self._run(x, start, stop, cache, batch, None)

    def noting(self, x: Tensor, start: int, layers: Sequence[int], cache: PagedKVCache, batch: ForwardBatch) -> Tensor:
        """From layer `start` to the last of `layers`, which ascend: (N, hidden) -> (N, len(layers), hidden), what it is after each of them."""
        out_NRH = torch.empty(len(x), len(layers), x.shape[1])
        layers_R = (ctypes.c_int64 * len(layers))(*layers)
        self._run(x, start, layers[-1], cache, batch, structs.Notes(ctypes.addressof(layers_R), len(layers), out_NRH.data_ptr()))
        return out_NRH

    def _run(self, x: Tensor, start: int, stop: int, cache: PagedKVCache, batch: ForwardBatch, notes: structs.Notes | None) -> Tensor:
        assert 0 <= start <= stop <= len(self._layers), (start, stop)
        assert batch.adapters is None or isinstance(batch.adapters, PackedBatchAdapters)
        adapters = None if batch.adapters is None else batch.adapters.struct
        out = x.clone()
        self._native.run_layers(out, self.decoder, cache.pointers, batch.paged_rows, self.head_shape(cache), adapters, start, stop, notes)
        return out

    def head_shape(self, cache: PagedKVCache) -> structs.HeadShape:
        return cache.head_shape(self._num_heads)


def _layer(layer: DecoderLayer) -> structs.Layer:
    q_norm, k_norm = layer.attention.q_norm, layer.attention.k_norm
    norms = (layer.attention_norm, q_norm, k_norm, layer.mlp_norm)
    matrices = (layer.qkv, layer.output, layer.mlp.gate_up, layer.mlp.down)
    return structs.Layer(*(None if norm is None else norm.weight.data_ptr() for norm in norms), *map(_matrix, matrices))


def _matrix(linear: AnyLinear) -> structs.Matrix:
    assert isinstance(linear, PackedLinear)
    return linear.matrix.struct
