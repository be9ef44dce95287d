"""Step 9 of a request: the decoder of the Llama, Qwen2 and Qwen3 families: embed, a loop over layers, logits. The families differ in configuration only.

Shapes: N tokens of a step in one flat list, H query heads, G key/value heads, D head size, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from gpu_backend.kernels.native import NativeKernels
from gpu_backend.layers.attention import Attention
from gpu_backend.layers.batch import ForwardBatch
from gpu_backend.layers.kv_cache import PagedKVCache
from gpu_backend.layers.linear import Linear
from gpu_backend.layers.lora import adapted
from gpu_backend.layers.mlp import SwiGLU
from gpu_backend.layers.norm import RMSNorm
from gpu_backend.models.causal_lm.config import CausalLMConfig


class DecoderLayer(nn.Module):
    """Attention and feed-forward block, each behind a norm and added to the residual stream."""

    def __init__(
        self,
        config: CausalLMConfig,
        *,
        attention_norm: RMSNorm,
        qkv: Linear,
        q_norm: RMSNorm | None,
        k_norm: RMSNorm | None,
        attention: Attention,
        output: Linear,
        mlp_norm: RMSNorm,
        mlp: SwiGLU,
    ) -> None:
        super().__init__()
        self.config = config
        self.attention_norm = attention_norm
        self.qkv = qkv
        self.q_norm = q_norm
        self.k_norm = k_norm
        self.attention = attention
        self.output = output
        self.mlp_norm = mlp_norm
        self.mlp = mlp

    def forward(self, x: Tensor, cache: PagedKVCache, index: int, batch: ForwardBatch) -> Tensor:
        """(N, hidden) -> (N, hidden), the residual stream in float32; keys and values of this step are written to `cache`."""
        config = self.config
        adapters = None if batch.adapters is None else batch.adapters.at(index)
        qkv_NAD = adapted(self.qkv, self.attention_norm(x), "qkv", adapters).view(x.shape[0], -1, config.head_dim)
        if self.q_norm is not None and self.k_norm is not None:
            q_NHD, k_NGD, v_NGD = (part.contiguous() for part in torch.split(qkv_NAD, [config.num_heads, config.num_kv_heads, config.num_kv_heads], dim=1))
            qkv_NAD = torch.cat((self.q_norm(q_NHD), self.k_norm(k_NGD), v_NGD), dim=1)
        x, normed = self.mlp_norm.after_adding(x, adapted(self.output, self.attention(qkv_NAD, cache, index, batch), "output", adapters))
        return x + self.mlp(normed, adapters)


class CausalLM(nn.Module):
    """`embed`, `layers` and `compute_logits` are apart so that a caller can stop at an inner layer and ask for its logits."""

    def __init__(
        self, config: CausalLMConfig, embedding: Tensor, blocks: list[DecoderLayer], final_norm: RMSNorm, head: Linear, native: NativeKernels | None = None
    ) -> None:
        super().__init__()
        self.config = config
        self.embedding = embedding
        self.blocks = nn.ModuleList(blocks)
        self.final_norm = final_norm
        self.head = head
        self.native = native
        # Packed products of one row take longer than of four, and a row's result does not depend on the others.
        self.min_rows = 4 if native is not None else 1

    @property
    def dtype(self) -> torch.dtype:
        return self.embedding.dtype

    @property
    def device(self) -> torch.device:
        return self.embedding.device

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
        """(N,) -> (max(N, min_rows), hidden) in float32; rows beyond N are padding, which no other row ever sees."""
        x = functional.embedding(token_ids_N, self.embedding).float()
        missing = self.min_rows - x.shape[0]
        return functional.pad(x, (0, 0, 0, missing)) if missing > 0 else x

    def run_layers(self, x: Tensor, start: int, stop: int, cache: PagedKVCache, batch: ForwardBatch) -> Tensor:
        """Layers start..stop-1 of the residual stream: (N, hidden) -> (N, hidden)."""
        for index in range(start, stop):
            x = self.blocks[index](x, cache, index, batch)
        return x

    def compute_logits(self, x: Tensor) -> Tensor:
        """Final norm and head, of any layer's output: (K, hidden) -> (K, V) in float32."""
        normed = self.final_norm(x)
        if self.native is not None:
            assert self.head.weight is not None
            return self.native.head(normed, self.head.weight)
        return self.head(normed).float()

    def forward(self, batch: ForwardBatch, cache: PagedKVCache) -> Tensor:
        """All layers: -> hidden states (N, hidden) before the final norm, and padding as `embed` has it."""
        return self.run_layers(self.embed(batch.token_ids_N), 0, self.config.num_layers, cache, batch)
