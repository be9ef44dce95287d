"""Pairs made by rule whose better answer is beyond doubt: an answer against one to another question, a garbled one, a broken-off one, or an empty phrase.

People's preferences hold few such pairs, and a small judge that never saw one is easily fooled by fluent text about something else.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from gpu_backend.data.preference_pairs import PreferencePair, Turns

# A question and a good answer to it.
_Answered = tuple[Turns, str]
_EMPTY_PHRASES = ("", "Okay.", "I don't know.", "...", "Thanks for asking!", "Sure.", "That is a good question.", "No.")


def make_obvious_pairs(pairs: Sequence[PreferencePair], solved: Sequence[tuple[str, str]], num_pairs: int, seed: int) -> list[PreferencePair]:
    """`pairs` give questions with good answers, of helpfulness only: to a harmful question an empty phrase may be the better answer.
    `solved` are problems with their solutions. Of five pairs two take the last answer of a conversation, two the first, and one a solution."""
    rng = random.Random(seed)
    helpful = [pair for pair in pairs if pair.criterion == "helpfulness"]
    last: list[_Answered] = [(pair.question, pair.chosen) for pair in helpful if _is_usable(pair.chosen)]
    first = _first_exchanges(helpful)
    problems: list[_Answered] = [((("user", problem),), solution) for problem, solution in solved]
    made: list[PreferencePair] = []
    while len(made) < num_pairs:
        (question, good), (_, of_another) = rng.sample((last, first, last, first, problems)[len(made) % 5], 2)
        bad = rng.choice(_SPOIL)(rng, good, of_another)
        if bad.strip() != good.strip():
            made.append(PreferencePair(question, good, bad, "obvious"))
    return made


def _first_exchanges(pairs: Sequence[PreferencePair]) -> list[_Answered]:
    """The first question of each conversation with its answer: the short questions without any history that a judge is often asked about."""
    answers = {pair.question[0]: pair.question[1][1] if len(pair.question) > 1 else pair.chosen for pair in pairs}
    return [((question,), answer) for question, answer in answers.items() if _is_usable(answer)]


def _is_usable(answer: str) -> bool:
    return 8 <= len(answer.split()) <= 120


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
