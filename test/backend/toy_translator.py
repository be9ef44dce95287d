"""A toy encoder-decoder: the tiny decoder, whose layers also look at what a one-layer encoder made of the source. And its plain twin.

Shapes: S source tokens, N rows of a step, H hidden size.
"""

from __future__ import annotations

import torch
from slow_decoder import Look
from torch import Tensor

from gpu_backend.core import UnfitRequestError
from gpu_backend.layers.batch import ForwardBatch, SourceSpan
from gpu_backend.layers.conditioning import EncoderSource
from gpu_backend.layers.kv_cache import PagedKVCache
from support import tiny_model


class ToyTranslator:
    """Rows without a source are those of the decoder alone. Counts what was encoded."""

    def __init__(self, seed: int = 0) -> None:
        self.weights: dict[str, Tensor] = {}
        self._decoder = tiny_model(seed, recorded=self.weights)
        self.config, self.device, self.new_cache = self._decoder.config, self._decoder.device, self._decoder.new_cache
        self.embed, self.compute_logits = self._decoder.embed, self._decoder.compute_logits
        self.rounds_logits = self._decoder.rounds_logits
        generator = torch.Generator().manual_seed(seed + 1)
        size = self.config.hidden_size
        self.source_embedding = torch.randn(self.config.vocab_size, size, generator=generator) * 0.5
        self.cross = torch.randn(self.config.num_layers, 3, size, size, generator=generator) * 0.25
        self.num_encoded = 0

    def check_source(self, source: EncoderSource) -> None:
        if not all(0 <= token < self.config.vocab_size for token in source.token_ids):
            raise UnfitRequestError("the source has a token that the encoder does not know")

    def encode(self, sources: list[EncoderSource]) -> list[Tensor]:
        self.num_encoded += len(sources)
        embedded = [self.source_embedding[list(source.token_ids)] for source in sources]
        return [x + torch.softmax(x @ x.T / x.shape[1] ** 0.5, dim=-1) @ x for x in embedded]

    def run_layers(self, x: Tensor, start: int, stop: int, cache: PagedKVCache, batch: ForwardBatch) -> Tensor:
        """In place, as a model may."""
        for layer in range(start, stop):
            x.copy_(self._decoder.run_layers(x, layer, layer + 1, cache, batch))
            for span in batch.sources:
                x[span.start : span.start + span.length] += self._look(layer, x, span)
        return x

    def _look(self, layer: int, x_NH: Tensor, span: SourceSpan) -> Tensor:
        queries, keys, values = x_NH[span.start : span.start + span.length], span.states, span.states
        to_query, to_key, to_value = self.cross[layer]
        scores = (queries @ to_query) @ (keys @ to_key).T / x_NH.shape[1] ** 0.5
        return torch.softmax(scores, dim=-1) @ (values @ to_value)

    def __call__(self, batch: ForwardBatch, cache: PagedKVCache) -> Tensor:
        return self.run_layers(self.embed(batch.token_ids_N), 0, self.config.num_layers, cache, batch)

    def slow_look(self, source_ids: list[int]) -> Look:
        """For `slow_decoder`: one position and one source token at a time."""
        embedded = [self.source_embedding[token] for token in source_ids]
        states = []
        for x in embedded:
            shares = torch.softmax(torch.stack([x @ other for other in embedded]) / len(x) ** 0.5, dim=0)
            states.append(x + sum(share * other for share, other in zip(shares, embedded, strict=True)))

        def look(layer: int, x_TH: Tensor) -> Tensor:
            to_query, to_key, to_value = self.cross[layer]
            rows = []
            for x in x_TH:
                shares = torch.softmax(torch.stack([(x @ to_query) @ (state @ to_key) for state in states]) / len(x) ** 0.5, dim=0)
                rows.append(x + sum(share * (state @ to_value) for share, state in zip(shares, states, strict=True)))
            return torch.stack(rows)

        return look
