"""The embedded model as it is served, with small random adapters: a mixed batch answers as each request alone, and as PEFT's arithmetic says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from prometheus_client import CollectorRegistry

from gpu_backend.adapters.content import read_content
from gpu_backend.config import EngineConfig
from gpu_backend.core import Delta, Event, LabelScores, Request, SamplingParams, TokenLogprob
from gpu_backend.decoding.reference import full_logits
from gpu_backend.engine.engine import Engine
from gpu_backend.engine.metrics import EngineMetrics
from gpu_backend.engine.model_runner import ModelRunner
from gpu_backend.kernels.native import load_native
from gpu_backend.layers.linear import can_pack
from gpu_backend.models.causal_lm.model import CausalLM
from gpu_backend.models.causal_lm.weights import load_causal_lm
from gpu_backend.server.served_model import open_adapters
from gpu_backend.tokenizer import Tokenizer
from lora_support import merge, random_adapter
from support import run_dry

CPU = torch.device("cpu")
TEXTS = ("The capital of France is", "Once upon a time", "def add(a, b):\n    return", "Water boils at a temperature of about one hundred degrees, because" * 3)


@pytest.fixture(scope="module")
def model(embedded_folder: Path, models_dir: Path) -> CausalLM:
    is_packed = can_pack(torch.bfloat16, CPU)
    return load_causal_lm(
        embedded_folder, dtype=torch.bfloat16 if is_packed else torch.float32, device=CPU, native=load_native(models_dir / ".native") if is_packed else None
    )


def engine_of(model: CausalLM, tokenizer: Tokenizer, root: Path, **limits: int) -> Engine:
    config = EngineConfig(max_num_sequences=8, **limits)
    metrics = EngineMetrics(CollectorRegistry())
    return Engine("m", ModelRunner(model, config, open_adapters("m", model, root, config, metrics)), tokenizer, config, (), metrics)


def answers(events: list[Event]) -> list[TokenLogprob]:
    return [item for event in events if isinstance(event, Delta) for item in event.logprobs]


def test_a_mixed_batch_answers_as_each_request_alone(model: CausalLM, embedded_folder: Path, tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_file(embedded_folder / "tokenizer.json")
    adapters = [random_adapter(tmp_path, model.config, seed=1, rank=8, size=0.03), random_adapter(tmp_path, model.config, seed=2, rank=20, size=0.02), None]
    questions = [(text, adapters[index % 3]) for index, text in enumerate(TEXTS)]

    def run(chosen: list[int]) -> dict[int, list[TokenLogprob]]:
        engine = engine_of(model, tokenizer, tmp_path, max_tokens_per_step=24)
        for index in chosen:
            text, adapter = questions[index]
            sampling = SamplingParams(max_tokens=12, temperature=0.0, logprobs=True, top_logprobs=2)
            engine.add(Request(id=str(index), prompt_ids=tuple(tokenizer.encode_text(text)), task=sampling, adapter=adapter))
        events = run_dry(engine)
        return {index: answers(events[str(index)]) for index in chosen}

    together = run([0, 1, 2, 3])
    for index in together:
        alone = run([index])[index]
        if model.dtype == torch.bfloat16:
            assert together[index] == alone
        assert [item.token_id for item in together[index]] == [item.token_id for item in alone]
    questions[0] = (TEXTS[0], None)
    assert run([0])[0] != together[0], "the adapter must change the answer, or nothing is tested"


def test_the_served_update_is_as_exact_as_the_served_model(model: CausalLM, embedded_folder: Path, tmp_path: Path) -> None:
    """Next-token logits against W + alpha / rank * B A in float32, which is how PEFT merges; the error is at most half more than without an adapter."""
    tokenizer = Tokenizer.from_file(embedded_folder / "tokenizer.json")
    adapter = random_adapter(tmp_path, model.config, seed=1, rank=16, size=0.03)
    exact = load_causal_lm(embedded_folder, dtype=torch.float32, device=CPU)
    prompts = [tokenizer.encode_text(text) for text in TEXTS]
    errors, expected = [], []
    for chosen in (None, adapter):
        if chosen is not None:
            merge(exact, read_content(tmp_path, chosen), lambda module: 2.0)
        engine = engine_of(model, tokenizer, tmp_path)
        for index, prompt in enumerate(prompts):
            engine.add(Request(id=str(index), prompt_ids=tuple(prompt), task=LabelScores((0,)), adapter=chosen))
        rows = {row.sequence.request.id: row.logits_V for row in engine._runner.run(engine._scheduler.schedule())}
        expected.append(torch.stack([full_logits(exact, prompt)[-1] for prompt in prompts]))
        errors.append((torch.stack([rows[str(index)] for index in range(len(prompts))]) - expected[-1]).square().mean().sqrt())
    assert (expected[1] - expected[0]).square().mean().sqrt() > 1, "the adapter must change the logits, or nothing is tested"
    assert errors[1] < max(1.5 * errors[0], torch.tensor(1e-3))
