"""The HTTP application: answers /live at once, loads the models beside it, then serves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import Depends, FastAPI
from prometheus_client import CollectorRegistry

from gpu_backend.config import ServerConfig
from gpu_backend.server import errors
from gpu_backend.server.auth import require_secret
from gpu_backend.server.body_limit import BodyLimit
from gpu_backend.server.log_facts import LogFacts
from gpu_backend.server.routes import adapters, chat, decisions, health, models, rewards, tokenize
from gpu_backend.server.state import ServerState

if TYPE_CHECKING:
    from gpu_backend.server.served_model import ServedModel

logger = logging.getLogger(__name__)
Loader = Callable[[CollectorRegistry], "list[ServedModel]"]


def create_app(config: ServerConfig, load: Loader, *, on_load_failure: Callable[[], None] = lambda: None) -> FastAPI:
    """`load` runs in a thread and returns the models; when it raises, the state is `failed` and `on_load_failure` is called."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.create_task(_load(app, load, on_load_failure))
        yield
        if app.state.server.status == "ready":
            app.state.server.status = "draining"
        loading.cancel()
        for engine in {engine for _, engine in app.state.server.models.values()}:
            engine.close()

    app = FastAPI(title="Attune GPU backend", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.config = config
    app.state.server = ServerState()
    app.state.registry = CollectorRegistry()
    errors.install(app)
    app.add_middleware(BodyLimit)
    app.add_middleware(LogFacts)
    app.include_router(health.router)
    for router in (chat.router, rewards.router, decisions.router, tokenize.router, models.router, adapters.router):
        app.include_router(router, dependencies=[Depends(require_secret)])
    return app


async def _load(app: FastAPI, load: Loader, on_load_failure: Callable[[], None]) -> None:
    state: ServerState = app.state.server
    try:
        served = await asyncio.to_thread(load, app.state.registry)
        from gpu_backend.engine.async_engine import AsyncEngine

        engines = {engine: AsyncEngine(engine) for engine in dict.fromkeys(model.engine for model in served)}
        state.models = {model.spec.id: (model, engines[model.engine]) for model in served}
        state.status = "ready"
    except Exception:
        logger.exception("loading the models failed")
        state.status = "failed"
        on_load_failure()
