"""Causal attention with grouped query heads over the paged cache: one batched product for decoding rows, one fused call per prompt stretch.

Shapes: N tokens, B decoding sequences, T cached positions, H query heads, G key/value heads, R = H/G query heads per group, D head size.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from gpu_backend.kernels import structs
from gpu_backend.kernels.native import NativeKernels
from gpu_backend.layers.batch import ForwardBatch, PromptSpan
from gpu_backend.layers.kv_cache import PagedKVCache
from gpu_backend.layers.norm import RMSNorm
from gpu_backend.layers.rope import RotaryTable, rotate


class Attention:
    """Norms (where a model has them), rotates, stores and attends. `native` replaces the torch operators on a CPU."""

    def __init__(
        self,
        num_heads: int,
        num_kv_heads: int,
        rotary: RotaryTable,
        *,
        q_norm: RMSNorm | None = None,
        k_norm: RMSNorm | None = None,
        native: NativeKernels | None = None,
    ) -> None:
        self._num_heads = num_heads
        self._num_kv_heads = num_kv_heads
        self._rotary = rotary
        self.q_norm = q_norm
        self.k_norm = k_norm
        self._native = native

    def __call__(self, qkv_NAD: Tensor, cache: PagedKVCache, layer: int, batch: ForwardBatch) -> Tensor:
        """Queries, keys and values of this step side by side (N, A = H+2G, D) -> (N, H*D)."""
        if self._native is not None:
            return self._native.attend(qkv_NAD, cache.layers[layer], self._rotation(), batch.paged_rows, cache.head_shape(self._num_heads))
        q_NHD, k_NGD, v_NGD = torch.split(qkv_NAD, [self._num_heads, self._num_kv_heads, self._num_kv_heads], dim=1)
        if self.q_norm is not None and self.k_norm is not None:
            q_NHD, k_NGD = self.q_norm(q_NHD), self.k_norm(k_NGD)
        cos_sin = self._rotary.at(batch.positions_N, qkv_NAD.dtype)
        q_NHD, k_NGD = rotate(q_NHD, cos_sin), rotate(k_NGD, cos_sin)
        cache.write(layer, batch.slots_N, k_NGD, v_NGD)
        parts = []
        if batch.num_decodes:
            assert batch.decode_blocks_BM is not None and batch.decode_lengths_B is not None
            parts.append(_decode(q_NHD[: batch.num_decodes], *cache.read(layer, batch.decode_blocks_BM), batch.decode_lengths_B))
        for span in batch.spans:
            stretch = slice(span.start, span.start + span.length)
            if span.kv_length == span.length:
                parts.append(_first_stretch(q_NHD[stretch], k_NGD[stretch], v_NGD[stretch]))
            else:
                parts.append(_later_stretch(q_NHD[stretch], cache, layer, span))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _rotation(self) -> structs.Rotation:
        norms: tuple[int | None, int | None, float] = (None, None, 0.0)
        if self.q_norm is not None and self.k_norm is not None:
            norms = (self.q_norm.weight.data_ptr(), self.k_norm.weight.data_ptr(), self.q_norm.eps)
        return structs.Rotation(self._rotary.cos_PD.data_ptr(), self._rotary.sin_PD.data_ptr(), *norms)


def _decode(queries_BHD: Tensor, keys_GBTD: Tensor, values_GBTD: Tensor, lengths_B: Tensor) -> Tensor:
    """One query per sequence: grouped products on the un-repeated keys and values, softmax in float32."""
    num_groups, num_rows, num_positions, head_dim = keys_GBTD.shape
    queries_GBRD = queries_BHD.view(num_rows, num_groups, -1, head_dim).transpose(0, 1) * head_dim**-0.5
    scores_GBRT = torch.matmul(queries_GBRD, keys_GBTD.transpose(2, 3)).float()
    is_padding_BT = torch.arange(num_positions, device=lengths_B.device) >= lengths_B.unsqueeze(1)
    weights_GBRT = torch.softmax(scores_GBRT.masked_fill(is_padding_BT.unsqueeze(1), float("-inf")), dim=-1).to(values_GBTD.dtype)
    # Padding may hold what another request left, and 0 * NaN is NaN.
    values_GBTD = values_GBTD.masked_fill(is_padding_BT.unsqueeze(-1), 0)
    mixed_GBRD = torch.matmul(weights_GBRT, values_GBTD)
    return mixed_GBRD.transpose(0, 1).reshape(num_rows, -1)


def _first_stretch(queries_SHD: Tensor, keys_SGD: Tensor, values_SGD: Tensor) -> Tensor:
    """A prompt from its beginning: nothing cached yet, plain causal attention."""
    return _attend_stretch(queries_SHD, keys_SGD.transpose(0, 1), values_SGD.transpose(0, 1), None)


def _later_stretch(queries_SHD: Tensor, cache: PagedKVCache, layer: int, span: PromptSpan) -> Tensor:
    """A prompt stretch that also sees what earlier steps cached."""
    keys_G1TD, values_G1TD = cache.read(layer, span.blocks_M)
    last_visible_S = torch.arange(span.kv_length - span.length, span.kv_length, device=queries_SHD.device)
    is_visible_ST = torch.arange(span.kv_length, device=queries_SHD.device).unsqueeze(0) <= last_visible_S.unsqueeze(1)
    return _attend_stretch(queries_SHD, keys_G1TD[:, 0, : span.kv_length], values_G1TD[:, 0, : span.kv_length], is_visible_ST)


def _attend_stretch(queries_SHD: Tensor, keys_GTD: Tensor, values_GTD: Tensor, is_visible_ST: Tensor | None) -> Tensor:
    """Fused attention with each key/value head repeated for its group; causal where no mask is given."""
    repeats = queries_SHD.shape[1] // keys_GTD.shape[0]
    queries, keys, values = (
        x.unsqueeze(0) for x in (queries_SHD.transpose(0, 1), keys_GTD.repeat_interleave(repeats, 0), values_GTD.repeat_interleave(repeats, 0))
    )
    mixed_1HSD = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=is_visible_ST, is_causal=is_visible_ST is None)
    return mixed_1HSD.squeeze(0).transpose(0, 1).reshape(queries_SHD.shape[0], -1)
