"""Requests with different adapters and with none in one engine: each as if alone, none sharing a prefix, and adapters kept while they are used."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from gpu_backend.adapters.content import read_content
from gpu_backend.core import AdapterError, AdapterNotFoundError, Delta, EngineOverloadedError, Event, Failed, Finished, Request, SamplingParams, TokenLogprob
from gpu_backend.decoding.reference import full_logits, generate_greedily
from gpu_backend.engine.engine import Engine
from gpu_backend.models.causal_lm.model import CausalLM
from lora_support import content_of, engine_with_adapters, merge, random_adapter, store_content, tensors_of
from support import run_dry, text_of, tiny_engine, tiny_model

MODEL = tiny_model()
CONFIG = MODEL.config
PROMPTS = [[1, 2, 3], [5] * 21, [7, 8], [9, 10, 11, 12, 13, 14, 15], [20], [30, 31, 32, 33]]


def request(name: str, prompt: list[int], adapter: str | None, **changes: Any) -> Request:
    return Request(id=name, prompt_ids=tuple(prompt), task=SamplingParams(max_tokens=8, temperature=0.0), adapter=adapter, **changes)


def answer(engine: Engine, prompt: list[int], adapter: str | None) -> str:
    engine.add(request("r", prompt, adapter))
    return text_of(run_dry(engine)["r"])


def cached_tokens(events: list[Event]) -> int:
    assert isinstance(events[-1], Finished)
    return events[-1].usage.cached_tokens


def merged(root: Path, adapter_id: str, scale: float = 2.0) -> CausalLM:
    model = tiny_model()
    merge(model, read_content(root, adapter_id), lambda module: scale)
    return model


@pytest.fixture
def adapters(tmp_path: Path) -> list[str | None]:
    """Three of different rank, reach and layers, and none."""
    return [
        random_adapter(tmp_path, CONFIG, seed=1, rank=3),
        None,
        random_adapter(tmp_path, CONFIG, seed=2, rank=40, names=("q_proj", "v_proj"), layers=(0, 2)),
        random_adapter(tmp_path, CONFIG, seed=3, rank=16, names=("o_proj", "up_proj", "down_proj")),
    ]


def test_unmerged_equals_merged(tmp_path: Path, adapters: list[str | None]) -> None:
    """Every adapter's first token distribution and greedy text, against the update added to the weights."""
    for adapter in adapters:
        slow = MODEL if adapter is None else merged(tmp_path, adapter)
        for prompt in PROMPTS:
            engine = engine_with_adapters(MODEL, tmp_path, max_tokens_per_step=64)
            engine.add(request("r", prompt, adapter))
            (row,) = engine._runner.run(engine._scheduler.schedule())
            assert row.logits_V is not None
            assert (row.logits_V - full_logits(slow, prompt)[-1]).abs().max() <= 1e-3
        assert answer(engine_with_adapters(MODEL, tmp_path), PROMPTS[1], adapter) == bytes(generate_greedily(slow, PROMPTS[1], 8)).decode("utf-8", "replace")


def test_mixed_equals_alone(tmp_path: Path, adapters: list[str | None]) -> None:
    """Long prompts are cut to what a step has left, so stretches of prompts and decoding rows of all adapters meet in one batch."""
    prompts = {str(index): (PROMPTS[index % 6], adapters[index % 4]) for index in range(12)}
    alone = {name: answer(engine_with_adapters(MODEL, tmp_path), *question) for name, question in prompts.items()}
    engine = engine_with_adapters(MODEL, tmp_path, max_num_sequences=8, max_tokens_per_step=12)
    for name, question in prompts.items():
        engine.add(request(name, *question))
    events = run_dry(engine)
    assert {name: text_of(events[name]) for name in prompts} == alone
    assert len({alone[str(index)] for index in (1, 7)}) == 2, "two adapters must not answer alike, or nothing is tested"


def test_in_a_batch_of_one_shape_other_adapters_change_no_bit(tmp_path: Path, adapters: list[str | None]) -> None:
    """In float32 the model's own products may round by the shape of the batch, so the same prompts run again with only one of the adapters, or none."""

    def run(chosen: list[str | None]) -> list[list[TokenLogprob]]:
        engine = engine_with_adapters(MODEL, tmp_path)
        for index, adapter in enumerate(chosen):
            sampling = SamplingParams(max_tokens=8, temperature=0.0, logprobs=True, top_logprobs=5)
            engine.add(Request(id=str(index), prompt_ids=tuple(PROMPTS[index]), task=sampling, adapter=adapter))
        events = run_dry(engine)
        return [[item for event in events[str(index)] if isinstance(event, Delta) for item in event.logprobs] for index in range(len(chosen))]

    mixed = run(adapters)
    for index, adapter in enumerate(adapters):
        others_without: list[str | None] = [None] * len(adapters)
        others_without[index] = adapter
        assert run(others_without)[index] == mixed[index]


def test_an_adapter_with_zero_b_equals_none(tmp_path: Path) -> None:
    tensors = tensors_of(CONFIG)
    zero = store_content(tmp_path, content_of({name: tensor * (0 if "lora_B" in name else 1) for name, tensor in tensors.items()}))
    for prompt in PROMPTS:
        assert answer(engine_with_adapters(MODEL, tmp_path), prompt, zero) == answer(engine_with_adapters(MODEL, tmp_path), prompt, None)


def test_preempted_requests_keep_their_adapter(tmp_path: Path, adapters: list[str | None]) -> None:
    engine = engine_with_adapters(MODEL, tmp_path, kv_cache_tokens=40)
    for index in range(4):
        engine.add(request(str(index), PROMPTS[index], adapters[index]))
    events = run_dry(engine)
    assert engine._scheduler.num_preemptions > 0
    for index in range(4):
        assert text_of(events[str(index)]) == answer(engine_with_adapters(MODEL, tmp_path), PROMPTS[index], adapters[index])


def test_adapters_never_share_a_prefix(tmp_path: Path, adapters: list[str | None]) -> None:
    engine = engine_with_adapters(MODEL, tmp_path)
    for adapter in adapters:
        for expected in (0, 16):
            engine.add(request("r", [5] * 20, adapter))
            assert cached_tokens(run_dry(engine)["r"]) == expected


def test_a_salt_cannot_pass_for_an_adapter() -> None:
    """The two are joined in one place, and no salt without an adapter gives what a salt with one gives."""
    name = "ab" * 32
    salts = [
        Request(id="r", prompt_ids=(1,), task=SamplingParams(max_tokens=1), cache_salt=salt, adapter=adapter).prefix_salt
        for salt, adapter in ((b"s", None), (b"s", name), (name.encode() + b"\0s", None), (b"\0s", name), (b"", name), (b"", None), (b"\0", None))
    ]
    assert len(set(salts)) == len(salts)


def test_an_adapter_stays_while_its_request_lives_and_no_longer(tmp_path: Path) -> None:
    one, two = (random_adapter(tmp_path, CONFIG, seed=seed) for seed in (1, 2))
    probe = engine_with_adapters(MODEL, tmp_path)
    probe.pin_adapter(one)
    num_bytes = probe._runner.adapters.num_bytes  # type: ignore[union-attr]
    engine = engine_with_adapters(MODEL, tmp_path, adapter_cache_bytes=num_bytes + num_bytes // 2)
    engine.add(request("first", PROMPTS[0], one))
    with pytest.raises(EngineOverloadedError) as caught:
        engine.add(request("second", PROMPTS[0], two))
    assert 1 <= caught.value.retry_after_s <= 60
    run_dry(engine)
    assert answer(engine, PROMPTS[0], two) == answer(probe, PROMPTS[0], two)
    assert answer(engine, PROMPTS[0], one) == answer(probe, PROMPTS[0], one)


@pytest.mark.parametrize("ending", ["finished", "cancelled", "failed", "expired", "refused", "duplicate"])
def test_every_ending_lets_the_adapter_go(tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_with_adapters(MODEL, tmp_path, max_num_waiting=2)
    adapter = random_adapter(tmp_path, CONFIG)
    if ending == "refused":
        with pytest.raises(EngineOverloadedError):
            engine.add(request("r", [1], adapter, num_choices=3))
    else:
        engine.add(request("r", [1], adapter, deadline_s=0.0 if ending == "expired" else None))
    if ending == "duplicate":
        with pytest.raises(AssertionError, match="already live"):
            engine.add(request("r", [1], adapter))
    if ending == "cancelled":
        engine.step()
        engine.cancel("r")
    if ending == "failed":
        monkeypatch.setattr(engine._runner, "run", lambda plan: 1 / 0)
    events = run_dry(engine).get("r", [])
    assert isinstance(events[-1], Failed) if ending in ("failed", "expired") else True
    assert [resident.num_pins for resident in engine._adapters._resident.values()] == [0]  # type: ignore[union-attr]


def test_loading_does_not_stop_running_streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_with_adapters(MODEL, tmp_path)
    adapter = random_adapter(tmp_path, CONFIG)
    is_loading, may_go_on = threading.Event(), threading.Event()
    load = engine._adapters._load  # type: ignore[union-attr]

    def slow(adapter_id: str) -> Any:
        is_loading.set()
        assert may_go_on.wait(10)
        return load(adapter_id)

    monkeypatch.setattr(engine._adapters, "_load", slow)
    engine.add(request("running", PROMPTS[0], None))
    adding = threading.Thread(target=engine.add, args=(request("late", PROMPTS[0], adapter),))
    adding.start()
    assert is_loading.wait(10)
    assert isinstance(run_dry(engine)["running"][-1], Finished)
    may_go_on.set()
    adding.join(10)
    assert isinstance(run_dry(engine)["late"][-1], Finished)


def test_unknown_and_broken_adapters_are_refused_before_they_queue(tmp_path: Path) -> None:
    engine = engine_with_adapters(MODEL, tmp_path)
    with pytest.raises(AdapterNotFoundError):
        engine.add(request("r", [1], "0" * 64))
    broken = store_content(tmp_path, content_of(tensors_of(CONFIG), use_dora=True))
    with pytest.raises(AdapterError, match="use_dora"):
        engine.add(request("r", [1], broken))
    with pytest.raises(AdapterNotFoundError):
        tiny_engine(MODEL).add(request("r", [1], broken))
    assert not engine.has_work
