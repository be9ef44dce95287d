"""Everything the engine carries, in one batch: each answer is what it is alone, every request ends once, and all memory comes back."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_translator import ToyTranslator

from gpu_backend.core import (
    Delta,
    EngineOverloadedError,
    Event,
    Failed,
    Finished,
    HiddenStates,
    HiddenStatesReady,
    LabelScores,
    LabelScoresReady,
    Pooling,
    Request,
    Usage,
)
from gpu_backend.engine.engine import Engine
from gpu_backend.engine.sequence import Sequence
from gpu_backend.layers.conditioning import EncoderSource, KVPrefix
from support import num_terminal, request, run_dry, text_of, tiny_engine

MODEL = ToyTranslator()
PROMPT = [5, 9, 33, 2, 71, 8, 8, 40, 12, 13, 90, 1, 66, 7, 21, 30, 31, 50, 4, 4, 17]
PREFIX = KVPrefix(*torch.randn((2, 3, 6, 2, 8), generator=torch.Generator().manual_seed(3)))
SOURCE = EncoderSource((7, 3, 50, 21))
MEAN = HiddenStates((1, 3), Pooling.MEAN)


class Gate:
    """Reads the first number of the residual stream, and is sure above 1: of one of the kinds below, not of the other."""

    layer = 2

    def read(self, x_KH: torch.Tensor) -> list[float | None]:
        return [value if value > 1 else None for value in x_KH[:, 0].tolist()]


KINDS: list[dict[str, Any]] = [
    {"max_tokens": 12},
    {"task": LabelScores((5, 6, 90))},
    {"max_tokens": 12, "conditioning": SOURCE},
    {"task": MEAN},
    {"max_tokens": 12, "conditioning": PREFIX},
    {"task": HiddenStates((0, 2))},
    {"task": LabelScores((5,)), "conditioning": PREFIX},
    {"task": LabelScores((5,)), "conditioning": SOURCE},
    {"task": MEAN, "conditioning": PREFIX},
    {"task": LabelScores((5, 6), Gate(), 9)},
    {"task": LabelScores((5, 6), Gate()), "conditioning": PREFIX},
    {"max_tokens": 12, "conditioning": SOURCE, "num_choices": 2},
    {"max_tokens": 12, "temperature": 1.0, "seed": 3, "num_choices": 2, "conditioning": PREFIX},
]


def of_kind(kind: int, name: str | None = None, prompt: list[int] | None = None, **more: Any) -> Request:
    """The prompts begin alike, so that blocks are shared where they may be."""
    return request(name or str(kind), prompt or PROMPT[: 13 + kind % 9], **{**KINDS[kind], **more})


@dataclass(frozen=True)
class Answer:
    """What must not depend on company: texts exactly, numbers as far as float32 sums go."""

    texts: list[str]
    numbers: list[float]
    prompt_tokens: int
    completion_tokens: int

    @classmethod
    def of(cls, events: list[Event]) -> Answer:
        numbers: list[float] = []
        for event in events:
            if isinstance(event, LabelScoresReady):
                numbers += [*event.logits, *event.logprobs]
            elif isinstance(event, HiddenStatesReady):
                numbers += [number for state in event.states for number in state]
        last = events[-1]
        assert isinstance(last, Finished) and num_terminal(events) == 1
        return cls([text_of(events, choice) for choice in range(2)], numbers, last.usage.prompt_tokens, last.usage.completion_tokens)

    def agrees(self, other: Answer) -> bool:
        same = (self.texts, self.prompt_tokens, self.completion_tokens) == (other.texts, other.prompt_tokens, other.completion_tokens)
        return same and self.numbers == pytest.approx(other.numbers, abs=1e-4)


@pytest.fixture(scope="module")
def alone() -> list[Answer]:
    """Each kind in an engine of its own, whole prompts, no reuse."""
    answers = []
    for kind in range(len(KINDS)):
        engine = tiny_engine(MODEL, max_tokens_per_step=64, reuses_prefixes=False)
        engine.add(of_kind(kind))
        answers.append(Answer.of(run_dry(engine)[str(kind)]))
    return answers


def assert_nothing_is_kept(engine: Engine) -> None:
    assert engine.num_free_blocks == engine.config.num_kv_blocks
    assert engine._runner._encoded == {} and engine._runner._hidden_states._sums == {}


def test_the_kinds_differ(alone: list[Answer]) -> None:
    assert len({str(answer) for answer in alone}) == len(KINDS)


@pytest.mark.parametrize("reuses_prefixes", [True, False])
@pytest.mark.parametrize("tokens_per_step", [4, 7, 64])
@pytest.mark.parametrize("order", [1, -1])
def test_a_mixed_batch_answers_as_each_does_alone(alone: list[Answer], order: int, tokens_per_step: int, reuses_prefixes: bool) -> None:
    engine = tiny_engine(MODEL, max_num_sequences=4, max_tokens_per_step=tokens_per_step, reuses_prefixes=reuses_prefixes)
    for kind in [*range(len(KINDS))][::order]:
        engine.add(of_kind(kind))
    events = run_dry(engine)
    assert [kind for kind in range(len(KINDS)) if not Answer.of(events[str(kind)]).agrees(alone[kind])] == []
    assert_nothing_is_kept(engine)


@pytest.mark.parametrize("reuses_prefixes", [True, False])
@pytest.mark.parametrize("patience", [1, 2, 3])
def test_preemption_changes_no_answer_of_any_kind(alone: list[Answer], patience: int, reuses_prefixes: bool) -> None:
    """A small pool, and everyone gives way once for certain, after some steps: in the middle of the prompt. Each finds its own blocks only."""
    engine = tiny_engine(MODEL, kv_cache_tokens=64, max_tokens_per_step=4, reuses_prefixes=reuses_prefixes)
    for kind in range(len(KINDS)):
        engine.add(of_kind(kind, cache_salt=bytes([kind])))
    num_steps: Counter[Sequence] = Counter()
    events: dict[str, list[Event]] = {}
    while engine.has_work:
        collect(events, engine.step())
        for sequence in [sequence for sequence in engine._scheduler.running if sequence.num_computed]:
            num_steps[sequence] += 1
            if num_steps[sequence] == patience:
                engine._scheduler._preempt(sequence)
    assert {sequence.request.id for sequence, count in num_steps.items() if count >= patience} == {str(kind) for kind in range(len(KINDS))}
    assert engine._scheduler.num_preemptions > len(KINDS)
    assert [kind for kind in range(len(KINDS)) if not Answer.of(events[str(kind)]).agrees(alone[kind])] == []
    assert_nothing_is_kept(engine)


def collect(events: dict[str, list[Event]], new: list[tuple[str, Event]]) -> None:
    for name, event in new:
        events.setdefault(name, []).append(event)


@pytest.mark.parametrize("ending", ["cancelled", "cancelled while the model runs", "late", "failed"])
@pytest.mark.parametrize("kind", range(len(KINDS)))
@pytest.mark.parametrize("after_steps", [0, 1, 3])
def test_every_kind_can_end_early(kind: int, after_steps: int, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    engine = tiny_engine(MODEL, max_tokens_per_step=4, clock=lambda: now[0])
    engine.add(of_kind(kind, "r", deadline_s=10.0))
    for _ in range(after_steps):
        assert not any(isinstance(event, Finished | Failed) for _, event in engine.step())
    run = engine._runner.run
    events: list[tuple[str, Event]] = []
    if ending == "cancelled":
        assert engine.cancel("r")
    elif ending == "cancelled while the model runs":
        monkeypatch.setattr(engine._runner, "run", lambda plan: (engine.cancel("r"), run(plan))[1])
        events = engine.step()
    elif ending == "late":
        now[0] = 10.0
        events = engine.step()
    else:
        monkeypatch.setattr(engine._runner, "run", lambda plan: (run(plan), 1 / 0))
        events = engine.step()
    codes = [event.code for _, event in events if isinstance(event, Failed)]
    assert codes == {"late": ["deadline_exceeded"], "failed": ["internal_error"]}.get(ending, [])
    assert not engine.has_work and len(events) == len(codes)
    assert_nothing_is_kept(engine)


ACTIONS = st.lists(st.tuples(st.sampled_from(["add", "add", "step", "step", "cancel", "fault", "wait"]), st.integers(0, 10**6)), max_size=40)


@settings(max_examples=60, deadline=None)
@given(ACTIONS)
def test_every_request_ends_with_exactly_one_terminal_event(actions: list[tuple[str, int]]) -> None:
    """Random arrivals of all kinds, cancels, faults and deadlines; a cancelled request ends without an event, since nobody listens any more."""
    now = [0.0]
    engine = tiny_engine(MODEL, kv_cache_tokens=48, max_tokens_per_step=6, max_num_waiting=5, clock=lambda: now[0])
    accepted: list[Request] = []
    cancelled: set[str] = set()
    events: dict[str, list[Event]] = {}
    run = engine._runner.run
    for action, number in actions:
        if action == "add":
            _try_to_add(engine, accepted, number, now[0])
        elif action == "cancel" and accepted:
            name = accepted[number % len(accepted)].id
            if engine.cancel(name):
                cancelled.add(name)
        elif action == "wait":
            now[0] += 1.0
        else:
            engine._runner.run = (lambda plan: (run(plan), 1 / 0)[1]) if action == "fault" else run  # type: ignore[method-assign, assignment]
            collect(events, engine.step())
    engine._runner.run = run  # type: ignore[method-assign]
    for name, rest in run_dry(engine).items():
        events.setdefault(name, []).extend(rest)
    for asked in accepted:
        _check_ending(asked, events.get(asked.id, []), asked.id in cancelled)
    assert_nothing_is_kept(engine)


def _try_to_add(engine: Engine, accepted: list[Request], number: int, now: float) -> None:
    kind = number % len(KINDS)
    prompt = [number % 7, *PROMPT][: 1 + number % 20]
    asked = of_kind(kind, str(len(accepted)), prompt, deadline_s=now + 1.5 if number % 5 == 0 else None)
    try:
        engine.add(asked)
        accepted.append(asked)
    except EngineOverloadedError:
        pass


def _check_ending(asked: Request, events: list[Event], is_cancelled: bool) -> None:
    assert num_terminal(events) == (0 if is_cancelled else 1)
    answers = [event for event in events if isinstance(event, LabelScoresReady | HiddenStatesReady)]
    if is_cancelled or isinstance(events[-1], Failed):
        assert answers == []
        return
    last = events[-1]
    assert isinstance(last, Finished)
    if isinstance(asked.task, LabelScores | HiddenStates):
        assert len(answers) == 1 and len(events) == 2
        assert last.usage == Usage(len(asked.prompt_ids), 0, last.usage.cached_tokens)
    else:
        assert answers == [] and sum(isinstance(event, Delta) and event.finish_reason is not None for event in events) == asked.num_choices
    assert 0 <= last.usage.cached_tokens < len(asked.prompt_ids)
