"""The keys that options are listed with: each is one token, so that one forward pass scores all of them."""

from __future__ import annotations

from itertools import chain, product
from string import ascii_lowercase, ascii_uppercase

from gpu_backend.server.decisions.schemas import MAX_LABELS
from gpu_backend.tokenizer import Tokenizer


def option_keys(tokenizer: Tokenizer) -> list[tuple[str, int]]:
    """Up to 255 keys with their ids: A to Z, a to z, then those of AA, AB, …, Aa, …, aa, … that are single tokens of this vocabulary."""
    pairs = chain(product(ascii_uppercase, ascii_uppercase), product(ascii_uppercase, ascii_lowercase), product(ascii_lowercase, ascii_lowercase))
    keys = []
    for key in chain(ascii_uppercase, ascii_lowercase, map("".join, pairs)):
        ids = tokenizer.encode_text(key)
        if len(ids) == 1:
            keys.append((key, ids[0]))
        if len(keys) == MAX_LABELS:
            break
    return keys
