"""The backend as a process: it refuses unsafe settings, serves the embedded model, and drains on SIGTERM."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gpu_backend.__main__ import _engine_config, _parse
from gpu_backend.adapters.content import AdapterContent

BACKEND = Path(__file__).resolve().parents[2] / "gpu-backend"
SECRET = "a secret of the tests"
ENVIRONMENT = {**os.environ, "ATTUNE_BACKEND_SECRET": SECRET, "PYTHONPATH": str(BACKEND)}
BODY = {
    "id": "chatcmpl-1",
    "created": 1,
    "model": "smollm2-135m-instruct",
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
    "temperature": 0.0,
}


def launch(models_dir: Path, *arguments: str, environment: dict[str, str] = ENVIRONMENT) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "gpu_backend", "--models-dir", str(models_dir), *arguments]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


@pytest.fixture
def backend(models_dir: Path, embedded_folder: Path, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = launch(models_dir, "--port", str(port), "--adapters-dir", str(tmp_path))
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"x-attune-secret": SECRET}, timeout=30, trust_env=False) as client:
            end = time.monotonic() + 60
            while True:
                try:
                    if client.get("/ready").status_code == 200:
                        break
                except httpx.TransportError:
                    assert process.poll() is None
                assert time.monotonic() < end, "not ready after 60 s"
                time.sleep(0.1)
            yield process, client
    finally:
        process.kill()
        process.wait(10)


def test_it_answers_then_drains_on_sigterm(backend: tuple[subprocess.Popen[str], httpx.Client], tmp_path: Path) -> None:
    process, client = backend
    adapter = AdapterContent(b"weights", b"{}")
    assert client.put(f"/internal/adapters/{adapter.id}", content=adapter.framed()).status_code == 200
    assert [path.name for path in tmp_path.iterdir()] == [adapter.id]
    answer = client.post("/internal/chat", json=BODY).json()
    assert "Paris" in answer["choices"][0]["message"]["content"]
    with client.stream("POST", "/internal/chat", json={**BODY, "stream": True, "max_tokens": 40, "logit_bias": {"2": -100.0, "0": -100.0}}) as response:
        lines = response.iter_lines()
        next(lines)
        process.send_signal(signal.SIGTERM)
        rest = [line for line in lines if line]
    assert rest[-1] == "data: [DONE]", "SIGTERM cut a running stream"
    assert process.wait(15) in (0, -signal.SIGTERM)
    assert process.stderr is not None
    log = process.stderr.read()
    assert "capital of France" not in log and "chat admitted" in log


def test_health_answers_while_the_model_loads(models_dir: Path, embedded_folder: Path) -> None:
    """A socket that accepts at once lets a supervisor tell `loading` from `dead`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = launch(models_dir, "--port", str(port))
    seen: set[str] = set()
    try:
        end = time.monotonic() + 60
        while "ready" not in seen and time.monotonic() < end:
            try:
                seen.add(httpx.get(f"http://127.0.0.1:{port}/ready", trust_env=False).json()["status"])
            except httpx.TransportError:
                time.sleep(0.02)
        assert seen == {"loading", "ready"}
    finally:
        process.kill()
        process.wait(10)


@pytest.mark.parametrize(
    ("arguments", "secret", "word"),
    [
        (["--host", "0.0.0.0"], "", "ATTUNE_BACKEND_SECRET"),
        (["--port", "0"], SECRET, "port"),
        (["--max-num-sequences", "0"], SECRET, "max_num_sequences"),
        (["--adapter-cache-bytes", "-1"], SECRET, "adapter_cache_bytes"),
        ([], "short", "16 characters"),
    ],
)
def test_unsafe_or_impossible_settings_are_refused(tmp_path: Path, arguments: list[str], secret: str, word: str) -> None:
    process = launch(tmp_path, *arguments, environment={**ENVIRONMENT, "ATTUNE_BACKEND_SECRET": secret})
    _, error = process.communicate(timeout=30)
    assert process.returncode == 2 and word in error and len(error.strip().splitlines()) == 1


@pytest.mark.parametrize(("arguments", "expected"), [([], True), (["--no-decode-graphs"], False)])
def test_graphs_are_on_unless_switched_off(monkeypatch: pytest.MonkeyPatch, arguments: list[str], expected: bool) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu_backend", "--models-dir", ".", *arguments])
    assert _engine_config(_parse()).decode_graphs is expected


def test_missing_weights_end_the_process_with_a_reason(tmp_path: Path) -> None:
    process = launch(tmp_path, "--port", "18999")
    _, error = process.communicate(timeout=60)
    assert process.returncode == 1
    assert any("loading the models failed" in json.loads(line)["message"] for line in error.splitlines() if line.startswith("{"))


def test_int8_weights_where_the_c_operators_do_not_run_end_the_process_with_a_reason(models_dir: Path, embedded_folder: Path) -> None:
    process = launch(models_dir, "--port", "18999", "--dtype", "float32", "--weight-dtype", "int8")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "--weight-dtype int8 needs the C operators" in errors
