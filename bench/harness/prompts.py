"""Seeded prompts of an exact number of tokens, which share no prefix."""

from __future__ import annotations

import random

from gpu_backend.tokenizer import Tokenizer

_TEXT = """
the a one every old new small bright quiet river city garden teacher engine letter window story music winter table paper market doctor bridge opens carries
finds writes answers builds remembers follows breaks sells near under without before because while and but slowly twice never again
"""
_WORDS = _TEXT.split()


def words(tokenizer: Tokenizer, source: random.Random, num_tokens: int) -> tuple[int, ...]:
    """Random common words, cut to length; a random number first, so that no two begin alike."""
    text = f"{source.randrange(10**9)} " + " ".join(source.choice(_WORDS) for _ in range(num_tokens))
    return tuple(tokenizer.encode_text(text)[:num_tokens])
