"""What happens to a request before it is queued: does it fit the model, and how does it lie in the cache."""

from __future__ import annotations

import dataclasses
import hashlib
import secrets

from gpu_backend.core import HiddenStates, LabelScores, Pooling, Request, UnfitRequestError
from gpu_backend.layers.conditioning import EncoderSource, KVPrefix
from gpu_backend.layers.kv_cache import PagedKVCache
from gpu_backend.models.interface import Decoder, EncoderDecoder

# Stands in the prompt where a prefix has its keys and values; it is never embedded.
_PLACEHOLDER_ID = 0


def check_fit(request: Request, model: Decoder, cache: PagedKVCache) -> None:
    """Raises UnfitRequestError for what would otherwise break a step that others share."""
    config, task = model.config, request.task
    if min(request.prompt_ids) < 0 or max(request.prompt_ids) >= config.vocab_size:
        raise UnfitRequestError(f"token ids must be between 0 and {config.vocab_size - 1}")
    num_positions = (request.conditioning.num_positions if request.conditioning else 0) + len(request.prompt_ids) + task.max_tokens
    if num_positions > config.max_positions:
        raise UnfitRequestError(f"it takes {num_positions} positions, the model has {config.max_positions}")
    assert request.conditioning is None or isinstance(request.conditioning, KVPrefix | EncoderSource), "nobody would write its keys and values"
    if isinstance(task, LabelScores) and not all(0 <= label < config.vocab_size for label in task.label_ids):
        raise UnfitRequestError(f"label ids must be between 0 and {config.vocab_size - 1}")
    if isinstance(task, HiddenStates) and not all(0 <= layer <= config.num_layers for layer in task.layers):
        raise UnfitRequestError(f"layers must be between 0 and {config.num_layers}, got {task.layers}")
    if isinstance(request.conditioning, KVPrefix):
        _check_prefix(request.conditioning, cache)
    if isinstance(request.conditioning, EncoderSource):
        if not isinstance(model, EncoderDecoder):
            raise UnfitRequestError("the model has no encoder to read a source")
        model.check_source(request.conditioning)


def _check_prefix(prefix: KVPrefix, cache: PagedKVCache) -> None:
    expected = (len(cache.layers), prefix.num_positions, cache.num_kv_heads, cache.layers[0].shape[-1])
    if prefix.keys_LPGD.shape != expected:
        raise UnfitRequestError(f"the prefix must have the shape {expected} of the model's keys and values, got {tuple(prefix.keys_LPGD.shape)}")


def lay_out(request: Request) -> Request:
    """The request as scheduler and block manager see it: a token for every position, and a salt for everything else that its keys and values depend on."""
    prompt_ids, salt = request.prompt_ids, request.cache_salt
    if request.conditioning is not None:
        prompt_ids = (_PLACEHOLDER_ID,) * request.conditioning.num_positions + prompt_ids
        salt = hashlib.blake2b(salt + b"\0" + request.conditioning.digest, digest_size=16).digest()
    if isinstance(request.task, HiddenStates) and request.task.pooling is Pooling.MEAN:
        # Positions that come from the cache have no hidden states, so it must find nobody's blocks but its own.
        salt = secrets.token_bytes(16)
    return dataclasses.replace(request, prompt_ids=prompt_ids, cache_salt=salt)
