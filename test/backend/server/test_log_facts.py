"""Log lines of a request carry its id and its trace, and nothing that anybody wrote or the model answered."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from gpu_backend.config import ServerConfig
from gpu_backend.logs import JsonFormatter
from gpu_backend.server.app import create_app
from gpu_backend.server.served_model import ServedModel

from .conftest import SECRET, tiny_served_model
from .test_chat import BODY, chat, until

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
HEADERS = {"x-request-id": "req_1", "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
JSON = {**HEADERS, "content-type": "application/json"}
SPOKEN = "What the caller says stays unsaid"


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Everything that is logged, in the form of the real log."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield text
    root.removeHandler(handler)
    root.setLevel(level)


def lines(log: io.StringIO, message: str) -> list[dict[str, Any]]:
    return [line for line in map(json.loads, log.getvalue().splitlines()) if line["message"] == message]


def test_the_lines_of_a_request_carry_its_id_and_its_trace(client: httpx.Client, log: io.StringIO) -> None:
    chat(client, HEADERS, id="chatcmpl-7")
    (line,) = lines(log, "chat admitted")
    assert (line["request_id"], line["trace_id"], line["id"]) == ("req_1", TRACE, "chatcmpl-7")


@pytest.mark.parametrize("traceparent", [None, "nonsense", f"ff-{TRACE}-00f067aa0ba902b7-01", f"00-{'0' * 32}-00f067aa0ba902b7-01", f"00-{TRACE}-01"])
def test_what_is_no_trace_is_not_logged_and_nothing_is_left_from_the_request_before(client: httpx.Client, log: io.StringIO, traceparent: str | None) -> None:
    chat(client, HEADERS)
    chat(client, {"x-request-id": "r" * 500} | ({} if traceparent is None else {"traceparent": traceparent}))
    assert [line.get("trace_id") for line in lines(log, "chat admitted")] == [TRACE, None]
    assert [len(line["request_id"]) for line in lines(log, "chat admitted")] == [5, 128]


def test_an_unexpected_failure_is_logged_with_both(start: Callable[..., httpx.Client], log: io.StringIO) -> None:
    served: list[ServedModel] = []

    def load(registry: Any) -> list[ServedModel]:
        served.append(tiny_served_model(registry))
        return served

    client = start(create_app(ServerConfig(secret=SECRET), load))
    object.__setattr__(served[0], "template", None.__class__)
    assert chat(client, HEADERS).status_code == 500
    until(lambda: bool(lines(log, "unexpected failure")))
    (line,) = lines(log, "unexpected failure")
    assert (line["request_id"], line["trace_id"]) == ("req_1", TRACE)


def test_no_line_says_what_was_asked_or_answered(client: httpx.Client, log: io.StringIO) -> None:
    """Good requests and bad ones of every kind, with a text that would be seen."""
    message = {"role": "user", "content": SPOKEN}
    answer = chat(client, HEADERS, messages=[message]).json()["choices"][0]["message"]["content"]
    chat(client, HEADERS, messages=[message], stream=True, stop=[SPOKEN[:10]])
    for bad in (
        {"messages": [message, {"role": SPOKEN, "content": SPOKEN}]},
        {"messages": [{"role": "user", "content": SPOKEN + "\ud800"}]},
        {"messages": [{"role": "user", "content": SPOKEN * 200}]},
        {"messages": [message], SPOKEN: SPOKEN},
        {"messages": [message], "stop": SPOKEN},
        {"messages": [message], "response_format": {"type": "regex", "pattern": f"([{SPOKEN}"}},
        {"messages": [message], "response_format": {"type": "json_schema", "json_schema": {"$ref": f"#/{SPOKEN}"}}},
    ):
        assert client.post("/internal/chat", content=json.dumps({**BODY, **bad}), headers=JSON).status_code == 400, bad
    assert client.post("/internal/tokenize", json={"model": "tiny", "text": SPOKEN}, headers=HEADERS).status_code == 200
    assert client.post("/internal/chat", content=f'{{"id": "{SPOKEN}', headers=JSON).status_code == 400
    assert len(lines(log, "chat admitted")) == 2
    assert SPOKEN[:12] not in log.getvalue() and answer not in log.getvalue()
