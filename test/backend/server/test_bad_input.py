"""Whatever a body holds, it is refused with the right code and parameter, quickly, and without leaving anything behind.

Times are generous on purpose and best of three after a first try: what is looked for is growth without bound, not a slow machine.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from gpu_backend.server.body_limit import MAX_BODY_BYTES
from gpu_backend.server.grammar_queue import GrammarQueue
from schema_bombs import PATTERN_BOMBS, SCHEMA_BOMBS

from .test_chat import BODY

JSON = {"content-type": "application/json"}
SCHEMA_PARAM = "response_format.json_schema.schema"


def raw(text: str, **changes: Any) -> bytes:
    """A body in which the string "@" is replaced by this JSON."""
    return json.dumps({**BODY, **changes}).replace('"@"', text).encode()


def schema(value: Any) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": value}}


def regex(pattern: str) -> dict[str, Any]:
    return {"response_format": {"type": "regex", "pattern": pattern}}


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {"type": "integer"}
    for _ in range(depth):
        value = {"type": "array", "items": value}
    return value


BODIES: list[tuple[str, bytes, str, str | None]] = [
    ("n beyond its bound", raw("", n=129), "invalid_value", "n"),
    ("no tokens", raw("", max_tokens=0), "invalid_value", "max_tokens"),
    ("a huge number", raw("1e400", temperature="@"), "invalid_value", "temperature"),
    ("a number of 5,000 digits", raw("9" * 5000, seed="@"), "invalid_json", None),
    ("a seed beyond 64 bits", raw("9" * 30, seed="@"), "invalid_value", "seed"),
    ("NaN", raw("NaN", temperature="@"), "invalid_json", None),
    ("Infinity", raw("-Infinity", frequency_penalty="@"), "invalid_json", None),
    ("NaN inside a schema", raw("NaN", **schema({"type": "number", "minimum": "@"})), "invalid_json", None),
    ("a repeated name", raw('1, "n": 2', n="@"), "invalid_json", None),
    ("a repeated name far inside", raw('{"a": 1, "a": 2}', **schema({"const": "@"})), "invalid_json", None),
    ("a stop string of 10 kB", raw("", stop=["x" * 10_000]), "invalid_value", "stop[0]"),
    ("a prompt beyond the context", raw("", messages=[{"role": "user", "content": "word " * 200_000}]), "context_length_exceeded", "messages"),
    ("half a pair in a message", raw('"a\\ud800"', messages=[{"role": "user", "content": "@"}]), "invalid_value", "messages[0].content"),
    ("half a pair in a stop string", raw('"\\udc00"', stop=["a", "@"]), "invalid_value", "stop[1]"),
    ("half a pair in an id", raw('"\\udc00"', id="@"), "invalid_value", "id"),
    ("half a pair in a pattern", raw('"\\udc00"', **regex("@")), "invalid_value", "response_format.pattern"),
    ("half a pair in a name", raw('{"\\udc00": 1}', logit_bias="@"), "invalid_value", "logit_bias"),
    ("a wrong type", raw("", messages={"role": "user"}), "invalid_type", "messages"),
    ("text for a number", raw("", temperature="1"), "invalid_type", "temperature"),
    ("a number for a flag", raw("", stream=1), "invalid_type", "stream"),
    ("deep lists", raw("[" * 500 + "]" * 500, stop="@"), "invalid_type", "stop[0]"),
    ("very deep lists", raw("[" * 200_000 + "]" * 200_000, stop="@"), "invalid_json", None),
    ("very deep objects", raw('{"a":' * 200_000 + "1" + "}" * 200_000, stop="@"), "invalid_json", None),
    ("a list", b"[1]", "invalid_type", None),
    ("not UTF-8", b'{"id": "\xff"}', "invalid_json", None),
    ("half a pair in bytes", b'{"id": "\xed\xa0\x80"}', "invalid_json", None),
    ("an infinite number in a schema", raw("1e999", **schema({"const": "@"})), "invalid_value", SCHEMA_PARAM),
]

FORMATS: list[tuple[str, dict[str, Any], str]] = [
    ("a deep schema", schema(nested(200)), SCHEMA_PARAM),
    ("a schema as deep as JSON goes", schema(nested(450)), SCHEMA_PARAM),
    ("a schema of 100 kB", schema({"enum": ["x" * 1000] * 100}), SCHEMA_PARAM),
    ("too wide a schema", schema({"type": "object", "properties": {f"property {i}": {"type": "string"} for i in range(3000)}}), SCHEMA_PARAM),
    ("a huge enum", schema({"enum": [f"value number {i}" for i in range(5000)]}), SCHEMA_PARAM),
    ("a schema that is its own definition", schema({"$ref": "#"}), SCHEMA_PARAM),
    ("two that are each other's", schema({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}), SCHEMA_PARAM),
    ("a million combinations", schema({"allOf": [{"anyOf": [{"required": [f"a{i}"]}, {"required": [f"b{i}"]}]} for i in range(20)]}), SCHEMA_PARAM),
    ("a multiple of a large prime", schema({"type": "integer", "multipleOf": 982451653}), SCHEMA_PARAM),
    ("a reference out of the schema", schema({"$ref": "https://example.com/schema"}), SCHEMA_PARAM),
    ("a pattern that looks ahead", schema({"type": "string", "pattern": "(?=a)b"}), SCHEMA_PARAM),
    ("a broken pattern", regex("(["), "response_format"),
    ("a pattern of 5,000 groups", regex("(" * 5000 + "a" + ")" * 5000), "response_format"),
    ("a pattern that is too long", regex("(a|b)?" * 12_000), "response_format"),
]


def ms_of(client: httpx.Client, content: bytes) -> tuple[float, httpx.Response]:
    began = time.perf_counter()
    response = client.post("/internal/chat", content=content, headers=JSON)
    return (time.perf_counter() - began) * 1000, response


def refused(client: httpx.Client, content: bytes, code: str, param: str | None, *, limit_ms: float = 50, tries: int = 4) -> None:
    times = []
    for _ in range(tries):
        took, response = ms_of(client, content)
        times.append(took)
        assert response.status_code == 400, response.text[:500]
        error = response.json()["error"]
        assert (error["code"], error["param"], error["type"]) == (code, param, "invalid_request_error")
        assert len(response.content) < 2000
    assert min(times[1:] or times) < limit_ms, times


@pytest.mark.parametrize(("content", "code", "param"), [pytest.param(*case[1:], id=case[0]) for case in BODIES])
def test_a_bad_body_is_refused_at_once(client: httpx.Client, content: bytes, code: str, param: str | None) -> None:
    assert len(content) < MAX_BODY_BYTES
    refused(client, content, code, param)


@pytest.mark.parametrize(("changes", "param"), [pytest.param(*case[1:], id=case[0]) for case in FORMATS])
def test_a_bad_format_is_refused_at_once(client: httpx.Client, changes: dict[str, Any], param: str) -> None:
    refused(client, raw("", **changes), "invalid_value", param)


BOMBS = [pytest.param(schema(value), SCHEMA_PARAM, word, id=name) for name, value, word in SCHEMA_BOMBS]
BOMBS += [pytest.param(regex(pattern), "response_format", word, id=name) for name, pattern, word in PATTERN_BOMBS]


@pytest.mark.parametrize(("changes", "param", "word"), BOMBS)
def test_a_bomb_is_refused_before_it_is_compiled(client: httpx.Client, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], param: str, word: str) -> None:
    """By the time of this process, server included, best of three. It neither waits for other schemas nor reaches the process that tries them."""
    monkeypatch.setattr(GrammarQueue, "run", None)
    content, times = raw("", **changes), []
    for _ in range(3):
        began = time.process_time()
        response = client.post("/internal/chat", content=content, headers=JSON)
        times.append(time.process_time() - began)
        error = response.json()["error"]
        assert (response.status_code, error["code"], error["param"]) == (400, "invalid_value", param)
        assert error["message"].startswith(f"{param} cannot be used: ") and word in error["message"]
    assert min(times) < 0.05, times


@pytest.mark.parametrize(
    "changes",
    [
        regex("(a|b)*a(a|b){30}"),
        regex("((((x{1,50}){1,50}){1,50}){1,50}){1,50}"),
        schema({"type": "string", "pattern": "(a+)+$"}),
        schema({"type": "array", "minItems": 60_000, "maxItems": 1_000_000_000}),
        schema({"type": "string", "minLength": 60_000, "maxLength": 4_294_967_295}),
    ],
)
def test_patterns_that_blow_up_elsewhere_are_simply_followed(client: httpx.Client, changes: dict[str, Any]) -> None:
    """No backtracking, nothing unrolled: an answer comes, cut off by its length where it must be."""
    content = raw("", **changes)
    times = []
    for _ in range(4):
        took, response = ms_of(client, content)
        times.append(took)
        assert response.status_code == 200 and response.json()["choices"][0]["finish_reason"] in ("stop", "length")
    assert min(times[1:]) < 1000, times


def test_a_format_that_proves_too_complex_in_mid_answer_names_its_parameter(client: httpx.Client) -> None:
    # A ring of objects that need each other, longer than anybody looks ahead.
    ring = {f"d{i}": {"type": "object", "properties": {"a": {"$ref": f"#/$defs/d{(i + 1) % 150}"}}, "required": ["a"]} for i in range(150)}
    content = raw("", **schema({"$defs": ring, "$ref": "#/$defs/d0"}), max_tokens=60)
    _, response = ms_of(client, content)
    assert (response.status_code, response.json()["error"]["param"]) == (400, "response_format")


def resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux to count memory")
def test_two_hundred_refusals_of_each_kind_leave_no_memory_behind(client: httpx.Client) -> None:
    """Formats that differ from round to round, so that nothing is known already, and one body in each round; the first 40 rounds are not counted."""
    bodies = [case[1] for case in BODIES if len(case[1]) < 100_000]
    chosen = {"a schema that is its own definition", "a million combinations", "a pattern that looks ahead"}
    formats = [raw("", **changes) for name, changes, _ in FORMATS if name in chosen]
    assert len(formats) == len(chosen)
    before = 0.0
    for number in range(200):
        if number == 40:
            before = resident_mib()
        different = [content.replace(b'"json_schema": {', f'"json_schema": {{"title": "{number}", '.encode()) for content in formats]
        for content in (*different, bodies[number % len(bodies)]):
            assert ms_of(client, content)[1].status_code == 400
    assert resident_mib() - before < 32


def test_compiled_grammars_have_a_bound_in_memory(client: httpx.Client) -> None:
    """A text of 50 kB takes some 30 MiB once compiled; 30 different ones would be 900."""
    if not Path("/proc/self/statm").exists():
        pytest.skip("needs Linux to count memory")
    before = resident_mib()
    for number in range(30):
        _, response = ms_of(client, raw("", **schema({"const": f"{number}" + "x" * 50_000}), max_tokens=1))
        assert response.status_code == 200
    assert resident_mib() - before < 400
