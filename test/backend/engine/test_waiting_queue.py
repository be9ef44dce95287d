"""Turns by tokens: shares follow priorities, floods starve nobody, and what was asked for comes out exactly once."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_backend.core import Request, SamplingParams
from gpu_backend.engine.sequence import Sequence
from gpu_backend.engine.waiting_queue import WaitingQueue


def sequence(tenant: str, length: int = 100, priority: int = 0) -> Sequence:
    return Sequence.of(Request(id="r", prompt_ids=(0,) * length, task=SamplingParams(max_tokens=1), tenant=tenant, priority=priority), 0)


def served(queue: WaitingQueue, count: int) -> list[Sequence]:
    return [queue.pop() for _ in range(count)]


def test_within_a_tenant_it_is_first_come_first_served() -> None:
    queue, items = WaitingQueue(), [sequence("a") for _ in range(5)]
    for item in items:
        queue.append(item)
    assert served(queue, 5) == items and queue.peek() is None and len(queue) == 0


def test_a_flood_delays_another_tenant_by_one_turn_at_most() -> None:
    queue = WaitingQueue()
    for _ in range(100):
        queue.append(sequence("flood"))
    late = sequence("late")
    queue.append(late)
    # A turn brings 256 tokens: at most two prompts of 100, and what was saved before.
    assert late in served(queue, 4)


def test_long_prompts_do_not_buy_a_larger_share() -> None:
    queue = WaitingQueue()
    for _ in range(40):
        queue.append(sequence("long", 1000))
        for _ in range(10):
            queue.append(sequence("short", 100))
    tokens = Counter[str]()
    while tokens.total() < 20_000:
        item = queue.pop()
        tokens[item.request.tenant] += len(item.token_ids)
    assert 0.4 < tokens["long"] / tokens.total() < 0.6


def test_each_step_of_priority_doubles_the_share() -> None:
    queue = WaitingQueue()
    for _ in range(400):
        for priority in (0, 1, -1):
            queue.append(sequence(f"p{priority}", 64, priority))
    counts = Counter(item.request.priority for item in served(queue, 350))
    assert [round(counts[priority] / counts[-1]) for priority in (-1, 0, 1)] == [1, 2, 4]


def test_preempted_sequences_come_first() -> None:
    queue = WaitingQueue()
    queue.append(sequence("a"))
    returned = sequence("b", 5000)
    queue.put_back(returned)
    assert queue.pop() is returned


def test_removing_what_does_not_wait_is_an_error() -> None:
    queue = WaitingQueue()
    with pytest.raises(ValueError, match="does not wait"):
        queue.remove(sequence("a"))


@given(st.lists(st.tuples(st.sampled_from(["append", "back", "pop", "remove"]), st.sampled_from("abc"), st.integers(1, 900), st.integers(-2, 2)), max_size=60))
def test_everything_comes_out_once_and_counts_stay_right(actions: list[tuple[str, str, int, int]]) -> None:
    queue = WaitingQueue()
    inside: list[Sequence] = []
    for kind, tenant, length, priority in actions:
        if kind in ("append", "back"):
            item = sequence(tenant, length, priority)
            (queue.append if kind == "append" else queue.put_back)(item)
            inside.append(item)
        elif inside and kind == "pop":
            assert queue.peek() is queue.peek()
            inside.remove(queue.pop())
        elif inside:
            queue.remove(inside.pop(length % len(inside)))
        assert (len(queue), queue.num_tokens) == (len(inside), sum(len(item.token_ids) for item in inside))
        assert sorted(map(id, queue)) == sorted(map(id, inside))
        assert queue.num_of("a") == sum(item.request.tenant == "a" for item in inside)
