"""A real server on a real socket, over a tiny random model."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from gpu_backend.chat_template import ChatTemplate
from gpu_backend.config import EngineConfig, ModelSpec, ServerConfig
from gpu_backend.decoding.grammar import GrammarCompiler
from gpu_backend.engine.engine import Engine
from gpu_backend.engine.metrics import EngineMetrics
from gpu_backend.engine.model_runner import ModelRunner
from gpu_backend.server.app import create_app
from gpu_backend.server.served_model import ServedModel, find_tool_call_tokens, open_adapters
from support import TOOL_CONTROL, TOOL_TEMPLATE, byte_tokenizer, tiny_model

SECRET = "a secret of the tests"
TEMPLATE = "{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content }}<|end|>{% endfor %}<|start|>"


def tiny_served_model(registry: CollectorRegistry, *, adapters_dir: Path | None = None, **limits: float) -> ServedModel:
    """Vocabulary: 256 bytes and two control tokens; context 512. It never ends by itself."""
    config = EngineConfig(**{"max_num_sequences": 4, "kv_cache_tokens": 2048, "max_num_waiting": 8, **limits})  # type: ignore[arg-type]
    tokenizer = byte_tokenizer()
    model = tiny_model(vocab_size=tokenizer.vocab_size, max_position_embeddings=512)
    grammars = GrammarCompiler(tokenizer, tokenizer.vocab_size, [tokenizer.control_ids["<|end|>"]])
    metrics = EngineMetrics(registry)
    adapters = None if adapters_dir is None else open_adapters("tiny", model, adapters_dir, config, metrics)
    engine = Engine("tiny", ModelRunner(model, config, adapters), tokenizer, config, (), metrics)
    spec = ModelSpec(
        id="tiny", source="folder", capabilities=("chat",), languages=("en",), license="apache-2.0", owned_by="tests", created=1, path=".", base_folder=Path()
    )
    return ServedModel(spec, "rev1", 512, tokenizer, ChatTemplate(TEMPLATE, tokenizer, {}), engine, grammars)


def tiny_tool_model(registry: CollectorRegistry) -> ServedModel:
    """The same with tools: tags as tokens, a template that renders functions, an end token; context 2048."""
    config = EngineConfig(max_num_sequences=4, kv_cache_tokens=8192, max_num_waiting=32)
    tokenizer = byte_tokenizer(TOOL_CONTROL)
    end = tokenizer.control_ids["<|im_end|>"]
    model = tiny_model(vocab_size=tokenizer.vocab_size, max_position_embeddings=2048)
    grammars = GrammarCompiler(tokenizer, tokenizer.vocab_size, [end])
    engine = Engine("tiny-tools", ModelRunner(model, config), tokenizer, config, (end,), EngineMetrics(registry))
    spec = ModelSpec(
        id="tiny-tools",
        source="folder",
        capabilities=("chat",),
        languages=("en",),
        license="apache-2.0",
        owned_by="tests",
        created=1,
        path=".",
        tool_call_format="hermes",
    )
    template = ChatTemplate(TOOL_TEMPLATE, tokenizer, {})
    return ServedModel(spec, "rev1", 2048, tokenizer, template, engine, grammars, find_tool_call_tokens(spec, tokenizer, template))


@contextmanager
def serving(app: FastAPI, *, wait_ready: bool = True) -> Iterator[httpx.Client]:
    """Run `app` under uvicorn in a thread; -> a client that carries the secret."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        _until(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"x-attune-secret": SECRET}, timeout=20, trust_env=False) as client:
            if wait_ready:
                _until(lambda: client.get("/ready").status_code == 200)
            yield client
    finally:
        server.should_exit = True
        thread.join(timeout=20)
        assert not thread.is_alive()


def _until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    app = create_app(ServerConfig(secret=SECRET), lambda registry: [tiny_served_model(registry)])
    with serving(app) as running:
        yield running


@pytest.fixture
def start() -> Iterator[Callable[..., httpx.Client]]:
    """For tests that need a server of their own."""
    with ExitStack() as stack:

        def enter(app: FastAPI, *, wait_ready: bool = True) -> httpx.Client:
            return stack.enter_context(serving(app, wait_ready=wait_ready))

        yield enter
