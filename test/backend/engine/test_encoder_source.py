"""An encoder-decoder through the engine equals the plain twin; a source is encoded once and its states go with the request."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch
from slow_decoder import slow_answer, slow_decoder
from toy_translator import ToyTranslator

from gpu_backend.core import Event, Failed, Finished, LabelScores, LabelScoresReady, Usage
from gpu_backend.engine.engine import Engine
from gpu_backend.layers.conditioning import EncoderSource
from support import request, run_dry, text_of, tiny_engine

SOURCES = [(7, 3, 50, 21), (7, 3, 50, 22), (90,)]
TARGET = [1, 44, 13, 60, 2, 9, 77, 31, 8]


@pytest.fixture
def model() -> ToyTranslator:
    return ToyTranslator()


def expected(model: ToyTranslator, source: tuple[int, ...], prompt: list[int] = TARGET, max_tokens: int = 8) -> str:
    return slow_answer(model.weights, prompt, max_tokens, look=model.slow_look(list(source)))


def translate(engine: Engine, name: str, source: tuple[int, ...], prompt: list[int] = TARGET, **asked: Any) -> None:
    engine.add(request(name, prompt, conditioning=EncoderSource(source), **asked))


@pytest.mark.parametrize("tokens_per_step", [4, 16])
def test_translations_in_one_batch_equal_the_plain_twin(model: ToyTranslator, tokens_per_step: int) -> None:
    engine = tiny_engine(model, max_tokens_per_step=tokens_per_step)
    for index, source in enumerate(SOURCES):
        translate(engine, str(index), source, TARGET[: 9 - 4 * index])
    engine.add(request("no source", TARGET))
    events = run_dry(engine)
    texts = [text_of(events[str(index)]) for index in range(3)]
    assert texts == [expected(model, source, TARGET[: 9 - 4 * index]) for index, source in enumerate(SOURCES)]
    assert texts[0] != texts[1], "the source makes no difference, so this test shows nothing"
    assert text_of(events["no source"]) == slow_answer(model.weights, TARGET, 8)
    assert events["0"][-1] == Finished(Usage(prompt_tokens=9, completion_tokens=8, cached_tokens=0))


def test_labels_of_a_translation(model: ToyTranslator) -> None:
    engine = tiny_engine(model)
    translate(engine, "r", SOURCES[0], task=LabelScores((4, 5)))
    scores, _ = run_dry(engine)["r"]
    logits_V = slow_decoder(model.weights, TARGET, look=model.slow_look(list(SOURCES[0])))[1][-1]
    assert isinstance(scores, LabelScoresReady) and scores.logits == pytest.approx(logits_V[4:6].tolist(), abs=1e-4)


def test_the_source_is_part_of_what_a_cached_prefix_is_known_by(model: ToyTranslator) -> None:
    """The decoder's keys and values depend on the source from the second layer on."""
    engine = tiny_engine(model)
    for index, (source, cached_tokens) in enumerate([(SOURCES[0], 0), (SOURCES[1], 0), (SOURCES[0], 8)]):
        translate(engine, str(index), source)
        events = run_dry(engine)[str(index)]
        assert events[-1] == Finished(Usage(9, 8, cached_tokens))
        assert text_of(events) == expected(model, source)


def test_choices_and_preempted_sequences_encode_once(model: ToyTranslator) -> None:
    engine = tiny_engine(model, kv_cache_tokens=48)
    translate(engine, "old", SOURCES[0], max_tokens=30)
    translate(engine, "young", SOURCES[1], max_tokens=16, num_choices=2)
    events = run_dry(engine)
    assert engine._scheduler.num_preemptions > 0
    assert model.num_encoded == 2
    assert text_of(events["old"]) == expected(model, SOURCES[0], max_tokens=30)
    assert [text_of(events["young"], choice) for choice in range(2)] == [expected(model, SOURCES[1], max_tokens=16)] * 2


@pytest.mark.parametrize("ending", ["finished", "cancelled", "late", "failed"])
def test_states_live_as_long_as_their_request(model: ToyTranslator, ending: str) -> None:
    now = [0.0]
    engine = tiny_engine(model, clock=lambda: now[0])
    translate(engine, "waits", SOURCES[1])
    engine.cancel("waits")
    translate(engine, "r", SOURCES[0], max_tokens=20, deadline_s=10.0)
    engine.step()
    states = weakref.ref(engine._runner._encoded["r"])
    engine.step()
    gc.collect()
    assert states() is not None and model.num_encoded == 1
    if ending == "cancelled":
        engine.cancel("r")
    now[0] = 10.0 if ending == "late" else 1.0
    if ending == "failed":
        model.compute_logits = lambda x: 1 / 0
    run_dry(engine)
    gc.collect()
    assert states() is None and engine._runner._encoded == {}


def test_an_encoder_that_fails_ends_the_requests_of_its_step_only(model: ToyTranslator, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = tiny_engine(model)
    translate(engine, "unlucky", SOURCES[0])
    with monkeypatch.context() as patch:
        patch.setattr(model, "encode", lambda sources: [torch.zeros(1)] * 0)
        events: dict[str, list[Event]] = run_dry(engine)
    assert events == {"unlucky": [Failed("internal_error", "The model failed while it computed this answer.")]}
    translate(engine, "lucky", SOURCES[0])
    assert text_of(run_dry(engine)["lucky"]) == expected(model, SOURCES[0])
    assert engine.num_free_blocks == engine.config.num_kv_blocks
