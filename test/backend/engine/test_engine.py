"""The engine's contract on a tiny model: batching, cutting and preemption never change an answer, and every request ends exactly once."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from gpu_backend.core import Delta, EngineOverloadedError, Event, Failed, Finished, FinishReason, Usage
from gpu_backend.decoding.reference import generate_greedily
from gpu_backend.decoding.sampling import sample
from gpu_backend.engine.engine import Engine
from support import num_terminal, request, run_dry, text_of, tiny_engine, tiny_model

MODEL = tiny_model()
PROMPTS = [[1, 2, 3], [5] * 21, [7, 8], [9, 10, 11, 12, 13, 14, 15], [20], [30, 31, 32, 33]]


def expected(prompt: list[int], max_tokens: int = 8) -> str:
    return bytes(generate_greedily(MODEL, prompt, max_tokens)).decode("utf-8", errors="replace")


def test_cached_equals_uncached() -> None:
    engine = tiny_engine(MODEL)
    engine.add(request("r", PROMPTS[1], max_tokens=30))
    assert text_of(run_dry(engine)["r"]) == expected(PROMPTS[1], 30)


def test_batched_equals_single() -> None:
    engine = tiny_engine(MODEL)
    for index, prompt in enumerate(PROMPTS):
        engine.add(request(str(index), prompt))
    events = run_dry(engine)
    assert [text_of(events[str(index)]) for index in range(len(PROMPTS))] == [expected(prompt) for prompt in PROMPTS]


def test_sampling_with_a_seed_is_the_same_alone_and_in_company() -> None:
    def run(names: list[str]) -> dict[str, list[Event]]:
        engine = tiny_engine(MODEL)
        for name in names:
            engine.add(request(name, PROMPTS[int(name)], temperature=1.0, seed=5, top_p=0.9))
        return run_dry(engine)

    together = run(["0", "1", "2", "3"])
    for name, events in together.items():
        assert text_of(run([name])[name]) == text_of(events)


def test_preemption_changes_no_answer() -> None:
    engine = tiny_engine(MODEL, kv_cache_tokens=40)
    for index in range(4):
        engine.add(request(str(index), PROMPTS[index], max_tokens=16))
    events = run_dry(engine)
    assert engine._scheduler.num_preemptions > 0
    assert [text_of(events[str(index)]) for index in range(4)] == [expected(PROMPTS[index], 16) for index in range(4)]
    assert engine.num_free_blocks == engine.config.num_kv_blocks


def test_choices_share_a_prompt_and_count_it_once() -> None:
    engine = tiny_engine(MODEL)
    engine.add(request("r", PROMPTS[0], num_choices=3, temperature=1.0, seed=1))
    events = run_dry(engine)["r"]
    texts = [text_of(events, choice) for choice in range(3)]
    assert len(set(texts)) > 1
    last = events[-1]
    assert isinstance(last, Finished) and (last.usage.prompt_tokens, last.usage.completion_tokens) == (3, 24)


def usage_of(events: list[Event]) -> Usage:
    last = events[-1]
    assert isinstance(last, Finished)
    return last.usage


def test_a_reused_prefix_changes_no_answer_and_is_counted() -> None:
    engine = tiny_engine(MODEL)
    prompt = [5, 6, 7, 8] * 5
    engine.add(request("first", prompt))
    first = run_dry(engine)["first"]
    engine.add(request("again", prompt))
    engine.add(request("longer", [*prompt, 9, 9]))
    events = run_dry(engine)
    assert text_of(events["again"]) == text_of(first) == expected(prompt)
    assert text_of(events["longer"]) == expected([*prompt, 9, 9])
    # Blocks of 4: of 20 known tokens 16 may be reused, since the last must be computed; the longer prompt reuses all 20.
    assert [usage_of(e).cached_tokens for e in (first, events["again"], events["longer"])] == [0, 16, 20]


def test_a_conversation_reuses_its_own_answers() -> None:
    engine = tiny_engine(MODEL)
    engine.add(request("turn", [1, 2, 3, 4], max_tokens=9))
    answer = text_of(run_dry(engine)["turn"])
    assert answer == expected([1, 2, 3, 4], 9)
    history = [1, 2, 3, 4, *generate_greedily(MODEL, [1, 2, 3, 4], 9)]
    engine.add(request("next", [*history, 50]))
    events = run_dry(engine)["next"]
    assert usage_of(events).cached_tokens == 12 and text_of(events) == expected([*history, 50])


def test_another_salt_finds_nothing() -> None:
    engine = tiny_engine(MODEL)
    for name, salt in (("a", b"user 1"), ("b", b"user 2"), ("c", b"user 1")):
        engine.add(request(name, [5] * 20, cache_salt=salt))
        assert usage_of(run_dry(engine)[name]).cached_tokens == (16 if name == "c" else 0)


def test_without_reuse_nothing_is_shared() -> None:
    engine = tiny_engine(MODEL, reuses_prefixes=False)
    for name in ("a", "b"):
        engine.add(request(name, [5] * 20))
        events = run_dry(engine)[name]
        assert usage_of(events).cached_tokens == 0 and text_of(events) == expected([5] * 20)


def test_choices_share_their_prompt_and_then_go_their_own_ways() -> None:
    """Greedy choices must agree with each other and with a request of one choice, although their blocks are shared up to the prompt's end."""
    engine = tiny_engine(MODEL)
    engine.add(request("r", [5] * 18, num_choices=3))
    events = run_dry(engine)["r"]
    assert [text_of(events, choice) for choice in range(3)] == [expected([5] * 18)] * 3


def test_end_token_finishes_with_stop() -> None:
    first = generate_greedily(MODEL, PROMPTS[0], 1)[0]
    engine = tiny_engine(MODEL, end_token_ids=(first,))
    engine.add(request("r", PROMPTS[0]))
    delta, finished = run_dry(engine)["r"]
    assert isinstance(delta, Delta) and (delta.text, delta.finish_reason) == ("", FinishReason.STOP)
    assert isinstance(finished, Finished) and finished.usage.completion_tokens == 1


def test_full_queue_says_so_at_once_and_when_to_come_back() -> None:
    engine = tiny_engine(MODEL, max_num_waiting=2)
    engine.add(request("a", [1]))
    engine.add(request("b", [1]))
    with pytest.raises(EngineOverloadedError) as caught:
        engine.add(request("c", [1]))
    assert 1 <= caught.value.retry_after_s <= 60
    assert set(run_dry(engine)) == {"a", "b"}


def test_deadline_ends_running_and_waiting_requests() -> None:
    now = [0.0]
    engine = tiny_engine(MODEL, max_num_sequences=1, clock=lambda: now[0])
    engine.add(request("running", [1], max_tokens=50, deadline_s=10.0))
    engine.add(request("waiting", [1], max_tokens=50, deadline_s=10.0))
    engine.add(request("patient", [1], max_tokens=2))
    engine.step()
    now[0] = 10.0
    events = run_dry(engine)
    assert events["running"][-1] == events["waiting"][-1] == Failed("deadline_exceeded", "The request did not finish before its deadline.")
    assert isinstance(events["patient"][-1], Finished)
    assert engine.num_free_blocks == engine.config.num_kv_blocks


def test_cancel_frees_everything_and_sends_nothing_more() -> None:
    engine = tiny_engine(MODEL)
    engine.add(request("r", PROMPTS[1], max_tokens=50, num_choices=2))
    engine.step()
    engine.step()
    assert engine.cancel("r") and not engine.cancel("r")
    assert not engine.has_work and engine.step() == []
    assert engine.num_free_blocks == engine.config.num_kv_blocks


def test_cancel_while_the_model_runs_is_harmless(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = tiny_engine(MODEL)
    engine.add(request("gone", [1, 2]))
    engine.add(request("stays", [3, 4]))
    run = engine._runner.run

    def run_and_cancel(plan: Any) -> Any:
        engine.cancel("gone")
        return run(plan)

    monkeypatch.setattr(engine._runner, "run", run_and_cancel)
    events = run_dry(engine)
    assert set(events) == {"stays"} and text_of(events["stays"]) == expected([3, 4])


def test_a_failing_step_fails_its_requests_and_the_engine_lives_on(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = tiny_engine(MODEL)
    engine.add(request("unlucky", [1, 2]))

    def explode(plan: Any) -> Any:
        raise RuntimeError("secret internal text")

    with monkeypatch.context() as patch:
        patch.setattr(engine._runner, "run", explode)
        events = run_dry(engine)
    (failed,) = events["unlucky"]
    assert isinstance(failed, Failed) and failed.code == "internal_error" and "secret" not in failed.message
    engine.add(request("lucky", [1, 2]))
    assert text_of(run_dry(engine)["lucky"]) == expected([1, 2])
    assert not engine.is_failing


def poisoned(engine: Engine, name: str) -> Any:
    """A runner that raises whenever this request is in the batch."""
    run = engine._runner.run

    def run_unless(plan: Any) -> Any:
        if any(sequence.request.id == name for sequence, _ in plan.entries()):
            raise RuntimeError("poison")
        return run(plan)

    return run_unless


@pytest.mark.parametrize("num_steps_before", [0, 3])
def test_a_poisonous_request_fails_alone(monkeypatch: pytest.MonkeyPatch, num_steps_before: int) -> None:
    """Its neighbours' answers are those they give alone, whether the model raises over prompts, or over a batch of both kinds."""
    engine = tiny_engine(MODEL)
    names = [str(index) for index in range(4)]
    for index, name in enumerate(names):
        engine.add(request(name, PROMPTS[index], num_choices=2 if index == 3 else 1))
    events: dict[str, list[Event]] = {name: [] for name in names}
    for _ in range(num_steps_before):
        for name, event in engine.step():
            events[name].append(event)
    monkeypatch.setattr(engine._runner, "run", poisoned(engine, "2"))
    for name, rest in run_dry(engine).items():
        events[name] += rest
    assert [num_terminal(events[name]) for name in names] == [1] * 4
    last = events["2"][-1]
    assert isinstance(last, Failed) and last.code == "internal_error" and "poison" not in last.message
    assert [text_of(events[str(index)]) for index in (0, 1, 3)] == [expected(PROMPTS[index]) for index in (0, 1, 3)]
    assert text_of(events["3"], 1) == expected(PROMPTS[3])
    assert not engine.is_failing and engine.num_free_blocks == engine.config.num_kv_blocks


def test_poison_changes_no_random_numbers_of_its_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(names: list[str]) -> str:
        engine = tiny_engine(MODEL)
        monkeypatch.setattr(engine._runner, "run", poisoned(engine, "poison"))
        for name in names:
            engine.add(request(name, [7, 8], temperature=1.0, seed=3))
        return text_of(run_dry(engine)["fine"])

    assert run(["poison", "fine"]) == run(["fine"])


def test_a_failing_sampler_fails_its_requests_and_counts_as_a_failing_step(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = tiny_engine(MODEL)
    monkeypatch.setattr("gpu_backend.engine.readout.sample", lambda logits, states: 1 / 0)
    for index in range(3):
        assert not engine.is_failing
        engine.add(request(str(index), [1, 2]))
        (failed,) = run_dry(engine)[str(index)]
        assert isinstance(failed, Failed) and failed.code == "internal_error"
    assert engine.is_failing and engine.num_free_blocks == engine.config.num_kv_blocks


def test_a_step_whose_bookkeeping_fails_still_ends_every_request_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first request has had its last event when the second one breaks the step."""
    engine = tiny_engine(MODEL)
    for name in ("first", "second", "third"):
        engine.add(request(name, [1, 2], max_tokens=1))
    note = engine._note_token

    def explode(sequence: Any) -> None:
        note(sequence)
        if sequence.request.id == "second":
            raise RuntimeError("secret")

    monkeypatch.setattr(engine, "_note_token", explode)
    events = run_dry(engine)
    assert [num_terminal(events[name]) for name in ("first", "second", "third")] == [1, 1, 1]
    assert isinstance(events["first"][-1], Finished) and isinstance(events["second"][-1], Failed)
    assert engine.num_free_blocks == engine.config.num_kv_blocks


def test_the_lock_is_free_while_model_and_sampler_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who adds or cancels a request must not wait for them, let alone for one that hangs."""
    engine = tiny_engine(MODEL)
    was_free: list[bool] = []
    run = engine._runner.run

    def spy(plan: Any) -> Any:
        was_free.append(not engine._lock.locked())
        return run(plan)

    def spy_sample(*arguments: Any) -> Any:
        was_free.append(not engine._lock.locked())
        return sample(*arguments)

    monkeypatch.setattr(engine._runner, "run", spy)
    monkeypatch.setattr("gpu_backend.engine.readout.sample", spy_sample)
    engine.add(request("r", [1, 2], max_tokens=2))
    run_dry(engine)
    assert was_free == [True] * 4


def test_three_failing_steps_mean_the_model_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = tiny_engine(MODEL)
    monkeypatch.setattr(engine._runner, "run", lambda plan: 1 / 0)
    for index in range(3):
        assert not engine.is_failing
        engine.add(request(str(index), [1]))
        run_dry(engine)
    assert engine.is_failing


def test_nan_weights_do_not_hang() -> None:
    model = tiny_model()
    model.final_norm.weight[0] = float("nan")
    engine = tiny_engine(model)
    engine.add(request("r", [1, 2], temperature=1.0, seed=0))
    assert num_terminal(run_dry(engine)["r"]) == 1


def test_the_runner_returns_one_row_per_due_sequence() -> None:
    engine = tiny_engine(MODEL)
    engine.add(request("short", [1, 2]))
    engine.add(request("long", [5] * 40))
    plan = engine._scheduler.schedule()
    (row,) = engine._runner.run(plan)
    assert row.sequence.request.id == "short" and row.states_LH is None
    assert row.logits_V is not None and row.logits_V.shape == (MODEL.config.vocab_size,) and row.logits_V.dtype == torch.float32


def test_time_per_token_and_batch_size_are_measured() -> None:
    now = [0.0]
    engine = tiny_engine(MODEL, clock=lambda: now[0])
    engine.add(request("two", [1, 2, 3], max_tokens=3, num_choices=2))
    for now[0] in (10.0, 12.0, 14.0, 16.0):
        engine.step()
    assert not engine.has_work
    # The first choice has its tokens at 10, 12 and 14; the second one, which waits for the prompt, at 12, 14 and 16.
    assert engine._metrics.token_time.labels("tiny")._sum.get() == 2.0
    assert engine._metrics.batch.labels("tiny")._sum.get() == 1 + 2 + 2 + 1
