"""The thread around the engine: streams arrive in order, leaving frees the place, refusals are immediate."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gpu_backend.core import EngineOverloadedError, Event, Finished, LabelScores, LabelScoresReady, UnfitRequestError, Usage
from gpu_backend.engine.async_engine import AsyncEngine, RequestStream
from support import request, text_of, tiny_engine, tiny_model

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
    stream = engine.submit(request("r", [1], max_tokens=200))
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
