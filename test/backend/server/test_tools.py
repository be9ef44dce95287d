"""Tools over a real socket and a random model: what it calls fits, in whole answers and in streams, and what cannot be is refused by name."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from prometheus_client import CollectorRegistry
from transformers import AutoModelForCausalLM, Qwen3Config

from gpu_backend.chat_template import ChatTemplate
from gpu_backend.config import ConfigError, EngineConfig, ModelSpec, ServerConfig, load_catalog
from gpu_backend.engine.metrics import EngineMetrics
from gpu_backend.server.app import create_app
from gpu_backend.server.grammar_queue import GrammarQueue
from gpu_backend.server.served_model import ServedModel, find_tool_call_tokens, load_served_model
from schema_bombs import doubling, needs, pair
from support import TOOL_CONTROL, TOOL_TEMPLATE, byte_tokenizer, byte_tokenizer_json

from .conftest import SECRET, serving, tiny_served_model, tiny_tool_model

OPEN = 256 + TOOL_CONTROL.index("<tool_call>")
END = 256 + TOOL_CONTROL.index("<|im_end|>")
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Paris", "Oslo"]}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
            "required": ["city", "days"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}
CLOCK = {"type": "function", "function": {"name": "clock"}}
USER = {"role": "user", "content": "hello"}
CALL = {"id": "call_1", "type": "function", "function": {"name": "clock", "arguments": "{}"}}
ASKED = {"role": "assistant", "content": "", "tool_calls": [CALL]}
TOLD = {"role": "tool", "content": "noon", "tool_call_id": "call_1"}
BODY: dict[str, Any] = {
    "id": "chatcmpl-1",
    "created": 17,
    "model": "tiny-tools",
    "messages": [USER],
    "max_tokens": 600,
    "temperature": 1.0,
    "tools": [WEATHER, CLOCK],
}


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    def load(registry: CollectorRegistry) -> list[Any]:
        return [tiny_served_model(registry), tiny_tool_model(CollectorRegistry())]

    with serving(create_app(ServerConfig(secret=SECRET), load)) as running:
        yield running


def chat(client: httpx.Client, **changes: Any) -> httpx.Response:
    return client.post("/internal/chat", json={**BODY, **changes})


def choices(client: httpx.Client, **changes: Any) -> list[dict[str, Any]]:
    response = chat(client, **changes)
    assert response.status_code == 200, response.text
    return list(response.json()["choices"])


def assert_fits(call: dict[str, Any]) -> str:
    assert list(call) == ["id", "type", "function"] and call["id"].startswith("call_") and len(call["id"]) == 29 and call["type"] == "function"
    arguments = json.loads(call["function"]["arguments"])
    if call["function"]["name"] == "get_weather":
        assert list(arguments) == ["city", "days"] and arguments["city"] in ("Paris", "Oslo") and arguments["days"] in range(1, 10)
    else:
        assert (call["function"]["name"], arguments) == ("clock", {})
    return str(call["function"]["name"])


def test_required_makes_every_choice_a_list_of_calls(client: httpx.Client) -> None:
    names: list[list[str]] = []
    ids: list[str] = []
    for seed in range(4):
        for choice in choices(client, tool_choice="required", n=3, seed=seed, logit_bias={str(END): -2.0}):
            assert (choice["finish_reason"], choice["message"]["content"], choice["message"]["refusal"]) == ("tool_calls", None, None)
            names.append([assert_fits(call) for call in choice["message"]["tool_calls"]])
            ids += [call["id"] for call in choice["message"]["tool_calls"]]
    assert {name for called in names for name in called} == {"get_weather", "clock"}
    assert {len(called) for called in names} >= {1, 2} and len(set(ids)) == len(ids)


def test_a_named_function_is_called_once_and_one_call_is_enough_when_not_parallel(client: httpx.Client) -> None:
    for choice in choices(client, tool_choice="required", tool_name="get_weather", n=4, seed=1):
        assert [assert_fits(call) for call in choice["message"]["tool_calls"]] == ["get_weather"] and choice["finish_reason"] == "tool_calls"
    for choice in choices(client, tool_choice="required", parallel_tool_calls=False, n=4, seed=1):
        assert len(choice["message"]["tool_calls"]) == 1


def test_auto_lets_text_stand_before_a_call(client: httpx.Client) -> None:
    found = choices(client, n=16, seed=3, logit_bias={str(OPEN): 5.0, str(END): 3.0})
    with_calls = [choice for choice in found if "tool_calls" in choice["message"]]
    assert 0 < len(with_calls) < 16
    for choice in with_calls:
        assert choice["finish_reason"] == "tool_calls" and [assert_fits(call) for call in choice["message"]["tool_calls"]]
    assert any(choice["message"]["content"] for choice in with_calls)
    for choice in [choice for choice in found if choice not in with_calls]:
        assert choice["finish_reason"] in ("stop", "length")
    assert any(choice["message"]["content"] for choice in found if choice not in with_calls)


def test_none_tells_the_model_of_no_tools_and_calls_none(client: httpx.Client) -> None:
    response = chat(client, tool_choice="none", max_tokens=20, logit_bias={str(OPEN): 5.0, str(END): -100.0}).json()
    assert response["usage"]["prompt_tokens"] == chat(client, tools=[], max_tokens=20).json()["usage"]["prompt_tokens"]
    assert response["choices"][0]["finish_reason"] == "length" and "tool_calls" not in response["choices"][0]["message"]
    assert chat(client, max_tokens=20).json()["usage"]["prompt_tokens"] > response["usage"]["prompt_tokens"] + 200


def collect(text: str) -> tuple[list[dict[str, Any]], dict[int, dict[str, Any]]]:
    """-> all chunks, and per choice what a client makes of them."""
    *chunks, done = [block.removeprefix("data: ") for block in text.split("\n\n") if block]
    assert done == "[DONE]"
    parsed = [json.loads(chunk) for chunk in chunks]
    made: dict[int, dict[str, Any]] = {}
    for choice in [choice for chunk in parsed for choice in chunk["choices"]]:
        own = made.setdefault(choice["index"], {"content": None, "tool_calls": [], "finish_reason": None})
        if choice["delta"].get("content") is not None:
            own["content"] = (own["content"] or "") + choice["delta"]["content"]
        for piece in choice["delta"].get("tool_calls", []):
            if "id" in piece:
                assert piece["index"] == len(own["tool_calls"]) and piece["type"] == "function"
                own["tool_calls"].append({"id": piece["id"], "type": "function", "function": dict(piece["function"])})
            else:
                assert list(piece) == ["index", "function"] and list(piece["function"]) == ["arguments"]
                own["tool_calls"][piece["index"]]["function"]["arguments"] += piece["function"]["arguments"]
        assert own["finish_reason"] is None
        own["finish_reason"] = choice["finish_reason"]
    return parsed, made


@pytest.mark.parametrize("logprobs", [False, True])
def test_a_stream_says_the_same_as_the_whole_answer(client: httpx.Client, logprobs: bool) -> None:
    changes = {"n": 8, "seed": 5, "logit_bias": {str(OPEN): 5.0, str(END): 3.0}, "logprobs": logprobs}
    whole = chat(client, **changes).json()
    chunks, made = collect(chat(client, **changes, stream=True, include_usage=True).text)
    assert chunks[-1]["usage"] == whole["usage"] | {"prompt_tokens_details": chunks[-1]["usage"]["prompt_tokens_details"]}
    assert any(len(choice["tool_calls"]) for choice in made.values())
    for choice in whole["choices"]:
        own = made[choice["index"]]
        assert (own["content"], own["finish_reason"]) == (choice["message"]["content"], choice["finish_reason"])
        assert [call["function"] for call in own["tool_calls"]] == [call["function"] for call in choice["message"].get("tool_calls", [])]
    if logprobs:
        streamed = [item for chunk in chunks for c in chunk["choices"] if c["logprobs"] for item in c["logprobs"]["content"]]
        assert len(streamed) == sum(len(choice["logprobs"]["content"]) for choice in whole["choices"])


def test_arguments_come_in_pieces(client: httpx.Client) -> None:
    chunks, _ = collect(chat(client, tool_choice="required", tool_name="get_weather", seed=1, stream=True).text)
    pieces = [piece for chunk in chunks for choice in chunk["choices"] for piece in choice["delta"].get("tool_calls", [])]
    assert pieces[0]["function"] == {"name": "get_weather", "arguments": ""}
    assert len(pieces) > 10 and max(len(piece["function"]["arguments"]) for piece in pieces) <= 2


def test_a_response_format_holds_where_nothing_is_called(client: httpx.Client) -> None:
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"], "additionalProperties": False}
    wanted = {"type": "json_schema", "json_schema": schema}
    found = choices(client, n=12, seed=2, response_format=wanted)
    texts = {choice["message"]["content"] for choice in found}
    assert None in texts and texts - {None} and texts <= {None, '{"ok": true}', '{"ok": false}'}
    assert all(choice["message"]["tool_calls"] for choice in choices(client, n=4, seed=2, response_format=wanted, tool_choice="required"))


def test_a_call_cut_by_length_is_partial_and_says_so(client: httpx.Client) -> None:
    (choice,) = choices(client, tool_choice="required", tool_name="get_weather", seed=1, max_tokens=50)
    (call,) = choice["message"]["tool_calls"]
    assert choice["finish_reason"] == "length" and call["function"]["arguments"].startswith('{"city": ')
    with pytest.raises(ValueError):
        json.loads(call["function"]["arguments"])


def test_calls_and_results_are_told_to_the_model(client: httpx.Client) -> None:
    messages = [USER, {**ASKED, "content": "I look."}, TOLD]
    ids = client.post("/internal/tokenize", json={"model": "tiny-tools", "messages": messages}).json()["ids"]
    text = bytes(i for i in ids if i < 256).decode()
    assert "I look.\n" in text and '{"name": "clock", "arguments": {}}' in text and "result call_1\nnoon" in text
    assert chat(client, messages=messages, max_tokens=3).status_code == 200
    two = {**ASKED, "tool_calls": [CALL, {**CALL, "id": "call_2"}]}
    assert chat(client, messages=[USER, two, {**TOLD, "tool_call_id": "call_2"}, TOLD, USER, ASKED, TOLD], max_tokens=3).status_code == 200


def with_schema(**parameters: Any) -> list[Any]:
    return [CLOCK, {"type": "function", "function": {"name": "f", "strict": True, "parameters": parameters}}]


def with_arguments(arguments: str) -> list[Any]:
    return [USER, {**ASKED, "tool_calls": [{**CALL, "function": {"name": "f", "arguments": arguments}}]}, TOLD]


def deep(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"tools": [CLOCK] * 129}, "tools"),
        ({"tools": [CLOCK, CLOCK]}, "tools[1].function.name"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        ({"tools": [{"type": "function", "function": {"name": "a\n"}}]}, "tools[0].function.name"),
        ({"tools": with_schema(type="string")}, "tools[1].function.parameters.type"),
        ({"tools": with_schema(properties={"a": {"type": "nonsense"}})}, "tools[1].function.parameters"),
        ({"tools": with_schema(properties={"a": {"format": "postcode", "type": "string"}})}, "tools[1].function.parameters"),
        ({"tools": with_schema(**deep(40))}, "tools[1].function.parameters"),
        ({"tools": with_schema(**deep(40)), "tool_choice": "none"}, "tools[1].function.parameters"),
        ({"tools": with_schema(title="x" * 66_000)}, "tools"),
        ({"tools": with_schema(title="\ud800")}, "tools[1].function.parameters.title"),
        ({"tools": [], "tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": "required", "tool_name": "other"}, "tool_choice"),
        ({"messages": [USER, TOLD]}, "messages[1].tool_call_id"),
        ({"messages": [USER, ASKED, {**TOLD, "tool_call_id": "call_2"}]}, "messages[2].tool_call_id"),
        ({"messages": [USER, ASKED, TOLD, TOLD]}, "messages[3].tool_call_id"),
        ({"messages": [USER, ASKED, USER]}, "messages[2].role"),
        ({"messages": [USER, ASKED]}, "messages"),
        ({"messages": [{**USER, "tool_calls": [CALL]}]}, "messages[0].tool_calls"),
        ({"messages": [{**USER, "tool_call_id": "call_1"}]}, "messages[0].tool_call_id"),
        ({"messages": [USER, {**ASKED, "tool_calls": [CALL, CALL]}, TOLD]}, "messages[1].tool_calls"),
        *[
            ({"messages": with_arguments(arguments)}, "messages[1].tool_calls[0].function.arguments")
            for arguments in ("{", "[]", "7", "", '{"a": NaN}', '{"a": -1e999}', '{"a": ' + "9" * 5000 + "}", '{"a": ' * 70 + "1" + "}" * 70, "[" * 100_000)
        ],
        ({"messages": with_arguments('{"a": "\\ud800"}')}, "messages[1].tool_calls"),
        ({"messages": [USER, {**ASKED, "tool_calls": [{**CALL, "id": "\ud800"}]}, TOLD]}, "messages[1].tool_calls[0].id"),
    ],
)
def test_what_cannot_be_is_a_400_that_names_it(client: httpx.Client, changes: dict[str, Any], param: str) -> None:
    response = client.post("/internal/chat", content=json.dumps({**BODY, **changes}), headers={"content-type": "application/json"})
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert (error["code"], error["param"]) == ("invalid_value", param)


OPEN_BOMB = doubling(20, lambda _, r: pair({**r, **needs("x")}, {**r, **needs("y")}))


@pytest.mark.parametrize(
    ("schemas", "param", "word"),
    [
        (
            [{"type": "object", "$defs": OPEN_BOMB["$defs"], "properties": {"a": {"$ref": "#/$defs/d0"}}}],
            "tools[0].function.parameters",
            "more than 3000 parts",
        ),
        ([{"type": "object"}, {"type": "object", "properties": {"a": {"pattern": "a{9999}"}}}], "tools[1].function.parameters", "pattern matches nothing"),
        ([{"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}], "tools[0].function.parameters", "no text fits"),
        ([{"type": "object", "properties": {"a": {"anyOf": [{"const": i} for i in range(900)]}}}] * 4, "tools", "more than 3000 parts"),
    ],
)
def test_a_bomb_is_refused_before_it_is_compiled(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch, schemas: list[dict[str, Any]], param: str, word: str
) -> None:
    monkeypatch.setattr(GrammarQueue, "run", None)
    tools = [{"type": "function", "function": {"name": f"f{index}", "parameters": schema}} for index, schema in enumerate(schemas)]
    began = time.process_time()
    response = chat(client, tools=tools)
    assert time.process_time() - began < 0.05
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (400, "invalid_value", param)
    assert word in error["message"]


def test_a_tool_message_needs_the_id_of_a_call(client: httpx.Client) -> None:
    error = chat(client, messages=[USER, {"role": "tool", "content": "a"}]).json()["error"]
    assert (error["code"], error["param"]) == ("missing_required_parameter", "messages[1].tool_call_id")


@pytest.mark.parametrize(
    ("changes", "param"),
    [({}, "tools"), ({"tools": [], "messages": [USER, ASKED, TOLD]}, "messages[1].tool_calls"), ({"tools": [], "messages": [USER, TOLD]}, "messages[1].role")],
)
def test_a_model_without_tools_says_which_have_them(client: httpx.Client, changes: dict[str, Any], param: str) -> None:
    error = chat(client, model="tiny", **changes).json()["error"]
    assert (error["code"], error["param"]) == ("unsupported_value", param)
    assert error["message"] == "tiny cannot call tools. Models that can: tiny-tools."
    if "messages" in changes:
        error = client.post("/internal/tokenize", json={"model": "tiny", "messages": changes["messages"]}).json()["error"]
        assert (error["code"], error["param"]) == ("unsupported_value", param)


def test_the_list_of_models_says_which_have_tools(client: httpx.Client) -> None:
    models = client.get("/internal/models").json()["data"]
    assert {model["id"]: model["capabilities"] for model in models} == {"tiny": ["chat"], "tiny-tools": ["chat", "tools"]}


def test_a_row_that_promises_tools_is_checked_against_the_model() -> None:
    tokenizer = byte_tokenizer(TOOL_CONTROL)
    spec = ModelSpec(id="m", source="folder", path=".", capabilities=(), languages=(), license="l", owned_by="o", created=1, tool_call_format="hermes")
    assert find_tool_call_tokens(spec, tokenizer, ChatTemplate(TOOL_TEMPLATE, tokenizer, {})) == (OPEN, OPEN + 1)
    with pytest.raises(ConfigError, match="renders `tools`"):
        find_tool_call_tokens(spec, tokenizer, ChatTemplate("{{ messages }}", tokenizer, {}))
    with pytest.raises(ConfigError, match="needs the tokens <tool_call> and </tool_call>"):
        find_tool_call_tokens(spec, byte_tokenizer(), ChatTemplate(TOOL_TEMPLATE, tokenizer, {}))


def test_a_folder_whose_row_declares_tools_is_served_with_them(tmp_path: Path) -> None:
    """The whole way from files on disk to a call: config, weights, tokenizer and template as a hub has them."""
    config = Qwen3Config(vocab_size=260, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=8)
    config.max_position_embeddings, config.eos_token_id = 1024, END
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text(byte_tokenizer_json(TOOL_CONTROL), encoding="utf-8")
    (tmp_path / "chat_template.jinja").write_text(TOOL_TEMPLATE, encoding="utf-8")
    row = 'id = "m"\nsource = "folder"\npath = "."\ncapabilities = ["chat"]\nlanguages = []\nlicense = "l"\nowned_by = "o"\ncreated = 1\n'
    (tmp_path / "models.toml").write_text(f'[[models]]\n{row}tool_call_format = "hermes"\n', encoding="utf-8")
    (spec,) = load_catalog(tmp_path / "models.toml")

    def load(registry: CollectorRegistry) -> list[ServedModel]:
        return [load_served_model(spec, tmp_path, EngineConfig(kv_cache_tokens=2048), EngineMetrics(registry))]

    with serving(create_app(ServerConfig(secret=SECRET), load)) as client:
        assert client.get("/internal/models").json()["data"][0]["capabilities"] == ["chat", "tools"]
        for choice in choices(client, model="m", tool_choice="required", n=3, seed=1):
            assert choice["finish_reason"] == "tool_calls" and [assert_fits(call) for call in choice["message"]["tool_calls"]]


def test_tools_that_cannot_fit_the_context_are_blamed_themselves(client: httpx.Client) -> None:
    tools = [{"type": "function", "function": {"name": f"f{index}", "description": "word " * 3000}} for index in range(4)]
    error = chat(client, tools=tools).json()["error"]
    assert (error["code"], error["param"]) == ("context_length_exceeded", "tools")
    assert "Shorten the tools" in error["message"]
