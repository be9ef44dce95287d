"""Prompts whose label is read at an inner layer: they answer what the gate reads, leave nothing behind that others could find, and change no neighbour."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from slow_decoder import slow_decoder
from torch import Tensor
from torch.nn import functional

from gpu_backend.core import Event, Finished, HiddenStates, HiddenStatesReady, LabelScores, LabelScoresReady, Usage
from gpu_backend.engine.engine import Engine
from support import request, run_dry, text_of, tiny_engine, tiny_model

WEIGHTS: dict[str, Tensor] = {}
MODEL = tiny_model(recorded=WEIGHTS)
PROMPT = [5, 9, 33, 2, 71, 8, 8, 40, 12, 13, 90, 1, 66, 7, 21, 30, 31, 50, 4, 4, 17]
LABELS = (5, 6)
DIRECTION = torch.randn(32, generator=torch.Generator().manual_seed(1))
DIFFERENCE = float(slow_decoder(WEIGHTS, PROMPT)[0][1][-1] @ DIRECTION)


@dataclass(eq=False)
class Gate:
    """Sure where what it reads is at least so far from 0."""

    least: float = 0.0
    layer: int = 1
    reads: list[int] = field(default_factory=list)

    def read(self, x_KH: Tensor) -> list[float | None]:
        self.reads.append(len(x_KH))
        return [value if abs(value) >= self.least else None for value in (x_KH @ DIRECTION).tolist()]


def ask(engine: Engine, gate: Gate | None, name: str = "r", prompt: list[int] = PROMPT, num_shared: int = 0, **more: Any) -> None:
    engine.add(request(name, prompt, task=LabelScores(LABELS, gate, num_shared), **more))


def scores(events: list[Event]) -> LabelScoresReady:
    ready, finished = events
    assert isinstance(ready, LabelScoresReady) and isinstance(finished, Finished)
    return ready


def answer(engine: Engine, gate: Gate | None, **more: Any) -> LabelScoresReady:
    ask(engine, gate, **more)
    return scores(run_dry(engine)["r"])


@pytest.fixture
def rows_by_layer(monkeypatch: pytest.MonkeyPatch) -> dict[int, int]:
    """How many rows each layer computes."""
    counts = dict.fromkeys(range(3), 0)
    run_layers = MODEL.run_layers

    def counted(x: Tensor, start: int, stop: int, *rest: Any) -> Tensor:
        for layer in range(start, stop):
            counts[layer] += len(x)
        return run_layers(x, start, stop, *rest)

    monkeypatch.setattr(MODEL, "run_layers", counted)
    return counts


def test_a_gate_that_is_never_sure_changes_nothing() -> None:
    gate = Gate(least=1e9)
    assert answer(tiny_engine(MODEL), gate) == answer(tiny_engine(MODEL), None)
    assert gate.reads == [1]


@pytest.mark.parametrize("limits", [{}, {"max_tokens_per_step": 5}, {"max_tokens_per_step": 5, "reuses_prefixes": False}, {"max_tokens_per_step": 20}])
def test_a_sure_gate_answers_what_it_reads_whole_and_cut(limits: dict[str, Any]) -> None:
    """With 20 tokens a step the last one runs as a decoding row does."""
    ready = answer(tiny_engine(MODEL, **limits), Gate())
    assert ready.exit_layer == 1
    assert ready.logits == pytest.approx((DIFFERENCE / 2, -DIFFERENCE / 2), abs=1e-4)
    assert ready.logprobs == pytest.approx(functional.logsigmoid(torch.tensor([DIFFERENCE, -DIFFERENCE])).tolist(), abs=1e-4)


def test_the_layers_above_compute_only_what_is_shared(rows_by_layer: dict[int, int]) -> None:
    answer(tiny_engine(MODEL, max_tokens_per_step=64), Gate(), num_shared=9)
    assert rows_by_layer == {0: 21, 1: 9, 2: 9}


def test_where_nothing_is_shared_the_layers_above_do_not_run(rows_by_layer: dict[int, int]) -> None:
    answer(tiny_engine(MODEL, max_tokens_per_step=64), Gate())
    assert rows_by_layer == {0: 21, 1: 0, 2: 0}


@pytest.mark.parametrize(("num_shared", "num_cached"), [(0, 0), (3, 0), (9, 8), (100, 20)])
def test_only_what_all_layers_saw_is_found_by_others(num_shared: int, num_cached: int) -> None:
    engine = tiny_engine(MODEL, max_tokens_per_step=64)
    answer(engine, Gate(), num_shared=num_shared)
    engine.add(request("writer", PROMPT))
    events = run_dry(engine)["writer"]
    assert events[-1] == Finished(Usage(21, 8, num_cached))
    alone = tiny_engine(MODEL)
    alone.add(request("writer", PROMPT))
    assert text_of(events) == text_of(run_dry(alone)["writer"])
    assert engine.num_free_blocks == engine.config.num_kv_blocks


def test_what_was_computed_in_earlier_steps_is_found() -> None:
    """A gate reads the end of a prompt: what came in the steps before has gone through all layers already."""
    engine = tiny_engine(MODEL, max_tokens_per_step=8)
    answer(engine, Gate())
    ask(engine, None)
    assert run_dry(engine)["r"][-1] == Finished(Usage(21, 0, 16))


def test_neighbours_answer_as_they_do_alone() -> None:
    """In one step: two that leave, one that is not sure, one without a gate, one that reads layers on both sides of the exit, one that decodes."""
    states = HiddenStates((0, 1, 2, 3))
    engine = tiny_engine(MODEL, max_tokens_per_step=200, reuses_prefixes=False)
    engine.add(request("writer", [3, 4]))
    begun = engine.step()
    ask(engine, Gate(), "left")
    ask(engine, Gate(layer=2), "left later", num_shared=5)
    ask(engine, Gate(least=1e9), "unsure", PROMPT[:17])
    ask(engine, None, "plain", PROMPT[:13])
    engine.add(request("reader", PROMPT[:9], task=states))
    events = run_dry(engine)

    def alone(name: str, prompt: list[int], **more: Any) -> list[Event]:
        own = tiny_engine(MODEL, reuses_prefixes=False)
        own.add(request(name, prompt, **more))
        return run_dry(own)[name]

    assert scores(events["left"]).exit_layer == 1 and scores(events["left later"]).exit_layer == 2
    for name, length in (("unsure", 17), ("plain", 13)):
        (expected, _) = alone(name, PROMPT[:length], task=LabelScores(LABELS))
        assert isinstance(expected, LabelScoresReady)
        assert scores(events[name]).logits == pytest.approx(expected.logits, abs=1e-5) and scores(events[name]).exit_layer is None
    assert text_of([event for _, event in begun] + events["writer"]) == text_of(alone("writer", [3, 4]))
    read, expected_read = events["reader"][0], alone("reader", PROMPT[:9], task=states)[0]
    assert isinstance(read, HiddenStatesReady) and isinstance(expected_read, HiddenStatesReady)
    assert (torch.tensor(read.states) - torch.tensor(expected_read.states)).abs().max() < 1e-5


def test_prompts_of_one_gate_are_read_together() -> None:
    gate = Gate()
    engine = tiny_engine(MODEL, max_tokens_per_step=200)
    for index in range(3):
        ask(engine, gate, str(index), [index, *PROMPT])
    run_dry(engine)
    assert gate.reads == [3]


def test_a_gate_needs_two_labels() -> None:
    with pytest.raises(ValueError, match="two labels"):
        LabelScores((1, 2, 3), Gate())
    with pytest.raises(ValueError, match="num_shared"):
        LabelScores((1, 2), Gate(), -1)
