"""The engine as the server sees it: a thread that steps while there is work, and one asynchronous stream of events per request."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from gpu_backend.core import EngineOverloadedError, Event, Failed, Finished, Request
from gpu_backend.engine.engine import Engine
from gpu_backend.engine.watchdog import Watchdog

logger = logging.getLogger(__name__)
_STALLED_RETRY_AFTER_S = 10


class RequestStream:
    """Events of one request, ending with its terminal event. Leaving early must be followed by `cancel`."""

    def __init__(self, owner: AsyncEngine, request_id: str) -> None:
        self._owner = owner
        self.request_id = request_id
        self._queue: asyncio.Queue[Event | None] = asyncio.Queue()

    def put(self, event: Event) -> None:
        self._queue.put_nowait(event)

    async def __aiter__(self) -> AsyncIterator[Event]:
        while True:
            event = await self._queue.get()
            if event is None:
                return
            yield event
            if isinstance(event, Finished | Failed):
                return

    def cancel(self) -> None:
        """Stop the request and end the stream without another event; harmless after its end."""
        self._owner.cancel(self)
        self._queue.put_nowait(None)


class AsyncEngine:
    """Use from one event loop.

    When a step hangs, every open stream is told so, and new requests are refused until it comes back; the engine then frees what those requests held.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._loop = asyncio.get_running_loop()
        self._streams: dict[str, RequestStream] = {}
        self._wake = threading.Event()
        self._is_closing = False
        # Its own thread, so that a queue of adapters never keeps other requests from being read.
        self._loader = ThreadPoolExecutor(1, f"adapters-{engine.name}")
        self._watchdog = Watchdog(engine.config.max_step_seconds)
        self._watching = self._loop.create_task(self._watch())
        self._thread = threading.Thread(target=self._run, name=f"engine-{engine.name}", daemon=True)
        self._thread.start()

    @property
    def is_failing(self) -> bool:
        """Steps raise, or one hangs."""
        return self._engine.is_failing or self._watchdog.is_overdue

    @asynccontextmanager
    async def holding(self, adapter_id: str | None) -> AsyncIterator[None]:
        """Keep an adapter loaded inside the block, so that `submit` there finds it. What must be loaded is loaded in a thread. Raises as `submit` does."""
        if adapter_id is not None and not self._engine.pin_loaded_adapter(adapter_id):
            await self._load(adapter_id)
        try:
            yield
        finally:
            self._engine.unpin_adapter(adapter_id)

    async def _load(self, adapter_id: str) -> None:
        def let_go(done: asyncio.Future[None]) -> None:
            if not done.cancelled() and done.exception() is None:
                self._engine.unpin_adapter(adapter_id)

        pinning = self._loop.run_in_executor(self._loader, self._engine.pin_adapter, adapter_id)
        try:
            await asyncio.shield(pinning)
        except asyncio.CancelledError:
            # The thread goes on, and ends with a pin that nobody else would let go.
            pinning.add_done_callback(let_go)
            raise

    def submit(self, request: Request) -> RequestStream:
        """Admit a request. Raises at once what `Engine.add` raises, and EngineOverloadedError while the engine hangs."""
        if self._watchdog.is_overdue:
            raise EngineOverloadedError(_STALLED_RETRY_AFTER_S)
        self._engine.add(request)
        # Not too late for the first event: events are dispatched on this loop, after this call.
        stream = self._streams[request.id] = RequestStream(self, request.id)
        self._wake.set()
        return stream

    def cancel(self, stream: RequestStream) -> None:
        """Nothing happens when the stream has had its terminal event; its id may then already be another request's."""
        if self._streams.get(stream.request_id) is stream:
            del self._streams[stream.request_id]
            self._engine.cancel(stream.request_id)

    def close(self) -> None:
        """End the thread after its present step; one that hangs is left behind."""
        self._is_closing = True
        self._watching.cancel()
        self._wake.set()
        self._thread.join(timeout=0 if self._watchdog.is_overdue else 30)
        self._loader.shutdown(wait=False, cancel_futures=True)

    def _run(self) -> None:
        while not self._is_closing:
            self._wake.wait()
            self._wake.clear()
            while self._engine.has_work and not self._is_closing:
                with self._watchdog.step():
                    events = self._engine.step()
                if events:
                    self._loop.call_soon_threadsafe(self._dispatch, events)

    async def _watch(self) -> None:
        interval_s = min(1.0, self._engine.config.max_step_seconds / 4)
        while True:
            await asyncio.sleep(interval_s)
            if self._watchdog.is_overdue and self._streams:
                logger.error("engine step hangs", extra={"model": self._engine.name, "requests": list(self._streams)})
                for stream in list(self._streams.values()):
                    stream.put(Failed("internal_error", "The model stopped responding while it computed this answer."))
                    self.cancel(stream)

    def _dispatch(self, events: list[tuple[str, Event]]) -> None:
        for request_id, event in events:
            stream = self._streams.get(request_id)
            if stream is not None:
                stream.put(event)
                if isinstance(event, Finished | Failed):
                    del self._streams[request_id]
