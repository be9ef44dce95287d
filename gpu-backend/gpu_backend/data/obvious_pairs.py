"""Pairs made by rule whose better answer is beyond doubt: an answer against one to another question, a garbled one, a broken-off one, or an empty phrase.

People's preferences hold few such pairs, and a small judge that never saw one is easily fooled by fluent text about something else.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from gpu_backend.data.preference_pairs import PreferencePair, Turns

_EMPTY_PHRASES = ("", "Okay.", "I don't know.", "...", "Thanks for asking!", "Sure.", "That is a good question.", "No.")


def make_obvious_pairs(pairs: Sequence[PreferencePair], solved: Sequence[tuple[str, str]], num_pairs: int, seed: int) -> list[PreferencePair]:
    """`pairs` give questions with good answers, of helpfulness only: to a harmful question an empty phrase may be the better answer.
    `solved` are problems with their solutions. Every fifth pair comes from them."""
    rng = random.Random(seed)
    helpful = [pair for pair in pairs if pair.criterion == "helpfulness" and 8 <= len(pair.chosen.split()) <= 120]
    made: list[PreferencePair] = []
    while len(made) < num_pairs:
        if len(made) % 5 == 4:
            (problem, solution), (_, other) = rng.sample(solved, 2)
            question: Turns = (("user", problem),)
            good, of_another = solution, other
        else:
            source, stranger = rng.sample(helpful, 2)
            question, good, of_another = source.question, source.chosen, stranger.chosen
        bad = rng.choice(_SPOIL)(rng, good, of_another)
        if bad.strip() != good.strip():
            made.append(PreferencePair(question, good, bad, "obvious"))
    return made


def _of_another(_rng: random.Random, _good: str, other: str) -> str:
    return other


def _shuffled(rng: random.Random, good: str, _other: str) -> str:
    words = good.split()
    rng.shuffle(words)
    return " ".join(words)


def _broken_off(rng: random.Random, good: str, _other: str) -> str:
    words = good.split()
    return " ".join(words[: max(1, int(len(words) * rng.uniform(0.1, 0.4)))])


def _repeating(rng: random.Random, good: str, _other: str) -> str:
    words = good.split()
    start = rng.randrange(max(1, len(words) - 3))
    return " ".join(words[start : start + 3] * rng.randint(4, 12))


def _empty_phrase(rng: random.Random, _good: str, _other: str) -> str:
    return rng.choice(_EMPTY_PHRASES)


# An answer to another question is the lesson that matters most.
_SPOIL: tuple[Callable[[random.Random, str, str], str], ...] = (_of_another, _of_another, _of_another, _shuffled, _broken_off, _repeating, _empty_phrase)
