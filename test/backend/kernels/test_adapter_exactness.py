"""Served bfloat16 with adapters is exact in the same sense as without: company, cutting, cache and preemption do not change one bit of an answer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gpu_backend.core import Delta, Event, Request, SamplingParams, TokenLogprob
from gpu_backend.engine.engine import Engine
from gpu_backend.kernels.native import load_native
from gpu_backend.layers.linear import can_pack
from gpu_backend.models.causal_lm.model import CausalLM
from lora_support import engine_with_adapters, random_adapter
from support import run_dry, tiny_engine, tiny_model

pytestmark = pytest.mark.skipif(not can_pack(torch.bfloat16, torch.device("cpu")), reason="this processor has no bfloat16 instructions")
PROMPTS = ([5, 9, 33, 2, 71, 8, 8, 40, 12, 13, 90, 1, 66, 7, 21, 30, 31, 50, 4, 4, 17, 60, 3], [7] * 11, [1, 2], [40, 41, 42, 43, 44, 45, 46, 47, 48])


@pytest.fixture(scope="module")
def model(models_dir: Path) -> CausalLM:
    native = load_native(models_dir / ".native")
    assert native is not None
    return tiny_model(dtype=torch.bfloat16, native=native, hidden_size=64, head_dim=32, num_attention_heads=4, num_key_value_heads=2, intermediate_size=96)


@pytest.fixture
def adapters(model: CausalLM, tmp_path: Path) -> list[str | None]:
    return [
        random_adapter(tmp_path, model.config, seed=1, rank=3),
        None,
        random_adapter(tmp_path, model.config, seed=2, rank=40, names=("q_proj", "v_proj", "gate_proj"), layers=(0, 2)),
        random_adapter(tmp_path, model.config, seed=3, rank=16, names=("o_proj", "up_proj", "down_proj")),
    ]


def ask(engine: Engine, name: str, prompt: list[int], adapter: str | None, num_choices: int = 1, max_tokens: int = 16) -> None:
    sampling = SamplingParams(max_tokens=max_tokens, temperature=0.9, seed=4, logprobs=True, top_logprobs=5)
    engine.add(Request(id=name, prompt_ids=tuple(prompt), task=sampling, adapter=adapter, num_choices=num_choices))


def logprobs(events: list[Event], choice: int = 0) -> list[TokenLogprob]:
    return [item for event in events if isinstance(event, Delta) and event.choice == choice for item in event.logprobs]


def alone(model: CausalLM, root: Path, prompt: list[int], adapter: str | None) -> list[TokenLogprob]:
    engine = tiny_engine(model, max_tokens_per_step=64) if adapter is None else engine_with_adapters(model, root, max_tokens_per_step=64)
    ask(engine, "r", prompt, adapter)
    return logprobs(run_dry(engine)["r"])


def test_three_adapters_and_none_in_one_batch_answer_as_alone_bit_for_bit(model: CausalLM, tmp_path: Path, adapters: list[str | None]) -> None:
    """12 requests, 8 at a time, 9 or 20 tokens in a step: decoding rows and stretches of prompts of all four meet. Then again, from the cache."""
    questions = {str(index): (PROMPTS[index % 4], adapters[(index + index // 4) % 4]) for index in range(12)}
    expected = {name: alone(model, tmp_path, *question) for name, question in questions.items()}
    assert len({str(answer) for answer in expected.values()}) == 12
    for budget in (9, 20):
        engine = engine_with_adapters(model, tmp_path, max_num_sequences=8, max_tokens_per_step=budget, kv_cache_tokens=512)
        for _ in range(2):
            for name, question in questions.items():
                ask(engine, name, *question)
            events = run_dry(engine)
            assert {name: logprobs(events[name]) for name in questions} == expected


def test_cut_cached_and_preempted_requests_with_adapters_are_bit_for_bit_the_same(model: CausalLM, tmp_path: Path, adapters: list[str | None]) -> None:
    adapter = adapters[2]
    expected = alone(model, tmp_path, PROMPTS[0], adapter)
    cut = engine_with_adapters(model, tmp_path, max_tokens_per_step=4)
    for _ in range(2):
        ask(cut, "r", PROMPTS[0], adapter)
        assert logprobs(run_dry(cut)["r"]) == expected
    tight = engine_with_adapters(model, tmp_path, kv_cache_tokens=64, reuses_prefixes=False)
    ask(tight, "old", [3] * 20, adapters[0], max_tokens=40)
    ask(tight, "r", PROMPTS[0], adapter)
    assert logprobs(run_dry(tight)["r"]) == expected
    assert tight._scheduler.num_preemptions > 0


def test_choices_of_one_request_with_an_adapter_agree_with_one(model: CausalLM, tmp_path: Path, adapters: list[str | None]) -> None:
    engine = engine_with_adapters(model, tmp_path)
    ask(engine, "r", PROMPTS[0], adapters[0], num_choices=3)
    assert logprobs(run_dry(engine)["r"]) == alone(model, tmp_path, PROMPTS[0], adapters[0])
