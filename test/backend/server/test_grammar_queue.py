"""Schemas that take long keep nobody waiting but those who sent schemas, and not too many of those."""

from __future__ import annotations

import asyncio
import threading

import pytest

from gpu_backend.server import grammar_queue
from gpu_backend.server.errors import BackendError
from gpu_backend.server.grammar_queue import GrammarQueue


async def test_work_takes_turns_beside_the_event_loop_and_its_default_threads() -> None:
    queue, gate, order = GrammarQueue(), threading.Event(), list[int]()

    def slow(number: int) -> int:
        gate.wait(10)
        order.append(number)
        return number

    waiting = [asyncio.create_task(queue.run(lambda number=number: slow(number))) for number in range(20)]  # type: ignore[misc]
    await asyncio.sleep(0.05)
    assert await asyncio.wait_for(asyncio.to_thread(lambda: "free"), 5) == "free"
    gate.set()
    assert await asyncio.gather(*waiting) == order == list(range(20))


async def test_too_many_are_refused_at_once_and_room_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grammar_queue, "_MAX_WAITING", 2)
    queue, gate = GrammarQueue(), threading.Event()
    waiting = [asyncio.create_task(queue.run(lambda: gate.wait(10))) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(BackendError) as refusal:
        await queue.run(lambda: None)
    assert (refusal.value.code, refusal.value.retry_after_s) == ("server_is_overloaded", 5)
    gate.set()
    await asyncio.gather(*waiting)
    assert await queue.run(lambda: 7) == 7
