"""Parts by hash, and what is too close to a held-out set."""

from __future__ import annotations

from collections import Counter

from gpu_backend.data.preference_pairs import PreferencePair
from gpu_backend.data.splits import hold_out, part_of, without_overlap


def pair(first: str, *more: str, chosen: str = "yes", rejected: str = "no") -> PreferencePair:
    turns = (first, *more)
    return PreferencePair(tuple(("user" if index % 2 == 0 else "assistant", text) for index, text in enumerate(turns)), chosen, rejected, "test")


def test_a_conversation_is_in_one_part_however_it_goes_on() -> None:
    for number in range(200):
        begun = pair(f"How do I do task {number}?")
        assert part_of(begun) == part_of(pair(f"how do I do task {number}", "Like this.", "And then?")), "case and punctuation do not matter"


def test_the_parts_have_their_sizes() -> None:
    counts = Counter(part_of(pair(f"question {number}")) for number in range(5000))
    # Three standard deviations of a share of 12 % of 5,000 are 69, of 8 % are 58.
    assert abs(counts["test"] - 600) < 69 and abs(counts["validation"] - 400) < 58


def test_hold_out_keeps_conversations_together_and_loses_none() -> None:
    pairs = [pair(f"question {number % 100}", "a", str(number)) for number in range(400)]
    train, held = hold_out(pairs, 0.3)
    assert len(train) + len(held) == 400 and 0 < len(held) < 240
    assert not {one.question[0] for one in train} & {one.question[0] for one in held}
    assert hold_out(pairs, 0.0) == (pairs, [])


def test_what_overlaps_a_held_out_pair_goes() -> None:
    long_question = "please tell me how the very old clock in the tower of our town works"
    held = [pair(long_question, chosen="it works with a weight on a long rope", rejected="no idea")]
    same_answer = pair("something else", chosen="It works, with a weight on a long rope!")
    ten_words = pair("well how the very old clock in the tower of our village looks")
    nine_words = pair("how the very old clock in the tower of")
    greeting = pair("hello", chosen="no idea")
    assert without_overlap([same_answer, ten_words, nine_words, greeting], held) == [nine_words, greeting]
