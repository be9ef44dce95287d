"""Hidden states equal the plain twin's, whatever way the prompt came into the cache."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from slow_decoder import slow_decoder
from toy_translator import ToyTranslator

from gpu_backend.core import Event, Finished, HiddenStates, HiddenStatesReady, Pooling, Usage
from gpu_backend.engine.engine import Engine
from support import request, run_dry, text_of, tiny_engine, tiny_model

WEIGHTS: dict[str, torch.Tensor] = {}
MODEL = tiny_model(recorded=WEIGHTS)
PROMPT = [5, 9, 33, 2, 71, 8, 8, 40, 12, 13, 90, 1, 66, 7, 21, 30, 31, 50, 4, 4, 17]
LAYERS = (2, 0, 3)
STREAM = slow_decoder(WEIGHTS, PROMPT)[0]
EXPECTED = {
    Pooling.LAST: torch.stack([STREAM[layer][-1] for layer in LAYERS]),
    Pooling.MEAN: torch.stack([STREAM[layer].double().mean(0) for layer in LAYERS]).float(),
}


def check(events: list[Event], pooling: Pooling, cached_tokens: int = 0) -> None:
    ready, finished = events
    assert isinstance(ready, HiddenStatesReady) and finished == Finished(Usage(len(PROMPT), 0, cached_tokens))
    assert (torch.tensor(ready.states) - EXPECTED[pooling]).abs().max() < 1e-4


def ask(engine: Engine, pooling: Pooling) -> None:
    engine.add(request("r", PROMPT, task=HiddenStates(LAYERS, pooling)))


@pytest.mark.parametrize("limits", [{}, {"max_tokens_per_step": 5}, {"max_tokens_per_step": 5, "reuses_prefixes": False}])
@pytest.mark.parametrize("pooling", Pooling)
def test_states_equal_the_plain_twin_whole_and_cut(pooling: Pooling, limits: dict[str, Any]) -> None:
    engine = tiny_engine(MODEL, **limits)
    engine.add(request("company", [3, 4]))
    ask(engine, pooling)
    check(run_dry(engine)["r"], pooling)


def test_a_model_that_adds_in_place_does_not_change_what_was_read() -> None:
    """Without a source the toy translator is the same decoder, and works in place."""
    engine = tiny_engine(ToyTranslator())
    ask(engine, Pooling.LAST)
    check(run_dry(engine)["r"], Pooling.LAST)


def test_a_cached_prefix_serves_the_last_position_but_not_a_mean() -> None:
    engine = tiny_engine(MODEL)
    engine.add(request("before", PROMPT))
    run_dry(engine)
    for pooling, cached_tokens in ((Pooling.MEAN, 0), (Pooling.MEAN, 0), (Pooling.LAST, 20)):
        ask(engine, pooling)
        check(run_dry(engine)["r"], pooling, cached_tokens)


def test_reading_an_inner_layer_leaves_a_cache_that_others_can_use() -> None:
    engine = tiny_engine(MODEL)
    engine.add(request("reader", PROMPT, task=HiddenStates((1,))))
    run_dry(engine)
    engine.add(request("writer", PROMPT))
    events = run_dry(engine)["writer"]
    assert events[-1] == Finished(Usage(21, 8, 20))
    alone = tiny_engine(MODEL)
    alone.add(request("writer", PROMPT))
    assert text_of(events) == text_of(run_dry(alone)["writer"])


@pytest.mark.parametrize("reuses_prefixes", [True, False])
@pytest.mark.parametrize("after_steps", [1, 2, 3, 4])
@pytest.mark.parametrize("pooling", Pooling)
def test_a_preempted_prompt_counts_every_position_once(pooling: Pooling, after_steps: int, reuses_prefixes: bool) -> None:
    """With reuse it finds some of its own blocks again, whose positions are summed already; without, all positions come a second time."""
    engine = tiny_engine(MODEL, max_tokens_per_step=5, reuses_prefixes=reuses_prefixes)
    ask(engine, pooling)
    for _ in range(after_steps):
        engine.step()
    engine._scheduler._preempt(engine._scheduler.running[0])
    check(run_dry(engine)["r"], pooling)
    assert engine._runner._hidden_states._sums == {}


def test_a_skipped_position_is_noticed_and_not_averaged_away() -> None:
    engine = tiny_engine(MODEL, max_tokens_per_step=5)
    ask(engine, Pooling.MEAN)
    engine.step()
    engine._runner.forget("r")
    (failed,) = run_dry(engine)["r"]
    assert failed.code == "internal_error"  # type: ignore[union-attr]


def test_a_cancelled_mean_is_forgotten() -> None:
    engine = tiny_engine(MODEL, max_tokens_per_step=5)
    ask(engine, Pooling.MEAN)
    engine.step()
    assert set(engine._runner._hidden_states._sums) == {"r"}
    engine.cancel("r")
    assert engine._runner._hidden_states._sums == {}
