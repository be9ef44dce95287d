"""Which part of a set a pair belongs to, by a hash of how its conversation begins; and what of a training part is too close to a test set."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Literal

from gpu_backend.data.preference_pairs import PreferencePair

Part = Literal["train", "validation", "test"]
_SHINGLE_WORDS = 10


def part_of(pair: PreferencePair) -> Part:
    """12 % test, 8 % validation. Conversations that begin alike, and so may share turns, stay together."""
    digest = hashlib.sha256(" ".join(_words(pair.question[0][1])).encode()).digest()
    share = int.from_bytes(digest[:4], "big") / 2**32
    return "test" if share < 0.12 else "validation" if share < 0.20 else "train"


def without_overlap(pairs: Iterable[PreferencePair], held_out: Iterable[PreferencePair]) -> list[PreferencePair]:
    """The pairs that share no whole turn with a held-out question or answer, and no stretch of 10 words with a held-out question."""
    turns: set[str] = set()
    shingles: set[str] = set()
    for other in held_out:
        turns |= _whole_turns(other)
        shingles |= _shingles(other)
    return [pair for pair in pairs if not (_whole_turns(pair) & turns or _shingles(pair) & shingles)]


def _whole_turns(pair: PreferencePair) -> set[str]:
    """Turns and answers of at least 6 words; shorter ones, such as greetings, tell nothing."""
    texts = [*(text for _, text in pair.question), pair.chosen, pair.rejected]
    return {" ".join(words) for words in map(_words, texts) if len(words) >= 6}


def _shingles(pair: PreferencePair) -> set[str]:
    words = [word for role, text in pair.question if role == "user" for word in _words(text)]
    return {" ".join(words[start : start + _SHINGLE_WORDS]) for start in range(len(words) - _SHINGLE_WORDS + 1)}


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
