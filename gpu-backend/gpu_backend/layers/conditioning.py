"""What an answer may depend on besides tokens: keys and values that stand before them, or a source that an encoder reads.

Shapes: L layers, P positions, G key/value heads, D head size.
"""

from __future__ import annotations

import hashlib
from array import array

import torch
from torch import Tensor

# The largest finite float16. Keys and values beyond it, or NaN, would make scores overflow, and a NaN outlives its owner in the block that held it.
_MAX_VALUE = 65_504.0


class KVPrefix:
    """Keys and values of P positions for every layer, as the cache holds them: keys already rotated, if they are to be. The tokens follow at position P.

    Keeps a float32 copy on the CPU, so that neither contents nor digest change later.
    """

    def __init__(self, keys_LPGD: Tensor, values_LPGD: Tensor) -> None:
        """Raises ValueError for anything but two equal shapes (L, P, G, D) of finite numbers with at least one position."""
        if keys_LPGD.dim() != 4 or keys_LPGD.shape != values_LPGD.shape or not keys_LPGD.numel():
            raise ValueError(f"keys and values must both be (layers, positions, heads, head size), got {[*keys_LPGD.shape]} and {[*values_LPGD.shape]}")
        self.keys_LPGD, self.values_LPGD = (x.detach().to("cpu", torch.float32, copy=True).contiguous() for x in (keys_LPGD, values_LPGD))
        if not all(bool((x.abs() <= _MAX_VALUE).all()) for x in (self.keys_LPGD, self.values_LPGD)):
            raise ValueError(f"keys and values must be numbers of at most {_MAX_VALUE:.0f}")
        self.num_positions = self.keys_LPGD.shape[1]
        hashed = hashlib.blake2b(repr(tuple(self.keys_LPGD.shape)).encode(), digest_size=16, person=b"kv prefix")
        for x in (self.keys_LPGD, self.values_LPGD):
            hashed.update(x.numpy().tobytes())
        self.digest = hashed.digest()


class EncoderSource:
    """Tokens that the encoder of an encoder-decoder model reads. Takes no position in the decoder."""

    num_positions = 0

    def __init__(self, token_ids: tuple[int, ...]) -> None:
        if not token_ids:
            raise ValueError("a source must have at least one token")
        self.token_ids = token_ids
        self.digest = hashlib.blake2b(array("q", token_ids).tobytes(), digest_size=16, person=b"source").digest()
