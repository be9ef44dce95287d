"""The same on a graphics card, with real graphs. Nobody has run this yet: where it was written there was no card."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from gpu_backend.engine.decode_graphs import DecodeGraphs
from support import request, run_dry, text_of, tiny_engine, tiny_model

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and torch built for it")]
PROMPTS = [[1, 2, 3], [5] * 21, [7, 8], [9, 10, 11, 12, 13, 14, 15], [20], [30, 31, 32, 33]]


def engine_of(dtype: torch.dtype = torch.float32, **limits: Any) -> Any:
    return tiny_engine(tiny_model(dtype=dtype, device="cuda"), **limits)


def texts(engine: Any, indices: list[int], max_tokens: int = 20) -> list[str]:
    for index in indices:
        engine.add(request(str(index), PROMPTS[index], max_tokens=max_tokens))
    events = run_dry(engine)
    assert engine.num_failed_steps == 0
    return [text_of(events[str(index)]) for index in indices]


def graphs_of(engine: Any) -> DecodeGraphs:
    whole_pass = engine._runner._whole_pass
    assert isinstance(whole_pass, DecodeGraphs)
    return whole_pass


def test_an_engine_with_graphs_says_what_one_without_says() -> None:
    with_graphs, everyone = engine_of(), list(range(len(PROMPTS)))
    assert texts(with_graphs, everyone) == texts(engine_of(decode_graphs=False), everyone)
    assert len(graphs_of(with_graphs)._graphs) > 1 and graphs_of(with_graphs)._recorder is not None


def test_batched_equals_single() -> None:
    together = texts(engine_of(), list(range(len(PROMPTS))))
    assert together == [texts(engine_of(), [index])[0] for index in range(len(PROMPTS))]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_a_replay_gives_the_logits_of_the_pass_that_it_repeats(dtype: torch.dtype) -> None:
    """Of every graph that an engine has recorded, on the batch that lies in it."""
    engine = engine_of(dtype)
    texts(engine, list(range(len(PROMPTS))))
    model, cache = engine._runner.model, engine._runner._cache
    for graph in graphs_of(engine)._graphs.values():
        graph.replay()
        replayed = model.compute_logits(graph.hidden_NH.clone())
        eager = model.compute_logits(model(graph.batch, cache))
        torch.testing.assert_close(replayed, eager, rtol=1e-2 if dtype is torch.bfloat16 else 1e-5, atol=1e-2 if dtype is torch.bfloat16 else 1e-5)
