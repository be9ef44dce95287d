"""Step 8 of a request: turns the scheduler's lists into tensors, runs the model, and returns logits where a token is due."""

from __future__ import annotations

import torch
from torch import Tensor

from gpu_backend.config import EngineConfig
from gpu_backend.engine.adapter_store import AdapterStore
from gpu_backend.engine.scheduler import Plan
from gpu_backend.engine.sequence import Sequence
from gpu_backend.layers.batch import ForwardBatch, PromptSpan
from gpu_backend.layers.lora import BatchAdapters, LoraAdapter
from gpu_backend.models.causal_lm.model import CausalLM


class ModelRunner:
    """Owns the model, the pool of keys and values, and the adapters."""

    def __init__(self, model: CausalLM, config: EngineConfig, adapters: AdapterStore[LoraAdapter] | None = None) -> None:
        self.model = model
        self.adapters = adapters
        self._block_size = config.kv_block_size
        self._cache = model.new_cache(num_blocks=config.num_kv_blocks, block_size=config.kv_block_size)

    @torch.inference_mode()
    def run(self, plan: Plan) -> tuple[list[Sequence], Tensor]:
        """Compute the planned tokens. -> the sequences whose tokens are now all computed, and their next-token logits (K, V) in float32."""
        entries = plan.entries()
        hidden_NH = self.model(self._batch_of(plan), self._cache)
        due: list[Sequence] = []
        last_rows: list[int] = []
        end = 0
        for sequence, length in entries:
            end += length
            if sequence.num_computed + length == len(sequence.token_ids):
                due.append(sequence)
                last_rows.append(end - 1)
        rows_K = torch.tensor(last_rows, dtype=torch.long, device=self.model.device)
        return due, self.model.compute_logits(hidden_NH[rows_K]) if due else hidden_NH.new_empty((0, self.model.config.vocab_size))

    def _batch_of(self, plan: Plan) -> ForwardBatch:
        token_ids: list[int] = []
        positions: list[int] = []
        slots: list[int] = []
        spans: list[PromptSpan] = []
        for index, (sequence, length) in enumerate(plan.entries()):
            first = sequence.num_computed
            if index >= len(plan.decodes):
                spans.append(PromptSpan(len(token_ids), length, first + length, self._tensor(sequence.blocks)))
            token_ids += sequence.token_ids[first : first + length]
            positions += range(first, first + length)
            slots += [sequence.blocks[at // self._block_size] * self._block_size + at % self._block_size for at in range(first, first + length)]
        blocks_BM, lengths_B = self._decode_tables(plan.decodes) if plan.decodes else (None, None)
        return ForwardBatch(
            token_ids_N=self._tensor(token_ids),
            positions_N=self._tensor(positions),
            slots_N=self._tensor(slots),
            num_decodes=len(plan.decodes),
            decode_blocks_BM=blocks_BM,
            decode_lengths_B=lengths_B,
            spans=tuple(spans),
            adapters=self._adapters_of(plan),
        )

    def _adapters_of(self, plan: Plan) -> BatchAdapters | None:
        """Which rows of the flat batch have which adapter; every adapter in a plan is pinned."""
        rows_of: dict[LoraAdapter, list[int]] = {}
        first = 0
        for sequence, length in plan.entries():
            if sequence.request.adapter is not None:
                assert self.adapters is not None
                rows_of.setdefault(self.adapters.get(sequence.request.adapter), []).extend(range(first, first + length))
            first += length
        return BatchAdapters(rows_of, self.model.device) if rows_of else None

    def _decode_tables(self, decodes: list[Sequence]) -> tuple[Tensor, Tensor]:
        """Block table padded with block 0, and the number of positions of each sequence."""
        num_columns = -(-max(len(sequence.token_ids) for sequence in decodes) // self._block_size)
        rows = [sequence.blocks[:num_columns] + [0] * (num_columns - len(sequence.blocks)) for sequence in decodes]
        return self._tensor(rows), self._tensor([len(sequence.token_ids) for sequence in decodes])

    def _tensor(self, values: list[int] | list[list[int]]) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=self.model.device)
