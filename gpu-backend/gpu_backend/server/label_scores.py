"""Many prompts of one call, each read once for the scores of label tokens: a bounded number in the engine at a time, and none left behind."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from gpu_backend.core import EngineOverloadedError, Failed, Finished, LabelGate, LabelScores, LabelScoresReady, Usage
from gpu_backend.core import Request as EngineRequest
from gpu_backend.server.errors import BackendError

if TYPE_CHECKING:
    from gpu_backend.engine.async_engine import AsyncEngine, RequestStream

logger = logging.getLogger(__name__)
# More than the engine runs at once, so that it never waits for this side, and few enough to leave its queue to others.
MAX_IN_FLIGHT = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """On whose behalf the engine works, with which adapter."""

    deadline_s: float | None
    tenant: str
    priority: int
    cache_salt: bytes
    adapter: str | None


@dataclass(frozen=True, slots=True)
class Prompt:
    """The first `num_shared` ids are what other prompts of the call are likely to begin with, too."""

    ids: tuple[int, ...]
    label_ids: tuple[int, ...]
    num_shared: int = 0


class LabelReader:
    """Use inside of `reading`. Counts what it used; `early` are the scores that `gate` read at an inner layer."""

    def __init__(self, engine: AsyncEngine, caller: Caller, gate: LabelGate | None = None) -> None:
        self._engine = engine
        self._caller = caller
        self.gate = gate
        self._call = secrets.token_hex(8)
        self._num_in_flight = 0
        self._has_ended = asyncio.Event()
        self.early: list[LabelScoresReady] = []
        self.num_forwards = 0
        self.input_tokens = 0
        self.cached_tokens = 0

    async def read(self, prompts: Sequence[Prompt]) -> list[LabelScoresReady]:
        """In the order of the prompts, which is also the order in which the engine gets them. Raises BackendError; whatever ends this early, an error or
        the caller's leaving, cancels what is still in the engine."""
        try:
            async with asyncio.TaskGroup() as group:
                tasks = []
                for prompt in prompts:
                    stream = await self._submit(prompt)
                    tasks.append(group.create_task(self._collect(stream)))
                    # Also for a task that is cancelled before it begins.
                    tasks[-1].add_done_callback(partial(self._end, stream))
        except BaseExceptionGroup as errors:
            raise _first_of(errors) from errors
        return [task.result() for task in tasks]

    async def _submit(self, prompt: Prompt) -> RequestStream:
        """Waits for a place among this call's own; a full engine is waited for as long as own requests will make room in it."""
        while True:
            self._has_ended.clear()
            if self._num_in_flight < MAX_IN_FLIGHT:
                try:
                    stream = self._engine.submit(self._request(prompt))
                except EngineOverloadedError as error:
                    if self._num_in_flight == 0:
                        raise overloaded(error) from error
                else:
                    self._num_in_flight += 1
                    self.num_forwards += 1
                    return stream
            await self._has_ended.wait()

    def _request(self, prompt: Prompt) -> EngineRequest:
        caller = self._caller
        return EngineRequest(
            id=f"{self._call}-{self.num_forwards}",
            prompt_ids=prompt.ids,
            task=LabelScores(prompt.label_ids, self.gate, prompt.num_shared),
            deadline_s=caller.deadline_s,
            tenant=caller.tenant,
            priority=caller.priority,
            cache_salt=caller.cache_salt,
            adapter=caller.adapter,
        )

    async def _collect(self, stream: RequestStream) -> LabelScoresReady:
        scores: LabelScoresReady | None = None
        async for event in stream:
            if isinstance(event, LabelScoresReady):
                scores = event
            elif isinstance(event, Failed):
                raise BackendError(event.code, event.message, param=event.param)
            elif isinstance(event, Finished):
                self._count(event.usage)
        assert scores is not None, "a request that finished has been read"
        if not scores.is_finite:
            logger.error("scores of labels are not finite")
            raise BackendError("internal_error", "The model's scores for this request are not numbers; its weights may be damaged.")
        if scores.exit_layer is not None:
            self.early.append(scores)
        return scores

    def _end(self, stream: RequestStream, _task: asyncio.Task[LabelScoresReady]) -> None:
        stream.cancel()
        self._num_in_flight -= 1
        self._has_ended.set()

    def _count(self, usage: Usage) -> None:
        self.input_tokens += usage.prompt_tokens
        self.cached_tokens += usage.cached_tokens


@asynccontextmanager
async def reading(engine: AsyncEngine, caller: Caller, gate: LabelGate | None = None) -> AsyncIterator[LabelReader]:
    """A reader whose adapter stays loaded until the end of the block."""
    async with engine.holding(caller.adapter):
        yield LabelReader(engine, caller, gate)


def overloaded(error: EngineOverloadedError) -> BackendError:
    message = f"The server takes no more requests at the moment; try again in {error.retry_after_s} s."
    return BackendError("server_is_overloaded", message, retry_after_s=error.retry_after_s)


def _first_of(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """What to tell the caller, where several requests of a call failed together."""
    first = errors.exceptions[0]
    return _first_of(first) if isinstance(first, BaseExceptionGroup) else first
