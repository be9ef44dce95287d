"""Tool calls: whatever random logits say, a call fits its schema; and the parser gives the same calls however the text is cut."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gpu_backend.core import CallDelta, GrammarError, SamplingParams
from gpu_backend.decoding.grammar import GrammarCompiler, choice_grammar, json_grammar
from gpu_backend.decoding.sampling import SamplerState
from gpu_backend.decoding.tool_calls import TAGS, Function, ToolCallParser, tool_call_grammar
from support import TOOL_CONTROL, byte_tokenizer, spell_from_noise

# Tokens that cross the borders of the syntax, as real vocabularies have them.
TOKENIZER = byte_tokenizer(TOOL_CONTROL, merges=(("{", '"'), ("}", "}"), ("Ġ", "{"), ("Ġ{", '"'), ('"', ":")))
END = TOKENIZER.control_ids["<|im_end|>"]
OPEN, CLOSE = (TOKENIZER.control_ids[tag] for tag in TAGS)
COMPILER = GrammarCompiler(TOKENIZER, TOKENIZER.vocab_size, [END])


def schema(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


WEATHER = Function("get_weather", schema(city={"enum": ["Paris", 'a"}\\']}, days={"type": "integer", "minimum": 1, "maximum": 9}), is_strict=True)
GET = Function("get", {**schema(n={"$ref": "#/$defs/n"}), "$defs": {"n": {"type": "boolean"}}})
NOTHING = Function("get-nothing", schema())


def spell(grammar: str, seed: int, *, trigger: int | None = None, bias: dict[int, float] | None = None, max_tokens: int = 600) -> list[int]:
    """Ids sampled from noise under the grammar up to the end."""
    params = SamplingParams(max_tokens=max_tokens, seed=seed, logit_bias=bias or {})
    ids = spell_from_noise(SamplerState.of(params, 0, COMPILER.compile(grammar).start(trigger)), TOKENIZER, END, seed, max_tokens)
    assert ids is not None, "it never ended"
    return ids


def calls_in(ids: list[int]) -> list[tuple[str, Any]]:
    """Read with the tags and json alone, not with the parser."""
    calls = []
    while OPEN in ids:
        start, end = ids.index(OPEN), ids.index(CLOSE)
        text, ids = TOKENIZER.decode(ids[start + 1 : end]), ids[end + 1 :]
        assert text.startswith("\n{") and text.endswith("}\n")
        call = json.loads(text)
        assert list(call) == ["name", "arguments"]
        calls.append((call["name"], call["arguments"]))
    return calls


def assert_fits(name: str, arguments: Any) -> None:
    match name:
        case "get_weather":
            assert list(arguments) == ["city", "days"] and arguments["city"] in ("Paris", 'a"}\\') and arguments["days"] in range(1, 10)
        case "get":
            assert list(arguments) == ["n"] and isinstance(arguments["n"], bool)
        case _:
            assert (name, arguments) == ("get-nothing", {})


def test_whatever_noise_says_is_calls_that_fit() -> None:
    grammar = tool_call_grammar([WEATHER, GET, NOTHING], (OPEN, CLOSE))
    answers = [calls_in(spell(grammar, seed)) for seed in range(30)]
    for name, arguments in [call for answer in answers for call in answer]:
        assert_fits(name, arguments)
    assert {name for answer in answers for name, _ in answer} == {"get_weather", "get", "get-nothing"}
    assert {len(answer) for answer in answers} >= {1, 2}


def test_one_call_ends_the_answer_when_calls_are_not_parallel() -> None:
    grammar = tool_call_grammar([GET], (OPEN, CLOSE), is_parallel=False)
    for seed in range(10):
        ids = spell(grammar, seed)
        assert len(calls_in(ids)) == 1 and ids[-1] == CLOSE


def test_text_is_free_until_a_call_begins() -> None:
    """The constraint starts at the opening tag: before it any token may come, control tokens too; a bias on the tag makes noise call now and then."""
    grammar = tool_call_grammar([WEATHER, GET], (OPEN, CLOSE))
    answers = [spell(grammar, seed, trigger=OPEN, bias={OPEN: 3.0, END: 2.0}) for seed in range(30)]
    with_calls = [ids for ids in answers if OPEN in ids]
    assert 5 < len(with_calls) < 30
    assert any(ids.index(OPEN) > 5 for ids in with_calls) and any(ids[0] != OPEN for ids in with_calls)
    for ids in with_calls:
        for name, arguments in calls_in(ids):
            assert_fits(name, arguments)


OK = json_grammar(schema(ok={"type": "boolean"}))


@pytest.mark.parametrize(("answer", "valid"), [(OK, {'{"ok": true}', '{"ok": false}'}), (choice_grammar(["yes"]), {"yes"})])
def test_an_answer_of_another_form_may_stand_instead_of_calls(answer: str, valid: set[str]) -> None:
    grammar = tool_call_grammar([GET], (OPEN, CLOSE), answer=answer)
    answers = [spell(grammar, seed, bias={OPEN: 2.0}) for seed in range(30)]
    texts = {TOKENIZER.decode(ids) for ids in answers if OPEN not in ids}
    assert texts and texts <= valid
    assert any(OPEN in ids for ids in answers)
    for name, arguments in [call for ids in answers for call in calls_in(ids)]:
        assert_fits(name, arguments)


def test_what_cannot_be_followed_is_refused_when_strict_and_else_ignored() -> None:
    parameters = schema(a={"type": "string", "format": "postcode", "maxLength": 3})
    COMPILER.compile(tool_call_grammar([Function("f", parameters)], (OPEN, CLOSE)))
    with pytest.raises(GrammarError):
        COMPILER.compile(tool_call_grammar([Function("f", parameters, is_strict=True)], (OPEN, CLOSE)))


def test_a_caller_cannot_change_how_a_schema_is_read() -> None:
    parameters = {**schema(a={"type": "boolean"}), "x-guidance": {"whitespace_pattern": "x", "key_separator": "x"}}
    (call,) = calls_in(spell(tool_call_grammar([Function("f", parameters)], (OPEN, CLOSE), is_parallel=False), 1))
    assert list(call[1]) == ["a"]


ARGUMENTS = ["{}", '{"a": "}{\\"\\\\"}', '{"a": {"b": [{}, {"c": "\\\\\\""}]}, "d": "é{"}', '{"name": "x", "arguments": {"y": "</tool_call>"}}']


@pytest.mark.parametrize("arguments", ARGUMENTS)
def test_the_parser_gives_the_same_call_wherever_the_text_is_cut(arguments: str) -> None:
    text = f'\n{{"name": "get-it_2", "arguments": {arguments}}}\n'
    for first in range(len(text) + 1):
        for second in range(first, len(text) + 1):
            parser = ToolCallParser(OPEN, CLOSE)
            parser.open()
            news = [piece for part in (text[:first], text[first:second], text[second:]) if (piece := parser.push(part)) is not None]
            assert [piece.name for piece in news] == ["get-it_2"] + [None] * (len(news) - 1)
            assert "".join(piece.arguments for piece in news) == arguments
            assert {piece.index for piece in news} == {0} and parser.num_calls == 1


def test_arguments_come_as_soon_as_they_are_known() -> None:
    parser = ToolCallParser(OPEN, CLOSE)
    parser.open()
    news = [parser.push(char) for char in '\n{"name": "f", "arguments": {"a": 1}}\n']
    told = [piece for piece in news if piece is not None]
    assert told == [CallDelta(0, "f", ""), *(CallDelta(0, None, char) for char in '{"a": 1}')]


def test_white_space_around_calls_is_dropped_and_other_white_space_is_kept() -> None:
    parser = ToolCallParser(OPEN, CLOSE)
    assert [parser.hold(text) for text in (" a", " \n", "b", "\n\n")] == [" a", "", " \nb", ""]
    parser.open()
    parser.push('\n{"name": "f", "arguments": {}}\n')
    parser.close()
    assert (parser.hold("\n"), parser.finish()) == ("", "")
    plain = ToolCallParser(OPEN, CLOSE)
    assert plain.hold("a\n") + plain.finish() == "a\n"
