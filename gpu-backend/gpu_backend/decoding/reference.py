"""The slow twin of the engine: no cache, no batching, the whole sequence anew for every token. Tests compare the fast paths with it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gpu_backend.layers.batch import ForwardBatch, PromptSpan
from gpu_backend.layers.kv_cache import PagedKVCache
from gpu_backend.models.causal_lm.model import CausalLM

_BLOCK_SIZE = 16


@torch.inference_mode()
def full_logits(model: CausalLM, token_ids: list[int]) -> Tensor:
    """Next-token logits after every prefix: (len(token_ids), V) in float32."""
    return model.compute_logits(model(*whole_texts(model, [token_ids])))


def whole_texts(model: CausalLM, texts: Sequence[Sequence[int]]) -> tuple[ForwardBatch, PagedKVCache]:
    """What the model takes to read texts from their beginnings to their ends, each in blocks of its own of a new cache."""
    spans: list[PromptSpan] = []
    positions: list[int] = []
    slots: list[int] = []
    start = block = 0
    for text in texts:
        length, num_blocks = len(text), -(-len(text) // _BLOCK_SIZE)
        spans.append(PromptSpan(start, length, length, torch.arange(block, block + num_blocks, device=model.device)))
        positions += range(length)
        slots += range(block * _BLOCK_SIZE, block * _BLOCK_SIZE + length)
        start, block = start + length, block + num_blocks
    batch = ForwardBatch(
        token_ids_N=torch.tensor([token for text in texts for token in text], device=model.device),
        positions_N=torch.tensor(positions, device=model.device),
        slots_N=torch.tensor(slots, device=model.device),
        num_decodes=0,
        decode_blocks_BM=None,
        decode_lengths_B=None,
        spans=tuple(spans),
    )
    return batch, model.new_cache(num_blocks=block, block_size=_BLOCK_SIZE)


def generate_greedily(model: CausalLM, prompt_ids: list[int], max_tokens: int, end_token_ids: frozenset[int] = frozenset()) -> list[int]:
    """The most probable continuation, one full pass per token; the end token is included."""
    token_ids = list(prompt_ids)
    while len(token_ids) - len(prompt_ids) < max_tokens:
        token_ids.append(int(full_logits(model, token_ids)[-1].argmax()))
        if token_ids[-1] in end_token_ids:
            break
    return token_ids[len(prompt_ids) :]
