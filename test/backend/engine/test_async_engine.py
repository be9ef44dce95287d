"""The thread around the engine: streams arrive in order, leaving frees the place, refusals are immediate."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gpu_backend.core import EngineOverloadedError, Event, Failed, Finished, LabelScores, LabelScoresReady, UnfitRequestError, Usage
from gpu_backend.engine.async_engine import AsyncEngine, RequestStream
from support import num_terminal, request, text_of, tiny_engine, tiny_model

MODEL = tiny_model()


@pytest.fixture
async def engine() -> AsyncIterator[AsyncEngine]:
    running = AsyncEngine(tiny_engine(MODEL, max_num_waiting=8))
    yield running
    running.close()


async def collect(stream: RequestStream) -> list[Event]:
    return [event async for event in stream]


async def test_many_streams_at_once_each_end_once(engine: AsyncEngine) -> None:
    streams = [engine.submit(request(str(index), [index + 1, 2])) for index in range(6)]
    results = await asyncio.wait_for(asyncio.gather(*map(collect, streams)), 20)
    alone = await collect(engine.submit(request("again", [3, 2])))
    assert text_of(results[2]) == text_of(alone)
    assert all(isinstance(events[-1], Finished) for events in results)


async def test_a_task_that_answers_once_ends_its_stream(engine: AsyncEngine) -> None:
    scores, finished = await asyncio.wait_for(collect(engine.submit(request("r", [1, 2, 3], task=LabelScores((4,))))), 20)
    assert isinstance(scores, LabelScoresReady) and finished == Finished(Usage(3, 0, 0))


async def test_what_does_not_fit_leaves_no_stream_behind(engine: AsyncEngine) -> None:
    with pytest.raises(UnfitRequestError):
        engine.submit(request("r", [1], task=LabelScores((97,))))
    assert engine._streams == {}


async def test_cancel_ends_the_stream_and_the_work(engine: AsyncEngine) -> None:
    stream = engine.submit(request("r", [1], max_tokens=100))
    stream.cancel()
    events = await asyncio.wait_for(collect(stream), 5)
    assert not any(isinstance(event, Finished) for event in events)
    assert not engine._engine.has_work


async def test_overload_raises_and_leaves_no_stream_behind(engine: AsyncEngine) -> None:
    with pytest.raises(EngineOverloadedError):
        engine.submit(request("big", [1], num_choices=9))
    assert engine._streams == {}
    assert text_of(await collect(engine.submit(request("next", [1])))) != ""


async def test_a_duplicate_id_is_refused_and_the_first_stream_goes_on(engine: AsyncEngine) -> None:
    first = engine.submit(request("same", [1], max_tokens=100))
    with pytest.raises(AssertionError, match="already live"):
        engine.submit(request("same", [2]))
    events = await asyncio.wait_for(collect(first), 20)
    assert isinstance(events[-1], Finished)


class Hang:
    """Makes one step of an engine wait until it is let go."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._run = engine._engine._runner.run
        self.has_begun = threading.Event()
        self.may_go_on = threading.Event()
        engine._engine._runner.run = self.run  # type: ignore[method-assign]

    def run(self, plan: Any) -> Any:
        self.has_begun.set()
        assert self.may_go_on.wait(20)
        return self._run(plan)


async def test_a_step_that_hangs_ends_its_streams_and_the_engine_recovers() -> None:
    engine = AsyncEngine(tiny_engine(MODEL, max_step_seconds=0.2))
    hang = Hang(engine)
    streams = [engine.submit(request(str(index), [index + 1, 2], num_choices=2)) for index in range(3)]
    results = await asyncio.wait_for(asyncio.gather(*map(collect, streams)), 5)
    assert hang.has_begun.is_set() and engine.is_failing
    for events in results:
        (failed,) = events
        assert isinstance(failed, Failed) and failed.code == "internal_error"
    with pytest.raises(EngineOverloadedError):
        engine.submit(request("refused", [1]))
    for stream in streams:
        stream.cancel()
    hang.may_go_on.set()
    while engine.is_failing or engine._engine.has_work:
        await asyncio.sleep(0.01)
    assert engine._engine.num_free_blocks == engine._engine.config.num_kv_blocks
    # The same id again: nothing of the old request may arrive at the new one.
    again = await asyncio.wait_for(collect(engine.submit(request("0", [1, 2]))), 5)
    assert num_terminal(again) == 1 and isinstance(again[-1], Finished)
    assert all(stream._queue.qsize() == 1 and stream._queue.get_nowait() is None for stream in streams), "events after the terminal one"
    engine.close()


async def test_a_step_within_the_limit_is_not_taken_to_hang() -> None:
    engine = AsyncEngine(tiny_engine(MODEL, max_step_seconds=5.0))
    hang = Hang(engine)
    stream = engine.submit(request("slow", [1, 2]))
    await asyncio.sleep(0.4)
    assert hang.has_begun.is_set() and not engine.is_failing
    hang.may_go_on.set()
    assert isinstance((await asyncio.wait_for(collect(stream), 5))[-1], Finished)
    engine.close()


async def test_closing_does_not_wait_for_a_step_that_hangs() -> None:
    engine = AsyncEngine(tiny_engine(MODEL, max_step_seconds=0.1))
    hang = Hang(engine)
    await asyncio.wait_for(collect(engine.submit(request("r", [1]))), 5)
    began = asyncio.get_running_loop().time()
    engine.close()
    assert asyncio.get_running_loop().time() - began < 1
    hang.may_go_on.set()


async def test_leaving_late_does_not_touch_a_later_request_with_the_same_id(engine: AsyncEngine) -> None:
    first = engine.submit(request("same", [1], max_tokens=2))
    await asyncio.wait_for(collect(first), 5)
    second = engine.submit(request("same", [1], max_tokens=20))
    first.cancel()
    assert isinstance((await asyncio.wait_for(collect(second), 5))[-1], Finished)
