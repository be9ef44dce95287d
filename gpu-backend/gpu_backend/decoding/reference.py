"""The slow twin of the engine: no cache, no batching, the whole sequence anew for every token. Tests compare the fast paths with it."""

from __future__ import annotations

import torch
from torch import Tensor

from gpu_backend.layers.batch import ForwardBatch, PromptSpan
from gpu_backend.layers.kv_cache import PagedKVCache
from gpu_backend.models.causal_lm.model import CausalLM

_BLOCK_SIZE = 16


@torch.inference_mode()
def full_logits(model: CausalLM, token_ids: list[int]) -> Tensor:
    """Next-token logits after every prefix: (len(token_ids), V) in float32."""
    return model.compute_logits(model(*whole_text(model, token_ids)))


def whole_text(model: CausalLM, token_ids: list[int]) -> tuple[ForwardBatch, PagedKVCache]:
    """What the model takes to read one text from its beginning to its end, in a cache of its own."""
    num_tokens = len(token_ids)
    positions = torch.arange(num_tokens, device=model.device)
    num_blocks = -(-num_tokens // _BLOCK_SIZE)
    cache = model.new_cache(num_blocks=num_blocks, block_size=_BLOCK_SIZE)
    span = PromptSpan(0, num_tokens, num_tokens, torch.arange(num_blocks, device=model.device))
    batch = ForwardBatch(
        token_ids_N=torch.tensor(token_ids, device=model.device),
        positions_N=positions,
        slots_N=positions,
        num_decodes=0,
        decode_blocks_BM=None,
        decode_lengths_B=None,
        spans=(span,),
    )
    return batch, cache


def generate_greedily(model: CausalLM, prompt_ids: list[int], max_tokens: int, end_token_ids: frozenset[int] = frozenset()) -> list[int]:
    """The most probable continuation, one full pass per token; the end token is included."""
    token_ids = list(prompt_ids)
    while len(token_ids) - len(prompt_ids) < max_tokens:
        token_ids.append(int(full_logits(model, token_ids)[-1].argmax()))
        if token_ids[-1] in end_token_ids:
            break
    return token_ids[len(prompt_ids) :]
