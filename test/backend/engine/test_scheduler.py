"""The scheduler's laws, without torch: bounded queue, first come first served, no block lost, long prompts never stall decoding."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gpu_backend.config import EngineConfig
from gpu_backend.core import Request, SamplingParams
from gpu_backend.engine.scheduler import Plan, QueueFullError, Scheduler
from gpu_backend.engine.sequence import Sequence

BACKEND = Path(__file__).resolve().parents[3] / "gpu-backend"


def config(**values: int) -> EngineConfig:
    small = {"max_num_sequences": 3, "max_tokens_per_step": 8, "kv_block_size": 4, "kv_cache_tokens": 48, "max_num_waiting": 6, "max_num_waiting_per_tenant": 4}
    return EngineConfig(**{**small, **values})  # type: ignore[arg-type]


def sequence(length: int, name: str = "r", **request: Any) -> Sequence:
    """Prompts are 0, 1, 2, …, so the longer of two begins with the shorter; their salts keep them apart unless a test says otherwise."""
    salted = {"cache_salt": name.encode(), **request}
    return Sequence.of(Request(id=name, prompt_ids=tuple(range(length)), task=SamplingParams(max_tokens=8), **salted), 0)


def apply(scheduler: Scheduler, plan: Plan) -> list[Sequence]:
    """What a step does: tokens are computed, and who has none left gets one more. -> those."""
    scheduler.advance(plan)
    due = []
    for item, _ in plan.entries():
        if item.num_pending == 0:
            item.token_ids.append(0)
            due.append(item)
    return due


def test_importing_the_scheduler_does_not_import_torch() -> None:
    code = "import gpu_backend.engine.scheduler, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=BACKEND, check=False).returncode == 0


def test_a_long_prompt_does_not_stall_a_running_stream() -> None:
    scheduler = Scheduler(config())
    short, long = sequence(2), sequence(30)
    scheduler.add([short])
    apply(scheduler, scheduler.schedule())
    scheduler.add([long])
    for _ in range(4):
        plan = scheduler.schedule()
        assert plan.decodes == [short]
        assert sum(length for _, length in plan.entries()) <= 8
        apply(scheduler, plan)


def test_a_prompt_is_cut_to_the_budget() -> None:
    scheduler = Scheduler(config())
    scheduler.add([sequence(20)])
    lengths = []
    for _ in range(3):
        plan = scheduler.schedule()
        lengths += [length for _, length in plan.prompts]
        apply(scheduler, plan)
    assert lengths == [8, 8, 4]


def test_first_come_first_served() -> None:
    scheduler = Scheduler(config(max_num_sequences=2))
    items = [sequence(2, str(index)) for index in range(4)]
    scheduler.add(items)
    apply(scheduler, scheduler.schedule())
    assert scheduler.running == items[:2]
    scheduler.remove(items[0])
    scheduler.schedule()
    assert scheduler.running == [items[1], items[2]]


def test_full_queue_refuses_all_choices_of_a_request_at_once() -> None:
    scheduler = Scheduler(config(max_num_waiting=3))
    scheduler.add([sequence(2), sequence(2)])
    with pytest.raises(QueueFullError):
        scheduler.add([sequence(2), sequence(2)])
    assert len(scheduler.waiting) == 2
    scheduler.add([sequence(2)])


def test_the_youngest_gives_way_when_blocks_run_out_and_comes_first_afterwards() -> None:
    scheduler = Scheduler(config(kv_cache_tokens=24))
    old, young, late = sequence(8, "old"), sequence(7, "young"), sequence(3, "late")
    scheduler.add([old, young])
    for _ in range(40):
        if scheduler.num_preemptions:
            break
        apply(scheduler, scheduler.schedule())
    scheduler.add([late])
    assert scheduler.running == [old] and list(scheduler.waiting) == [young, late]
    assert young.num_computed == 0 and young.blocks == [] and young.num_generated > 0


class SchedulerMachine(RuleBasedStateMachine):
    """Random arrivals, steps, endings and cancels."""

    def __init__(self) -> None:
        super().__init__()
        self.config = config(kv_cache_tokens=40)
        self.scheduler = Scheduler(self.config)
        self.live: list[Sequence] = []
        self.added = 0

    @rule(length=st.integers(1, 24), salt=st.sampled_from([b"a", b"b"]), tenant=st.sampled_from(["x", "y"]), priority=st.integers(-2, 2))
    def arrive(self, length: int, salt: bytes, tenant: str, priority: int) -> None:
        item = sequence(length, str(self.added), cache_salt=salt, tenant=tenant, priority=priority)
        try:
            self.scheduler.add([item])
        except QueueFullError:
            # Above a limit only by sequences that ran already and were preempted.
            waiting = self.scheduler.waiting
            assert len(waiting) >= self.config.max_num_waiting or waiting.num_of(tenant) >= self.config.max_num_waiting_per_tenant
            return
        self.added += 1
        self.live.append(item)

    @rule()
    def step(self) -> None:
        plan = self.scheduler.schedule()
        assert bool(plan) == bool(self.live), "a step with waiting work must do some of it"
        assert sum(length for _, length in plan.entries()) <= self.config.max_tokens_per_step
        assert len(plan.entries()) == len({id(item) for item, _ in plan.entries()})
        for item in apply(self.scheduler, plan):
            if item.num_generated >= 8:
                self.finish(item)

    @rule(index=st.integers(0, 100))
    def cancel(self, index: int) -> None:
        if self.live:
            self.finish(self.live[index % len(self.live)])

    def finish(self, item: Sequence) -> None:
        self.live.remove(item)
        self.scheduler.remove(item)

    @invariant()
    def every_block_is_free_or_referenced_as_often_as_it_is_held(self) -> None:
        blocks = self.scheduler.blocks
        held = Counter(block for item in self.live for block in item.blocks)
        assert all(blocks._num_references[block] == held[block] for block in range(self.config.num_kv_blocks))
        assert len(held) + blocks.num_free == self.config.num_kv_blocks
        assert len({*blocks._free, *blocks._evictable, *held}) == self.config.num_kv_blocks

    @invariant()
    def a_block_that_is_written_is_held_by_one_and_shared_ones_hold_one_salt(self) -> None:
        holders: dict[int, set[bytes]] = {}
        for item in self.live:
            assert len(set(item.blocks)) == len(item.blocks)
            for index, block in enumerate(item.blocks):
                holders.setdefault(block, set()).add(item.request.cache_salt)
                if (index + 1) * self.config.kv_block_size > item.num_computed:
                    assert self.scheduler.blocks._num_references[block] == 1
        assert all(len(salts) == 1 for salts in holders.values())

    @invariant()
    def everyone_is_in_exactly_one_place_and_has_room(self) -> None:
        places = [*self.scheduler.running, *self.scheduler.waiting]
        assert sorted(map(id, places)) == sorted(map(id, self.live))
        assert len(self.scheduler.running) <= self.config.max_num_sequences
        assert all(len(item.blocks) * 4 >= item.num_computed for item in self.live)

    def teardown(self) -> None:
        """Nobody starves: without new arrivals everything ends."""
        for _ in range(2000):
            if not self.live:
                return
            self.step()
        raise AssertionError("starved")


TestSchedulerMachine = SchedulerMachine.TestCase
TestSchedulerMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@given(st.integers(1, 100), st.integers(1, 32))
def test_blocks_needed_is_the_ceiling(tokens: int, block_size: int) -> None:
    scheduler = Scheduler(config(kv_block_size=block_size, kv_cache_tokens=block_size * 100))
    item = sequence(1)
    scheduler.blocks.grow(item, tokens)
    assert (len(item.blocks) - 1) * block_size < tokens <= len(item.blocks) * block_size


def test_a_tenant_cannot_take_the_whole_queue() -> None:
    scheduler = Scheduler(config())
    for index in range(4):
        scheduler.add([sequence(2, str(index), tenant="flood")])
    with pytest.raises(QueueFullError):
        scheduler.add([sequence(2, tenant="flood")])
    scheduler.add([sequence(2, tenant="other")])


def test_waiting_tokens_are_bounded_but_one_request_always_fits() -> None:
    scheduler = Scheduler(config(max_waiting_tokens=20))
    scheduler.add([sequence(30)])
    with pytest.raises(QueueFullError):
        scheduler.add([sequence(1)])


def test_a_known_prefix_is_shared_and_only_the_rest_is_computed() -> None:
    """Block size 4: of 11 known tokens, two full blocks are found; the last token is always computed."""
    scheduler = Scheduler(config(max_tokens_per_step=32))
    first, same, longer, other = (sequence(length, cache_salt=salt) for length, salt in ((11, b"s"), (8, b"s"), (14, b"s"), (11, b"other")))
    for item, num_found in ((first, 0), (same, 4), (longer, 8), (other, 0)):
        scheduler.add([item])
        (planned,) = [length for candidate, length in scheduler.schedule().entries() if candidate is item]
        assert (item.num_cached, planned) == (num_found, len(item.request.prompt_ids) - num_found)
        scheduler.advance(Plan(prompts=[(item, planned)]))
        scheduler.remove(item)


def test_the_least_recently_used_prefix_is_evicted_first_and_its_end_before_its_beginning() -> None:
    scheduler = Scheduler(config(kv_cache_tokens=24, max_tokens_per_step=32))

    def run(length: int, salt: bytes) -> int:
        item = sequence(length, cache_salt=salt)
        scheduler.add([item])
        plan = scheduler.schedule()
        scheduler.advance(plan)
        scheduler.remove(item)
        return item.num_cached or 0

    assert (run(9, b"old"), run(9, b"new")) == (0, 0)
    assert run(13, b"large") == 0
    assert run(9, b"new") == 8, "used last, kept longest"
    assert run(9, b"old") < 8


def test_choices_wait_for_the_first_to_compute_their_prompt() -> None:
    scheduler = Scheduler(config(max_tokens_per_step=32))
    request = sequence(10).request
    first, second = Sequence.of(request, 0), Sequence.of(request, 1)
    scheduler.add([first, second])
    plan = scheduler.schedule()
    assert plan.prompts == [(first, 10)]
    scheduler.advance(plan)
    first.token_ids.append(0)
    assert scheduler.schedule().entries() == [(first, 1), (second, 2)]
    assert second.blocks[:2] == first.blocks[:2] and second.blocks[2] != first.blocks[2]
