"""Adapters over a real socket: stored by hash, used by chat, and refused in words of the closed list."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from gpu_backend.adapters.content import MAX_CONTENT_BYTES, AdapterContent
from gpu_backend.config import ServerConfig
from gpu_backend.core import AdapterNotFoundError, EngineOverloadedError
from gpu_backend.engine.async_engine import AsyncEngine
from gpu_backend.server.app import create_app
from gpu_backend.server.body_limit import MAX_BODY_BYTES
from gpu_backend.server.served_model import ServedModel
from lora_support import content_of, engine_with_adapters, random_adapter, tensors_of
from support import tiny_model

from .conftest import SECRET, serving, tiny_served_model
from .test_chat import BODY, metric

CONFIG = tiny_model().config
GOOD = content_of(tensors_of(CONFIG, seed=1), lora_alpha=8)
OTHER = content_of(tensors_of(CONFIG, seed=2), lora_alpha=8)
BROKEN = content_of(tensors_of(CONFIG), modules_to_save=["lm_head"])


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("adapters")
    app = create_app(ServerConfig(secret=SECRET, adapters_dir=folder), lambda registry: [tiny_served_model(registry, adapters_dir=folder)])
    with serving(app) as running:
        yield running


def put(client: httpx.Client, content: AdapterContent, **changes: Any) -> httpx.Response:
    return client.put(f"/internal/adapters/{content.id}", content=content.framed(), **changes)


def chat(client: httpx.Client, **changes: Any) -> httpx.Response:
    return client.post("/internal/chat", json={**BODY, **changes})


def text(response: httpx.Response) -> str:
    answer: str = response.json()["choices"][0]["message"]["content"]
    return answer


def test_an_adapter_is_stored_found_and_used(client: httpx.Client) -> None:
    url = f"/internal/adapters/{GOOD.id}"
    assert client.head(url).status_code == 404
    assert chat(client, adapter=GOOD.id).json()["error"] | {"code": "not_found", "param": "adapter"} == chat(client, adapter=GOOD.id).json()["error"]
    expected = {"id": GOOD.id, "bytes": len(GOOD.weights) + len(GOOD.config)}
    for _ in range(2):
        response = put(client, GOOD)
        assert (response.status_code, response.json()) == (200, expected)
    assert (client.get(url).json(), client.head(url).status_code) == (expected, 200)
    plain, changed = text(chat(client)), text(chat(client, adapter=GOOD.id))
    assert plain != changed and text(chat(client)) == plain and text(chat(client, adapter=None)) == plain
    assert metric(client, "attune_adapter_loads_total") == 1 and metric(client, "attune_adapter_resident_bytes") > 0


def test_streams_with_other_adapters_share_a_batch(client: httpx.Client) -> None:
    for content in (GOOD, OTHER):
        put(client, content)
    alone = {adapter: text(chat(client, max_tokens=60, adapter=adapter)) for adapter in (None, GOOD.id, OTHER.id)}
    assert len(set(alone.values())) == 3
    results: dict[str | None, str] = {}

    def ask(adapter: str | None) -> None:
        results[adapter] = text(chat(client, id=f"chatcmpl-{adapter}", max_tokens=60, adapter=adapter))

    threads = [threading.Thread(target=ask, args=(adapter,)) for adapter in alone]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert results == alone


def test_cached_prompts_are_not_shared_between_adapters(client: httpx.Client) -> None:
    put(client, GOOD)
    long = [{"role": "user", "content": "the same long question " * 6}]
    saved = [
        chat(client, messages=long, tenant="t", adapter=adapter).json()["usage"]["prompt_tokens_details"]["cached_tokens"]
        for adapter in (None, GOOD.id, None, GOOD.id)
    ]
    assert saved[:2] == [0, 0] and saved[2] == saved[3] > 0


@pytest.mark.parametrize("adapter", ["", "x" * 64, "A" * 64, "a" * 63, "../../etc", 7])
def test_what_is_no_hash_is_a_400(client: httpx.Client, adapter: Any) -> None:
    response = chat(client, adapter=adapter)
    assert (response.status_code, response.json()["error"]["param"]) == (400, "adapter")


def test_a_path_that_is_no_hash_is_a_400(client: httpx.Client) -> None:
    for response in (client.get("/internal/adapters/xyz"), client.put("/internal/adapters/xyz", content=b"")):
        assert (response.status_code, response.json()["error"]["code"], response.json()["error"]["param"]) == (400, "invalid_value", "adapter_id")


def test_content_with_another_hash_is_a_400_and_stays_away(client: httpx.Client) -> None:
    response = client.put(f"/internal/adapters/{'0' * 64}", content=GOOD.framed())
    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_value") and "hash" in response.json()["error"]["message"]
    assert client.head(f"/internal/adapters/{'0' * 64}").status_code == 404


def test_an_adapter_that_cannot_be_used_says_why(client: httpx.Client) -> None:
    put(client, BROKEN)
    error = chat(client, adapter=BROKEN.id).json()["error"]
    assert (error["code"], error["param"]) == ("invalid_value", "adapter") and "modules_to_save" in error["message"]


def test_too_large_an_adapter_is_a_413(client: httpx.Client) -> None:
    """Said as soon as the length is announced; no client of ours announces more than it sends, so this one speaks HTTP itself."""
    connection = http.client.HTTPConnection(client.base_url.host, client.base_url.port or 0, timeout=10)
    connection.putrequest("PUT", f"/internal/adapters/{'0' * 64}")
    connection.putheader("content-length", str(MAX_CONTENT_BYTES + 1))
    connection.endheaders()
    response = connection.getresponse()
    assert (response.status, json.load(response)["error"]["code"]) == (413, "request_too_large")
    connection.close()


def test_an_adapter_may_be_larger_than_other_bodies(client: httpx.Client) -> None:
    content = AdapterContent(bytes(MAX_BODY_BYTES), b"{}")
    assert put(client, content).status_code == 200


@pytest.mark.parametrize("method", ["PUT", "GET", "HEAD"])
def test_a_wrong_secret_is_a_401(client: httpx.Client, method: str) -> None:
    response = client.request(method, f"/internal/adapters/{'1' * 64}", headers={"x-attune-secret": "wrong"}, content=b"abc" if method == "PUT" else None)
    assert response.status_code == 401


def test_a_backend_without_a_folder_has_no_adapters() -> None:
    with serving(create_app(ServerConfig(secret=SECRET), lambda registry: [tiny_served_model(registry)])) as running:
        responses = [put(running, GOOD), running.get(f"/internal/adapters/{GOOD.id}"), chat(running, adapter=GOOD.id)]
        assert [(each.status_code, each.json()["error"]["code"]) for each in responses] == [(404, "not_found")] * 3


def test_no_room_for_an_adapter_is_a_503(tmp_path: Path) -> None:
    served: list[ServedModel] = []

    def load(registry: CollectorRegistry) -> list[ServedModel]:
        served.append(tiny_served_model(registry, adapters_dir=tmp_path, adapter_cache_bytes=100_000))
        return served

    with serving(create_app(ServerConfig(secret=SECRET, adapters_dir=tmp_path), load)) as running:
        for content in (GOOD, OTHER):
            put(running, content)
        served[0].engine.pin_adapter(GOOD.id)
        response = chat(running, adapter=OTHER.id)
        assert (response.status_code, response.json()["error"]["code"]) == (503, "server_is_overloaded") and int(response.headers["retry-after"]) >= 1
        served[0].engine.unpin_adapter(GOOD.id)
        assert chat(running, adapter=OTHER.id).status_code == 200


async def test_leaving_while_an_adapter_loads_lets_it_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_with_adapters(tiny_model(), tmp_path)
    adapter = random_adapter(tmp_path, CONFIG)
    is_loading, may_go_on = threading.Event(), threading.Event()
    pin = engine.pin_adapter

    def slow(adapter_id: str | None) -> None:
        is_loading.set()
        assert may_go_on.wait(10)
        pin(adapter_id)

    monkeypatch.setattr(engine, "pin_adapter", slow)
    running = AsyncEngine(engine)

    async def hold() -> None:
        async with running.holding(adapter):
            raise AssertionError("it left before")

    holding = asyncio.create_task(hold())
    assert await asyncio.to_thread(is_loading.wait, 10)
    holding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await holding
    may_go_on.set()
    async with asyncio.timeout(10):
        while not engine._adapters._resident or engine._adapters._resident[adapter].num_pins:  # type: ignore[union-attr]
            await asyncio.sleep(0.01)
    running.close()


async def test_a_failed_load_is_raised_to_the_one_who_waits(tmp_path: Path) -> None:
    running = AsyncEngine(engine_with_adapters(tiny_model(), tmp_path, adapter_cache_bytes=100_000))
    first, second = random_adapter(tmp_path, CONFIG, seed=1), random_adapter(tmp_path, CONFIG, seed=2)
    async with running.holding(first):
        with pytest.raises(EngineOverloadedError):
            async with running.holding(second):
                raise AssertionError("there is no room")
    for _ in range(2):
        async with running.holding(second):
            pass
    with pytest.raises(AdapterNotFoundError):
        async with running.holding("0" * 64):
            raise AssertionError("there is no such adapter")
    running.close()
