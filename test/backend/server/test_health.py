"""Readiness tells the truth: not before the first forward pass, not after the model broke."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
from prometheus_client import CollectorRegistry

from gpu_backend.config import ServerConfig
from gpu_backend.server.app import create_app
from gpu_backend.server.served_model import ServedModel

from .conftest import SECRET, tiny_served_model
from .test_chat import chat, events_of, metric, until


def test_live_ready_models_and_metrics(client: httpx.Client) -> None:
    assert client.get("/live").json() == {"status": "ok"}
    assert client.get("/ready").json() == {"status": "ready", "models": [{"id": "tiny", "revision": "rev1"}]}
    (model,) = client.get("/internal/models").json()["data"]
    assert (model["id"], model["context_length"], model["capabilities"], model["revision"]) == ("tiny", 512, ["chat"], "rev1")
    assert 'attune_requests_running{model="tiny"}' in client.get("/metrics").text


def test_health_needs_no_secret_and_operations_do(client: httpx.Client) -> None:
    with httpx.Client(base_url=client.base_url, trust_env=False) as stranger:
        assert [stranger.get(path).status_code for path in ("/live", "/ready", "/metrics", "/internal/models")] == [200, 200, 200, 401]
        assert stranger.post("/internal/tokenize", json={}).status_code == 401


def test_while_loading_it_is_alive_but_not_ready(start: Callable[..., httpx.Client]) -> None:
    may_load = threading.Event()

    def load(registry: CollectorRegistry) -> list[ServedModel]:
        may_load.wait(10)
        return [tiny_served_model(registry)]

    client = start(create_app(ServerConfig(secret=SECRET), load), wait_ready=False)
    try:
        assert client.get("/live").status_code == 200
        assert (client.get("/ready").status_code, client.get("/ready").json()["status"]) == (503, "loading")
        response = chat(client)
        assert (response.status_code, response.json()["error"]["code"], response.headers["retry-after"]) == (503, "model_loading", "5")
        assert client.get("/internal/models").status_code == 503
    finally:
        may_load.set()
    until(lambda: client.get("/ready").status_code == 200)


def test_a_model_that_cannot_load_is_reported(start: Callable[..., httpx.Client]) -> None:
    failures: list[float] = []

    def load(registry: CollectorRegistry) -> list[ServedModel]:
        raise OSError("no such file")

    app = create_app(ServerConfig(secret=SECRET), load, on_load_failure=lambda: failures.append(time.monotonic()))
    client = start(app, wait_ready=False)
    until(lambda: bool(failures))
    assert (client.get("/ready").status_code, client.get("/ready").json()["status"]) == (503, "failed")
    assert chat(client).status_code == 503


def test_a_broken_model_turns_ready_false(start: Callable[..., httpx.Client]) -> None:
    broken: list[ServedModel] = []

    def load(registry: CollectorRegistry) -> list[ServedModel]:
        broken.append(tiny_served_model(registry))
        return broken

    client = start(create_app(ServerConfig(secret=SECRET), load))
    broken[0].engine._runner.run = lambda plan: 1 / 0  # type: ignore[method-assign, assignment]
    for _ in range(3):
        response = chat(client)
        assert (response.status_code, response.json()["error"]["code"]) == (500, "internal_error")
        assert "division" not in response.text
    assert (client.get("/ready").status_code, client.get("/ready").json()["status"]) == (503, "failed")


def test_a_model_that_hangs_turns_ready_false_until_it_comes_back(start: Callable[..., httpx.Client]) -> None:
    served: list[ServedModel] = []

    def load(registry: CollectorRegistry) -> list[ServedModel]:
        served.append(tiny_served_model(registry, max_step_seconds=0.3))
        return served

    client = start(create_app(ServerConfig(secret=SECRET), load))
    runner, may_go_on = served[0].engine._runner, threading.Event()
    run = runner.run
    runner.run = lambda plan: may_go_on.wait(20) and run(plan)  # type: ignore[method-assign, assignment, return-value]
    with ThreadPoolExecutor(2) as pool:
        whole = pool.submit(chat, client, id="whole")
        streamed = pool.submit(chat, client, id="streamed", stream=True)
        assert (whole.result(10).status_code, whole.result().json()["error"]["code"]) == (500, "internal_error")
        opening, error = events_of(streamed.result(10))
    assert opening["choices"][0]["delta"]["role"] == "assistant" and error["error"]["code"] == "internal_error"
    assert (client.get("/ready").status_code, client.get("/ready").json()["status"], client.get("/live").status_code) == (503, "failed", 200)
    refused = chat(client)
    assert (refused.status_code, refused.json()["error"]["code"], refused.headers["retry-after"]) == (503, "server_is_overloaded", "10")
    may_go_on.set()
    until(lambda: client.get("/ready").status_code == 200)
    assert chat(client, id="whole").status_code == 200
    assert metric(client, "attune_kv_blocks_free") == served[0].engine.config.num_kv_blocks


def test_unknown_paths_and_methods_answer_in_the_envelope(client: httpx.Client) -> None:
    assert client.get("/nothing").json()["error"]["code"] == "unknown_url"
    response = client.get("/internal/chat")
    assert (response.status_code, response.json()["error"]["code"]) == (405, "method_not_allowed")
