"""What a reader sees of a choice: text, log-probabilities with their text, and the right reason at the end."""

from __future__ import annotations

from typing import Any

from gpu_backend.core import Delta, FinishReason, SamplingParams, TokenLogprob
from gpu_backend.decoding.output import ChoiceOutput
from support import byte_tokenizer

TOKENIZER = byte_tokenizer()
END = TOKENIZER.control_ids["<|end|>"]


def run(text: bytes, *, end: bool = False, max_tokens: int = 8, **sampling: Any) -> list[Delta]:
    output = ChoiceOutput(SamplingParams(max_tokens=max_tokens, **sampling), 0, TOKENIZER, frozenset({END}))
    ids = [*text, *([END] if end else [])]
    found = [output.push(TokenLogprob(token_id, -1.0), index + 1) for index, token_id in enumerate(ids)]
    return [delta for delta in found if delta is not None]


def test_end_token_stops_and_is_not_text() -> None:
    assert run(b"ab", end=True) == [Delta(0, "a"), Delta(0, "b"), Delta(0, "", (), FinishReason.STOP)]


def test_length_ends_with_the_last_text() -> None:
    assert run(b"abc", max_tokens=3)[-1] == Delta(0, "c", (), FinishReason.LENGTH)


def test_half_a_character_waits_and_is_replaced_at_the_end() -> None:
    assert run("é".encode(), max_tokens=9) == [Delta(0, "é")]
    assert run("é".encode()[:1], max_tokens=1) == [Delta(0, "\ufffd", (), FinishReason.LENGTH)]


def test_stop_string_beats_length_and_is_not_shown() -> None:
    assert run(b"xy.", max_tokens=3, stop=("y.",)) == [Delta(0, "x"), Delta(0, "", (), FinishReason.STOP)]


def test_text_held_for_a_stop_string_is_shown_at_length() -> None:
    assert run(b"xy", max_tokens=2, stop=("y.",)) == [Delta(0, "x"), Delta(0, "y", (), FinishReason.LENGTH)]


def test_logprobs_travel_with_their_text_and_none_is_lost() -> None:
    deltas = run("aé".encode(), end=True, logprobs=True)
    assert [(delta.text, [item.token_id for item in delta.logprobs]) for delta in deltas] == [("a", [97]), ("é", [0xC3, 0xA9]), ("", [])]
