"""What a reader sees of a choice: text, log-probabilities with their text, and the right reason at the end."""

from __future__ import annotations

from typing import Any

from gpu_backend.core import Delta, FinishReason, SamplingParams, TokenLogprob
from gpu_backend.decoding.output import ChoiceOutput
from gpu_backend.decoding.tool_calls import TAGS
from support import TOOL_CONTROL, byte_tokenizer

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


TOOLS = byte_tokenizer(TOOL_CONTROL)
IM_END, OPEN, CLOSE = (TOOLS.control_ids[name] for name in ("<|im_end|>", *TAGS))
CALL = [OPEN, *b'\n{"name": "f", "arguments": {"a": "STOP"}}\n', CLOSE]


def run_tools(*ids: int, max_tokens: int = 200, **sampling: Any) -> list[Delta]:
    params = SamplingParams(max_tokens=max_tokens, tool_call_tokens=(OPEN, CLOSE), **sampling)
    output = ChoiceOutput(params, 0, TOOLS, frozenset({IM_END}))
    found = [output.push(TokenLogprob(token_id, -1.0), index + 1) for index, token_id in enumerate(ids)]
    return [delta for delta in found if delta is not None]


def seen(deltas: list[Delta]) -> tuple[str, list[tuple[int, str, str]], FinishReason | None]:
    """-> text, calls as (index, name, arguments), reason."""
    calls: list[tuple[int, str, str]] = []
    for piece in [delta.call for delta in deltas if delta.call is not None]:
        if piece.name is not None:
            calls.append((piece.index, piece.name, ""))
        calls[-1] = (*calls[-1][:2], calls[-1][2] + piece.arguments)
    assert all(delta.finish_reason is None for delta in deltas[:-1])
    return "".join(delta.text for delta in deltas), calls, deltas[-1].finish_reason


def test_calls_are_not_text_and_give_the_reason() -> None:
    f = ("f", '{"a": "STOP"}')
    assert seen(run_tools(*CALL, IM_END)) == ("", [(0, *f)], FinishReason.TOOL_CALLS)
    assert seen(run_tools(*b"I look. \n", *CALL, 10, *CALL, IM_END)) == ("I look.", [(0, *f), (1, *f)], FinishReason.TOOL_CALLS)
    assert seen(run_tools(*b"no call \n", IM_END)) == ("no call \n", [], FinishReason.STOP)


def test_the_tag_spelled_in_ordinary_tokens_is_text() -> None:
    spelled = b'<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'
    assert seen(run_tools(*spelled, IM_END)) == (spelled.decode(), [], FinishReason.STOP)


def test_stop_strings_end_text_but_not_a_call() -> None:
    assert seen(run_tools(*b"a \nSTOP", stop=("STOP",))) == ("a \n", [], FinishReason.STOP)
    assert seen(run_tools(*b"a S", *CALL, IM_END, stop=("STOP",))) == ("a S", [(0, "f", '{"a": "STOP"}')], FinishReason.TOOL_CALLS)


def test_half_a_character_before_a_call_stays_outside_of_it() -> None:
    assert seen(run_tools(*"é".encode()[:1], *CALL, IM_END)) == ("\ufffd", [(0, "f", '{"a": "STOP"}')], FinishReason.TOOL_CALLS)


def test_a_call_cut_by_length_is_given_as_far_as_it_came() -> None:
    assert seen(run_tools(*CALL[:36], max_tokens=36)) == ("", [(0, "f", '{"a": "')], FinishReason.LENGTH)
    assert seen(run_tools(*CALL[:12], max_tokens=12)) == ("", [], FinishReason.LENGTH)


def test_logprobs_of_calls_are_given_too() -> None:
    deltas = run_tools(*b"a ", *CALL, IM_END, logprobs=True)
    assert [item.token_id for delta in deltas for item in delta.logprobs] == [*b"a ", *CALL]
