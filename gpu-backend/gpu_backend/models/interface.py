"""What the engine asks of a model: decoder layers over the paged cache, and for some an encoder whose output they also see.

Shapes: N tokens of a step in one flat list, K rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from gpu_backend.layers.batch import ForwardBatch
from gpu_backend.layers.conditioning import EncoderSource
from gpu_backend.layers.kv_cache import PagedKVCache


class DecoderConfig(Protocol):
    @property
    def vocab_size(self) -> int: ...
    @property
    def num_layers(self) -> int: ...
    @property
    def hidden_size(self) -> int: ...
    @property
    def max_positions(self) -> int: ...


class Decoder(Protocol):
    """`models.causal_lm.model.CausalLM` is one; its docstrings say what the methods do."""

    @property
    def config(self) -> DecoderConfig: ...
    @property
    def device(self) -> torch.device: ...
    @property
    def rounds_logits(self) -> bool: ...
    def new_cache(self, *, num_blocks: int, block_size: int) -> PagedKVCache: ...
    def embed(self, token_ids_N: Tensor) -> Tensor: ...
    def run_layers(self, x: Tensor, start: int, stop: int, cache: PagedKVCache, batch: ForwardBatch) -> Tensor: ...
    def run_layers_noting(self, x: Tensor, start: int, layers: Sequence[int], cache: PagedKVCache, batch: ForwardBatch) -> Tensor: ...
    def compute_logits(self, x: Tensor) -> Tensor: ...
    def compute_few_logits(self, x: Tensor, token_ids_S: Tensor) -> Tensor: ...
    def __call__(self, batch: ForwardBatch, cache: PagedKVCache) -> Tensor: ...


@runtime_checkable
class EncoderDecoder(Protocol):
    """Decoder layers that also see what the encoder made of a request's source: `batch.sources` says which rows see which states."""

    def check_source(self, source: EncoderSource) -> None:
        """Raises UnfitRequestError for a source that the encoder cannot read."""

    def encode(self, sources: list[EncoderSource]) -> list[Tensor]:
        """One tensor per source, of whatever shape the decoder layers want; it lives on the model's device until the request ends."""
