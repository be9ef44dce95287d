"""Served bfloat16 is exact in one sense: batch, cutting, cache and preemption do not change one bit of an answer's log-probabilities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from gpu_backend.core import Delta, HiddenStates, HiddenStatesReady, LabelScores, LabelScoresReady, Pooling, TokenLogprob
from gpu_backend.engine.engine import Engine
from gpu_backend.kernels.build import is_supported
from gpu_backend.kernels.native import load_native
from gpu_backend.layers.conditioning import KVPrefix
from gpu_backend.models.causal_lm.model import CausalLM
from graph_support import Again
from support import request, run_dry, tiny_engine, tiny_model

pytestmark = pytest.mark.skipif(not is_supported(), reason="this processor lacks the instructions that the C operators are written for")
PROMPT = [5, 9, 33, 2, 71, 8, 8, 40, 12, 13, 90, 1, 66, 7, 21, 30, 31, 50, 4, 4, 17, 60, 3]


@pytest.fixture(scope="module")
def model(models_dir: Path) -> CausalLM:
    native = load_native(models_dir / ".native")
    assert native is not None
    built = tiny_model(dtype=torch.bfloat16, native=native, hidden_size=64, head_dim=32, num_attention_heads=4, num_key_value_heads=2, intermediate_size=96)
    assert built.fused is not None
    return built


def answer(engine: Engine, name: str) -> list[TokenLogprob]:
    deltas = [event for event in run_dry(engine)[name] if isinstance(event, Delta)]
    return [item for delta in deltas for item in delta.logprobs]


def ask(engine: Engine, name: str, prompt: list[int] = PROMPT, **sampling: Any) -> None:
    engine.add(request(name, prompt, **{"max_tokens": 20, "logprobs": True, "top_logprobs": 5, "temperature": 0.9, "seed": 4, **sampling}))


def test_alone_in_company_cut_cached_and_preempted_are_bit_for_bit_the_same(model: CausalLM) -> None:
    alone = tiny_engine(model, max_tokens_per_step=64)
    ask(alone, "r")
    expected = answer(alone, "r")
    assert len(expected) == 20

    ask(alone, "again")
    assert answer(alone, "again") == expected, "a prefix from the cache changed the answer"

    cut = tiny_engine(model, max_tokens_per_step=4)
    ask(cut, "r")
    assert answer(cut, "r") == expected, "cutting the prompt changed the answer"

    crowd = tiny_engine(model, max_tokens_per_step=16)
    for index in range(3):
        ask(crowd, str(index), [index + 1] * (7 + 11 * index), seed=index)
    ask(crowd, "r")
    assert answer(crowd, "r") == expected, "company changed the answer"

    graphs = tiny_engine(model, max_tokens_per_step=16, recorder=(recorder := Again()))
    for index in range(2):
        ask(graphs, str(index), [index + 1] * (7 + 11 * index), seed=index)
    ask(graphs, "r")
    assert answer(graphs, "r") == expected and recorder.num_replayed > 10, "rows and columns that fill a graph up changed the answer"

    tight = tiny_engine(model, kv_cache_tokens=64, reuses_prefixes=False)
    ask(tight, "old", [3] * 20, max_tokens=40)
    ask(tight, "r")
    assert answer(tight, "r") == expected, "preemption changed the answer"
    assert tight._scheduler.num_preemptions > 0


@pytest.mark.parametrize("conditioning", [None, KVPrefix(*torch.randn((2, 3, 6, 2, 32), generator=torch.Generator().manual_seed(0)))])
@pytest.mark.parametrize("task", [LabelScores((3, 80)), HiddenStates((0, 1, 3)), HiddenStates((2,), Pooling.MEAN)])
def test_readings_are_bit_for_bit_the_same_too(model: CausalLM, task: LabelScores | HiddenStates, conditioning: KVPrefix | None) -> None:
    def read(company: int = 0, **limits: Any) -> LabelScoresReady | HiddenStatesReady:
        engine = tiny_engine(model, **limits)
        for index in range(company):
            ask(engine, str(index), [index + 1] * (7 + 11 * index), seed=index)
        engine.add(request("before", PROMPT[:12], task=task, conditioning=conditioning))
        engine.add(request("r", PROMPT, task=task, conditioning=conditioning))
        answer, _ = run_dry(engine)["r"]
        assert isinstance(answer, LabelScoresReady | HiddenStatesReady)
        return answer

    whole = read(max_tokens_per_step=64, reuses_prefixes=False)
    assert read(max_tokens_per_step=4, reuses_prefixes=False) == whole, "cutting the prompt changed the answer"
    assert read(max_num_sequences=1, max_tokens_per_step=64) == whole, "a prefix from the cache changed the answer"
    assert read(company=3) == whole, "company changed the answer"
