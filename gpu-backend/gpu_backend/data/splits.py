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
    place = _place_of(pair)
    return "test" if place < 0.12 else "validation" if place < 0.20 else "train"


def hold_out(pairs: Iterable[PreferencePair], share: float) -> tuple[list[PreferencePair], list[PreferencePair]]:
    """-> the pairs to train on, and about this share of all that are held out. Conversations that begin alike stay together."""
    parts: tuple[list[PreferencePair], list[PreferencePair]] = ([], [])
    for pair in pairs:
        parts[_place_of(pair) < share].append(pair)
    return parts


def without_overlap(pairs: Iterable[PreferencePair], held_out: Iterable[PreferencePair]) -> list[PreferencePair]:
    """The pairs that share no whole turn with a held-out question or answer, and no stretch of 10 words with a held-out question."""
    turns: set[str] = set()
    shingles: set[str] = set()
    for other in held_out:
        turns |= _whole_turns(other)
        shingles |= _shingles(other)
    return [pair for pair in pairs if not (_whole_turns(pair) & turns or _shingles(pair) & shingles)]


def _place_of(pair: PreferencePair) -> float:
    """A number from 0 up to 1 that depends on how the conversation begins."""
    digest = hashlib.sha256(" ".join(_words(pair.question[0][1])).encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32


def _whole_turns(pair: PreferencePair) -> set[str]:
    """Turns and answers of at least 6 words; shorter ones, such as greetings, tell nothing."""
    texts = [*(text for _, text in pair.question), pair.chosen, pair.rejected]
    return {" ".join(words) for words in map(_words, texts) if len(words) >= 6}


def _shingles(pair: PreferencePair) -> set[str]:
    words = [word for role, text in pair.question if role == "user" for word in _words(text)]
    return {" ".join(words[start : start + _SHINGLE_WORDS]) for start in range(len(words) - _SHINGLE_WORDS + 1)}


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
