"""Step 9 of a request: the decoder of the Llama, Qwen2 and Qwen3 families: embed, a loop over layers, logits. The families differ in configuration only.

Shapes: N tokens of a step in one flat list, H query heads, G key/value heads, D head size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from gpu_backend.layers.attention import Attention
from gpu_backend.layers.batch import ForwardBatch
from gpu_backend.layers.kv_cache import PagedKVCache
from gpu_backend.layers.linear import AnyLinear, Linear, PackedLinear
from gpu_backend.layers.lora import adapted
from gpu_backend.layers.mlp import SwiGLU
from gpu_backend.layers.norm import RMSNorm
from gpu_backend.models.causal_lm.config import CausalLMConfig
from gpu_backend.models.causal_lm.fused import FusedLayers

# Bounds the memory of products that are added afterwards.
_NUM_AT_ONCE = 32


class DecoderLayer(nn.Module):
    """Attention and feed-forward block, each behind a norm and added to the residual stream."""

    def __init__(
        self, *, head_dim: int, attention_norm: RMSNorm, qkv: AnyLinear, attention: Attention, output: AnyLinear, mlp_norm: RMSNorm, mlp: SwiGLU
    ) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.attention_norm = attention_norm
        self.qkv = qkv
        self.attention = attention
        self.output = output
        self.mlp_norm = mlp_norm
        self.mlp = mlp

    def forward(self, x: Tensor, cache: PagedKVCache, index: int, batch: ForwardBatch) -> Tensor:
        """(N, hidden) -> (N, hidden), the residual stream in float32; keys and values of this step are written to `cache`."""
        x = self.attend(x, cache, index, batch)
        return x + self.mlp(self.mlp_norm(x), None if batch.adapters is None else batch.adapters.at(index))

    def attend(self, x: Tensor, cache: PagedKVCache, index: int, batch: ForwardBatch) -> Tensor:
        """The first half of the layer: the residual stream after attention, before the feed-forward block."""
        adapters = None if batch.adapters is None else batch.adapters.at(index)
        qkv_NAD = adapted(self.qkv, self.attention_norm(x), "qkv", adapters).view(x.shape[0], -1, self.head_dim)
        return x + adapted(self.output, self.attention(qkv_NAD, cache, index, batch), "output", adapters)


class CausalLM(nn.Module):
    """`embed`, `layers` and `compute_logits` are apart so that a caller can stop at an inner layer and ask for its logits.

    `embedding` is a weight (vocabulary, hidden), or None where it is the head's packed one. `fused` computes layers in one call where it can.
    """

    def __init__(
        self,
        config: CausalLMConfig,
        embedding: Tensor | None,
        blocks: list[DecoderLayer],
        final_norm: RMSNorm,
        head: AnyLinear,
        fused: FusedLayers | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.embedding = embedding
        self.blocks = nn.ModuleList(blocks)
        self.final_norm = final_norm
        self.head = head
        self.fused = fused

    @property
    def dtype(self) -> torch.dtype:
        return self.final_norm.weight.dtype

    @property
    def device(self) -> torch.device:
        return self.final_norm.weight.device

    def new_cache(self, *, num_blocks: int, block_size: int) -> PagedKVCache:
        config = self.config
        return PagedKVCache(
            num_layers=config.num_layers,
            num_kv_heads=config.num_kv_heads,
            head_dim=config.head_dim,
            num_blocks=num_blocks,
            block_size=block_size,
            dtype=self.dtype,
            device=self.device,
        )

    def embed(self, token_ids_N: Tensor) -> Tensor:
        """(N,) -> (N, hidden) in float32."""
        if self.embedding is not None:
            return functional.embedding(token_ids_N, self.embedding).float()
        assert isinstance(self.head, PackedLinear)
        return self.head.look_up(token_ids_N)

    def head_rows(self, token_ids_S: Tensor) -> Tensor:
        """(S,) -> (S, hidden) in float32: the rows of the head that give these tokens' logits, as they are multiplied."""
        if isinstance(self.head, PackedLinear):
            return self.head.look_up(token_ids_S)
        weight = self.head.weight if self.head.weight is not None else self.embedding
        assert weight is not None and (weight is self.head.weight or self.config.tie_word_embeddings)
        return weight[token_ids_S].float()

    def run_layers(self, x: Tensor, start: int, stop: int, cache: PagedKVCache, batch: ForwardBatch) -> Tensor:
        """Layers start..stop-1 of the residual stream: (N, hidden) -> (N, hidden)."""
        if self.fused is not None:
            return self.fused(x, start, stop, cache, batch)
        for index in range(start, stop):
            x = self.blocks[index](x, cache, index, batch)
        return x

    def run_layers_noting(self, x: Tensor, start: int, layers: Sequence[int], cache: PagedKVCache, batch: ForwardBatch) -> Tensor:
        """From layer `start` to the last of `layers`, which ascend: (N, hidden) -> (N, len(layers), hidden), the residual stream after each of them."""
        if self.fused is not None:
            return self.fused.noting(x, start, layers, cache, batch)
        after = []
        for layer in layers:
            x, start = self.run_layers(x, start, layer, cache, batch), layer
            after.append(x)
        return torch.stack(after, dim=1)

    def compute_logits(self, x: Tensor) -> Tensor:
        """Final norm and head, of any layer's output: (K, hidden) -> (K, V) in float32."""
        logits_KV: Tensor = self.head(self.final_norm(x))
        return logits_KV.float()

    @property
    def rounds_logits(self) -> bool:
        """Whether `compute_logits` rounds to the weights' precision what `compute_few_logits` does not: in bfloat16 logits around 20 are 0.125 apart.
        The C operators round nothing, and a head that was packed and is not the embedding has no rows to look up."""
        return isinstance(self.head, Linear) and self.dtype != torch.float32 and (self.head.weight is not None or self.config.tie_word_embeddings)

    def compute_few_logits(self, x: Tensor, token_ids_S: Tensor) -> Tensor:
        """Those of a few tokens, multiplied and added in float32: (K, hidden) -> (K, S). A row is the same whatever rows stand beside it."""
        x_KH, rows_SH = self.final_norm(x).float(), self.head_rows(token_ids_S)
        starts = range(0, len(rows_SH), _NUM_AT_ONCE)
        return torch.cat([(x_KH[:, None] * rows_SH[start : start + _NUM_AT_ONCE]).sum(dim=-1) for start in starts], dim=1)

    def forward(self, batch: ForwardBatch, cache: PagedKVCache) -> Tensor:
        """All layers: -> hidden states (N, hidden) before the final norm."""
        return self.run_layers(self.embed(batch.token_ids_N), 0, self.config.num_layers, cache, batch)
