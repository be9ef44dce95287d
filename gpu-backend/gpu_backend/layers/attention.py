"""Causal attention with grouped query heads over the paged cache: one batched product for decoding rows, one fused call per prompt stretch.

Shapes: N tokens, B decoding sequences, T cached positions, H query heads, G key/value heads, R = H/G query heads per group, D head size.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from gpu_backend.layers.batch import ForwardBatch, PromptSpan
from gpu_backend.layers.kv_cache import PagedKVCache


def attend(queries_NHD: Tensor, keys_NGD: Tensor, values_NGD: Tensor, cache: PagedKVCache, layer: int, batch: ForwardBatch) -> Tensor:
    """Write this step's keys and values, then attend over everything cached so far: -> (N, H*D)."""
    cache.write(layer, batch.slots_N, keys_NGD, values_NGD)
    parts = []
    if batch.num_decodes:
        parts.append(_decode(queries_NHD[: batch.num_decodes], cache, layer, batch))
    for span in batch.spans:
        stretch = slice(span.start, span.start + span.length)
        if span.kv_length == span.length:
            parts.append(_first_stretch(queries_NHD[stretch], keys_NGD[stretch], values_NGD[stretch]))
        else:
            parts.append(_later_stretch(queries_NHD[stretch], cache, layer, span))
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _decode(queries_BHD: Tensor, cache: PagedKVCache, layer: int, batch: ForwardBatch) -> Tensor:
    """One query per sequence: grouped products on the un-repeated keys and values, softmax in float32."""
    assert batch.decode_blocks_BM is not None and batch.decode_mask_BT is not None
    keys_GBTD, values_GBTD = cache.read(layer, batch.decode_blocks_BM)
    num_groups, num_rows, _, head_dim = keys_GBTD.shape
    queries_GBRD = queries_BHD.view(num_rows, num_groups, -1, head_dim).transpose(0, 1) * head_dim**-0.5
    scores_GBRT = torch.matmul(queries_GBRD, keys_GBTD.transpose(2, 3))
    weights_GBRT = torch.softmax(scores_GBRT.float() + batch.decode_mask_BT.unsqueeze(1), dim=-1).to(values_GBTD.dtype)
    mixed_GBRD = torch.matmul(weights_GBRT, values_GBTD)
    return mixed_GBRD.transpose(0, 1).reshape(num_rows, -1)


def _first_stretch(queries_SHD: Tensor, keys_SGD: Tensor, values_SGD: Tensor) -> Tensor:
    """A prompt from its beginning: nothing cached yet, plain causal attention."""
    repeats = queries_SHD.shape[1] // keys_SGD.shape[1]
    queries, keys, values = (
        queries_SHD.transpose(0, 1).unsqueeze(0),
        keys_SGD.transpose(0, 1).repeat_interleave(repeats, dim=0).unsqueeze(0),
        values_SGD.transpose(0, 1).repeat_interleave(repeats, dim=0).unsqueeze(0),
    )
    mixed_1HSD = functional.scaled_dot_product_attention(queries, keys, values, is_causal=True)
    return mixed_1HSD.squeeze(0).transpose(0, 1).reshape(queries_SHD.shape[0], -1)


def _later_stretch(queries_SHD: Tensor, cache: PagedKVCache, layer: int, span: PromptSpan) -> Tensor:
    """A prompt stretch that also sees what earlier steps cached."""
    keys_G1TD, values_G1TD = cache.read(layer, span.blocks_M)
    repeats = queries_SHD.shape[1] // keys_G1TD.shape[0]
    keys = keys_G1TD[:, 0, : span.kv_length].repeat_interleave(repeats, dim=0).unsqueeze(0)
    values = values_G1TD[:, 0, : span.kv_length].repeat_interleave(repeats, dim=0).unsqueeze(0)
    last_visible_S = torch.arange(span.kv_length - span.length, span.kv_length, device=queries_SHD.device)
    is_visible_ST = torch.arange(span.kv_length, device=queries_SHD.device).unsqueeze(0) <= last_visible_S.unsqueeze(1)
    mixed_1HSD = functional.scaled_dot_product_attention(queries_SHD.transpose(0, 1).unsqueeze(0), keys, values, attn_mask=is_visible_ST)
    return mixed_1HSD.squeeze(0).transpose(0, 1).reshape(queries_SHD.shape[0], -1)
