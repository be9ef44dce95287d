"""POST /internal/chat over a real socket: answers, streams, refusals, leaving, deadlines."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gpu_backend.config import ServerConfig
from gpu_backend.core import Event, Failed
from gpu_backend.server.app import create_app
from gpu_backend.server.routes.chat import _events

from .conftest import SECRET, tiny_served_model

BODY: dict[str, Any] = {
    "id": "chatcmpl-1",
    "created": 17,
    "model": "tiny",
    "messages": [{"role": "user", "content": "hello"}],
    "max_tokens": 6,
    "temperature": 0.0,
}


def chat(client: httpx.Client, headers: dict[str, str] | None = None, **changes: Any) -> httpx.Response:
    return client.post("/internal/chat", json={**BODY, **changes}, headers=headers)


def events_of(response: httpx.Response) -> list[Any]:
    blocks = response.text.split("\n\n")
    assert blocks.pop() == ""
    assert all(block.startswith("data: ") for block in blocks)
    return [block[6:] if block == "data: [DONE]" else json.loads(block[6:]) for block in blocks]


def metric(client: httpx.Client, name: str, **labels: str) -> float:
    for family in text_string_to_metric_families(client.get("/metrics").text):
        for sample in family.samples:
            if sample.name == name and all(sample.labels.get(key) == value for key, value in labels.items()):
                return float(sample.value)
    return 0.0


def until(condition: Callable[[], bool], seconds: float = 5) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def test_whole_answer_has_openais_shape(client: httpx.Client) -> None:
    response = chat(client, n=2)
    assert response.status_code == 200
    body = response.json()
    assert (body["id"], body["object"], body["created"], body["model"], body["system_fingerprint"]) == ("chatcmpl-1", "chat.completion", 17, "tiny", "fp_rev1")
    assert [choice["index"] for choice in body["choices"]] == [0, 1]
    assert body["choices"][0]["finish_reason"] == "length" and body["choices"][0]["message"]["role"] == "assistant"
    # <|start|> "user\nhello" <|end|> <|start|> is 3 control tokens and 10 bytes.
    assert body["usage"] | {"total_tokens": 25} == body["usage"]
    assert (body["usage"]["prompt_tokens"], body["usage"]["completion_tokens"]) == (13, 12)


def test_stream_says_the_same_as_the_whole_answer(client: httpx.Client) -> None:
    whole = chat(client, max_tokens=12).json()["choices"][0]["message"]["content"]
    response = chat(client, max_tokens=12, stream=True, include_usage=True)
    assert response.headers["content-type"].startswith("text/event-stream") and response.headers["cache-control"] == "no-store"
    *chunks, done = events_of(response)
    assert done == "[DONE]"
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks[:-1]) == whole
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]] == [None] * (len(chunks) - 2) + ["length"]
    assert chunks[-1]["choices"] == [] and chunks[-1]["usage"]["total_tokens"] == 13 + 12


def test_no_usage_chunk_unless_asked(client: httpx.Client) -> None:
    assert all("usage" not in chunk for chunk in events_of(chat(client, stream=True))[:-1])


def test_logprobs_cover_every_token(client: httpx.Client) -> None:
    content = chat(client, logprobs=True, top_logprobs=3).json()["choices"][0]["logprobs"]["content"]
    assert len(content) == 6
    assert all(len(item["top_logprobs"]) == 3 and item["logprob"] == item["top_logprobs"][0]["logprob"] <= 0 for item in content)
    assert all(bytes(item["bytes"]).decode("utf-8", "replace") == item["token"] for item in content)


def test_seeded_sampling_repeats(client: httpx.Client) -> None:
    texts = [chat(client, temperature=1.5, seed=seed).json()["choices"][0]["message"]["content"] for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_stop_string_ends_the_answer(client: httpx.Client) -> None:
    whole = chat(client, max_tokens=12).json()["choices"][0]["message"]["content"]
    choice = chat(client, max_tokens=12, stop=[whole[4:6]]).json()["choices"][0]
    assert choice["finish_reason"] == "stop" and choice["message"]["content"] == whole[: whole.index(whole[4:6])]


def test_missing_max_tokens_means_the_rest_of_the_context(client: httpx.Client) -> None:
    usage = chat(client, max_tokens=None).json()["usage"]
    assert usage["total_tokens"] == 512


@pytest.mark.parametrize(
    ("changes", "code", "param"),
    [
        ({"messages": []}, "invalid_value", "messages"),
        ({"messages": [{"role": "robot", "content": "a"}]}, "invalid_value", "messages[0].role"),
        ({"messages": [{"role": "user", "content": 3}]}, "invalid_type", "messages[0].content"),
        ({"temperature": 3}, "invalid_value", "temperature"),
        ({"max_tokens": 0}, "invalid_value", "max_tokens"),
        ({"n": 129}, "invalid_value", "n"),
        ({"stop": ["a"] * 5}, "invalid_value", "stop"),
        ({"stop": [""]}, "invalid_value", "stop[0]"),
        ({"logit_bias": {"999": 1.0}}, "invalid_value", "logit_bias"),
        ({"logit_bias": {"x": 1.0}}, "invalid_value", "logit_bias"),
        ({"surprise": 1}, "unknown_parameter", "surprise"),
        ({"messages": [{"role": "user", "content": "a" * 5000}]}, "context_length_exceeded", "messages"),
        ({"messages": [{"role": "user", "content": "a" * 505}]}, "context_length_exceeded", "messages"),
        ({"max_tokens": 500}, "context_length_exceeded", "max_tokens"),
    ],
)
def test_bad_input_is_a_400_that_names_the_parameter(client: httpx.Client, changes: dict[str, Any], code: str, param: str) -> None:
    response = chat(client, {"x-request-id": "req_7"}, **changes)
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["code"], error["param"], error["request_id"], error["type"]) == (code, param, "req_7", "invalid_request_error")


def test_lone_surrogate_is_refused(client: httpx.Client) -> None:
    raw = json.dumps({**BODY, "messages": [{"role": "user", "content": "\ud800"}]})
    response = client.post("/internal/chat", content=raw, headers={"content-type": "application/json"})
    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_value")


@pytest.mark.parametrize("raw", [b"{", b"", b"\xff\xfe", b"[" * 100_000])
def test_malformed_json_is_a_400(client: httpx.Client, raw: bytes) -> None:
    response = client.post("/internal/chat", content=raw, headers={"content-type": "application/json"})
    assert response.status_code == 400 and response.json()["error"]["code"] in ("invalid_json", "missing_required_parameter", "invalid_type")


@pytest.mark.parametrize("is_announced", [True, False])
def test_too_large_a_body_is_a_413(client: httpx.Client, is_announced: bool) -> None:
    raw = b'{"id": "' + b"x" * (4 * 1024 * 1024) + b'"}'
    content = raw if is_announced else iter([raw[:1000], raw[1000:]])
    response = client.post("/internal/chat", content=content, headers={"content-type": "application/json"})
    assert (response.status_code, response.json()["error"]["code"]) == (413, "request_too_large")


def test_unknown_model_is_a_404_that_lists_the_known_ones(client: httpx.Client) -> None:
    response = chat(client, model="gpt-7")
    assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found") and "tiny" in response.json()["error"]["message"]


@pytest.mark.parametrize("secret", ["", "wrong", SECRET + "x"])
def test_wrong_secret_is_a_401(client: httpx.Client, secret: str) -> None:
    response = chat(client, {"x-attune-secret": secret})
    assert (response.status_code, response.json()["error"]["code"]) == (401, "upstream_auth_error")


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "soon", "9" * 13])
def test_bad_deadline_is_a_400(client: httpx.Client, value: str) -> None:
    assert chat(client, {"x-deadline-ms": value}).json()["error"]["param"] == "x-deadline-ms"


def test_deadline_ends_an_answer_with_504_and_a_stream_with_an_error_event(client: httpx.Client) -> None:
    response = chat(client, {"x-deadline-ms": "1"}, max_tokens=400)
    assert (response.status_code, response.json()["error"]["code"]) == (504, "deadline_exceeded")
    events = events_of(chat(client, {"x-deadline-ms": "1", "x-request-id": "req_9"}, max_tokens=400, stream=True))
    assert events[-1]["error"]["code"] == "deadline_exceeded" and events[-1]["error"]["request_id"] == "req_9"
    assert "[DONE]" not in events


@pytest.mark.parametrize("stream", [True, False])
def test_leaving_stops_the_work_within_a_second(client: httpx.Client, stream: bool) -> None:
    cancelled = metric(client, "attune_requests_total", outcome="cancelled")
    with httpx.Client(base_url=client.base_url, headers=client.headers, trust_env=False) as leaving:
        try:
            with leaving.stream("POST", "/internal/chat", json={**BODY, "max_tokens": 480, "n": 4, "stream": stream}, timeout=0.2) as response:
                next(response.iter_bytes())
        except httpx.ReadTimeout:
            assert not stream
    until(lambda: metric(client, "attune_requests_total", outcome="cancelled") == cancelled + 1, seconds=1.0)
    assert metric(client, "attune_requests_running") + metric(client, "attune_requests_waiting") == 0


def test_full_queue_is_a_503_with_retry_after(start: Callable[..., httpx.Client]) -> None:
    client = start(create_app(ServerConfig(secret=SECRET), lambda registry: [tiny_served_model(registry, max_num_waiting=2)]))
    response = chat(client, n=3)
    assert (response.status_code, response.json()["error"]["code"]) == (503, "server_is_overloaded")
    assert 1 <= int(response.headers["retry-after"]) <= 60


def test_a_response_format_holds_for_every_choice(client: httpx.Client) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "maximum": 999, "minimum": 0}}, "required": ["n"], "additionalProperties": False}
    body = chat(client, n=3, temperature=1.0, seed=1, max_tokens=60, response_format={"type": "json_schema", "json_schema": schema}).json()
    for choice in body["choices"]:
        assert choice["finish_reason"] == "stop" and 0 <= json.loads(choice["message"]["content"])["n"] <= 999
    for seed in range(6):
        answer = chat(client, temperature=1.5, seed=seed, response_format={"type": "choice", "choices": ["red", "green"]})
        assert answer.json()["choices"][0]["message"]["content"] in ("red", "green")


def test_structured_and_free_requests_share_a_batch(client: httpx.Client) -> None:
    """A free row beside a structured one gives what it gives alone."""
    with client.stream("POST", "/internal/chat", json={**BODY, "id": "free", "max_tokens": 200, "stream": True}) as response:
        structured = chat(client, id="structured", max_tokens=30, response_format={"type": "regex", "pattern": "[0-9]{20}"}).json()
        response.read()
    together = "".join(event["choices"][0]["delta"].get("content", "") for event in events_of(response)[:-1])
    assert structured["choices"][0]["message"]["content"].isdigit()
    assert together == chat(client, max_tokens=200).json()["choices"][0]["message"]["content"]


@pytest.mark.parametrize(
    ("response_format", "param"),
    [
        ({"type": "json_schema", "json_schema": {"type": "nonsense"}}, "response_format.json_schema.schema"),
        ({"type": "regex", "pattern": "(["}, "response_format"),
        ({"type": "choice", "choices": []}, "response_format.choice.choices"),
        ({"type": "poem"}, "response_format"),
    ],
)
def test_a_format_that_cannot_be_used_is_a_400(client: httpx.Client, response_format: dict[str, Any], param: str) -> None:
    response = chat(client, response_format=response_format)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


async def test_a_stream_that_fails_names_its_parameter_like_a_whole_answer() -> None:
    class Stream:
        async def __aiter__(self) -> AsyncIterator[Event]:
            yield Failed("unsupported_value", "tools: too complex.", "tools")

        def cancel(self) -> None: ...

    class Format:
        def opening(self) -> bytes:
            return b""

    chunks = [chunk async for chunk in _events(Stream(), Format(), "req_1")]  # type: ignore[arg-type]
    assert json.loads(chunks[-1].removeprefix(b"data: "))["error"]["param"] == "tools"
