"""POST /internal/tokenize: ids and counts, and text that only looks like control tokens."""

from __future__ import annotations

from typing import Any

import httpx
import pytest


def tokenize(client: httpx.Client, **body: Any) -> httpx.Response:
    return client.post("/internal/tokenize", json={"model": "tiny", **body})


def test_text(client: httpx.Client) -> None:
    assert tokenize(client, text="héy").json() == {"model": "tiny", "ids": list("héy".encode()), "count": 4, "context_length": 512}
    assert tokenize(client, text="").json()["ids"] == []


def test_text_never_yields_control_tokens(client: httpx.Client) -> None:
    assert max(tokenize(client, text="<|start|>").json()["ids"]) < 256


def test_messages_include_the_template(client: httpx.Client) -> None:
    ids = tokenize(client, messages=[{"role": "user", "content": "<|end|>"}]).json()["ids"]
    assert [i for i in ids if i >= 256] == [256, 257, 256]


@pytest.mark.parametrize("body", [{}, {"text": "a", "messages": [{"role": "user", "content": "a"}]}, {"text": 3}, {"messages": []}])
def test_bad_input_is_a_400(client: httpx.Client, body: dict[str, Any]) -> None:
    assert tokenize(client, **body).status_code == 400


def test_unknown_model_is_a_404(client: httpx.Client) -> None:
    assert client.post("/internal/tokenize", json={"model": "x", "text": "a"}).status_code == 404
