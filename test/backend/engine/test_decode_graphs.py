"""Graphs of decoding steps, with a recorder that does the work again on the fixed tensors: padded and reused shapes give what the model gives, bit for bit."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from gpu_backend.config import EngineConfig
from gpu_backend.core import HiddenStates, HiddenStatesReady
from gpu_backend.engine.decode_graphs import DecodeGraphs, Recorder, Replay
from gpu_backend.engine.model_runner import ModelRunner
from gpu_backend.layers.batch import ForwardBatch, PromptSpan, SourceSpan
from gpu_backend.layers.kv_cache import PagedKVCache
from gpu_backend.layers.lora import batch_adapters
from graph_support import Again
from support import request, run_dry, text_of, tiny_engine, tiny_model

MODEL = tiny_model()
NUM_BLOCKS, BLOCK_SIZE, MAX_ROWS = 40, 4, 12
PROMPTS = [[1, 2, 3], [5] * 21, [7, 8], [9, 10, 11, 12, 13, 14, 15], [20], [30, 31, 32, 33]]


def filled_cache(seed: int) -> PagedKVCache:
    """A pool in which every block that a sequence could own holds numbers, and the spare one behind them holds none."""
    cache = MODEL.new_cache(num_blocks=NUM_BLOCKS + 1, block_size=BLOCK_SIZE)
    generator = torch.Generator().manual_seed(seed)
    for pool in cache.layers:
        pool[:, :NUM_BLOCKS] = torch.randn(pool[:, :NUM_BLOCKS].shape, generator=generator)
        pool[:, NUM_BLOCKS] = float("nan")
    return cache


def decoding(lengths: list[int], seed: int) -> ForwardBatch:
    """The newest token of sequences of these lengths, each in blocks of its own."""
    rng = random.Random(seed)
    free = rng.sample(range(NUM_BLOCKS), NUM_BLOCKS)
    tables = [[free.pop() for _ in range(-(-length // BLOCK_SIZE))] for length in lengths]
    columns = max(map(len, tables))
    return ForwardBatch(
        token_ids_N=torch.tensor([rng.randrange(97) for _ in lengths]),
        positions_N=torch.tensor(lengths) - 1,
        slots_N=torch.tensor(
            [table[(length - 1) // BLOCK_SIZE] * BLOCK_SIZE + (length - 1) % BLOCK_SIZE for table, length in zip(tables, lengths, strict=True)]
        ),
        num_decodes=len(lengths),
        decode_blocks_BM=torch.tensor([table + [0] * (columns - len(table)) for table in tables]),
        decode_lengths_B=torch.tensor(lengths),
        spans=(),
    )


def graphs(recorder: Recorder) -> DecodeGraphs:
    return DecodeGraphs(MODEL, NUM_BLOCKS, MAX_ROWS, recorder)


def by_hand(batch: ForwardBatch) -> ForwardBatch:
    """The batch in the shape that a graph has, filled up with other things than graphs are: columns of block 0, rows that see numbers that are none."""
    assert batch.decode_blocks_BM is not None and batch.decode_lengths_B is not None
    num_rows, num_columns = batch.decode_blocks_BM.shape
    rows = next(size for size in (1, 2, 4, 8, MAX_ROWS) if size >= num_rows) - num_rows
    columns = next(size for size in (1, 2, 4) if size >= num_columns) - num_columns
    spare = torch.full((rows, num_columns + columns), NUM_BLOCKS)
    return ForwardBatch(
        token_ids_N=torch.cat((batch.token_ids_N, torch.full((rows,), 50))),
        positions_N=torch.cat((batch.positions_N, torch.full((rows,), 1))),
        slots_N=torch.cat((batch.slots_N, torch.full((rows,), NUM_BLOCKS * BLOCK_SIZE + 1))),
        num_decodes=num_rows + rows,
        decode_blocks_BM=torch.cat((torch.cat((batch.decode_blocks_BM, torch.zeros(num_rows, columns, dtype=torch.long)), 1), spare)),
        decode_lengths_B=torch.cat((batch.decode_lengths_B, torch.full((rows,), 2))),
        spans=(),
    )


@pytest.mark.parametrize("num_rows", range(1, MAX_ROWS + 1))
@torch.inference_mode()
def test_every_number_of_rows_gives_the_logits_and_the_cache_of_the_pass_without_graphs(num_rows: int) -> None:
    """Bit for bit those of a pass in the same shape; a float32 product of other shapes may round otherwise, so those of the smaller pass up to rounding.

    Block tables have one to three columns, in shapes that were recorded for other batches. No block but the spare one differs by a bit.
    """
    recorder = Again()
    recorded, cache = graphs(recorder), filled_cache(0)
    for seed in range(6):
        rng = random.Random(1000 * num_rows + seed)
        batch = decoding([rng.randint(1, 12 if seed % 2 else 4) for _ in range(num_rows)], seed)
        # Graphs belong to one cache: its contents change, its memory does not.
        for pool, fresh in zip(cache.layers, filled_cache(seed).layers, strict=True):
            pool.copy_(fresh)
        same_shape, eager_cache = filled_cache(seed), filled_cache(seed)
        logits_NV = MODEL.compute_logits(recorded(batch, cache))
        assert torch.equal(logits_NV, MODEL.compute_logits(MODEL(by_hand(batch), same_shape)[:num_rows]))
        torch.testing.assert_close(logits_NV, MODEL.compute_logits(MODEL(batch, eager_cache)), rtol=1e-4, atol=1e-5)
        for ours, theirs in zip(cache.layers, same_shape.layers, strict=True):
            assert torch.equal(ours[:, :NUM_BLOCKS], theirs[:, :NUM_BLOCKS])
    assert 0 < recorder.num_recorded <= 3 and recorder.num_replayed == 6


@torch.inference_mode()
def test_a_smaller_batch_after_a_larger_one_leaves_the_larger_ones_blocks_alone() -> None:
    """The fixed tensors still hold the rows of the batch before, unless they are written over."""
    recorded, cache = graphs(Again()), filled_cache(1)
    recorded(decoding([9, 3, 5, 8], 1), cache)
    before = [pool.clone() for pool in cache.layers]
    small = decoding([6, 12, 2], 2)
    recorded(small, cache)
    for pool, old in zip(cache.layers, before, strict=True):
        flat, old_flat = (x[:, :NUM_BLOCKS].reshape(x.shape[0], -1, x.shape[3]) for x in (pool, old))
        changed = (flat != old_flat).any(dim=2).any(dim=0).nonzero().flatten().tolist()
        assert sorted(changed) == sorted(small.slots_N.tolist())


@torch.inference_mode()
def test_an_answer_stays_what_it_is_when_the_graph_runs_again() -> None:
    recorded, cache = graphs(Again()), filled_cache(2)
    recorded(decoding([5, 6], 1), cache)
    second = recorded(decoding([5, 6], 2), cache)
    copy = second.clone()
    recorded(decoding([5, 6], 3), cache)
    assert torch.equal(second, copy)


@torch.inference_mode()
def test_what_is_no_plain_decoding_step_is_not_recorded() -> None:
    recorder, cache, numbers = Again(), filled_cache(3), torch.ones(1)
    recorded = DecodeGraphs(lambda batch, cache: numbers, NUM_BLOCKS, MAX_ROWS, recorder)
    plain = decoding([3, 4], 1)
    others = [
        replace(plain, sources=(SourceSpan(0, 1, numbers),)),
        replace(plain, spans=(PromptSpan(1, 1, 4, numbers),)),
        replace(plain, adapters=batch_adapters({}, 2, numbers.device)),
        replace(plain, num_decodes=0),
        decoding([1] * (MAX_ROWS + 1), 1),
    ]
    for batch in others:
        assert recorded(batch, cache) is numbers
    assert recorder.num_recorded == 0
    recorded(plain, cache)
    assert recorder.num_recorded == 1


def no_recording(work: Callable[[], Tensor]) -> tuple[Replay, Tensor]:
    raise RuntimeError("operation not permitted when stream is capturing")


@pytest.mark.parametrize("recorder", [no_recording, Again(error=1e3), Again(error=float("nan"))])
@torch.inference_mode()
def test_a_graph_that_fails_or_gives_other_numbers_is_the_last_one(recorder: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    recorded, cache = graphs(recorder), filled_cache(4)
    with caplog.at_level(logging.WARNING):
        for seed in range(3):
            batch = decoding([2, 7, 3, 1], seed)
            assert torch.equal(recorded(batch, cache), MODEL(batch, cache))
    assert [record.message for record in caplog.records] == ["decoding goes on without CUDA graphs"]


def texts(recorder: Recorder | None, **limits: Any) -> list[str]:
    engine = tiny_engine(MODEL, recorder=recorder, **limits)
    for index, prompt in enumerate(PROMPTS):
        engine.add(request(str(index), prompt, max_tokens=20, temperature=index % 2, seed=index))
    events = run_dry(engine)
    assert engine.num_failed_steps == 0 and engine.num_free_blocks == engine.config.num_kv_blocks
    return [text_of(events[str(index)]) for index in range(len(PROMPTS))]


@pytest.mark.parametrize("limits", [{}, {"kv_cache_tokens": 64}, {"max_num_sequences": 3}], ids=str)
def test_an_engine_with_graphs_says_what_one_without_says(limits: dict[str, Any]) -> None:
    recorder = Again()
    assert texts(recorder, **limits) == texts(None, **limits)
    assert recorder.num_replayed > 10


def test_steps_that_read_inner_layers_take_the_usual_way() -> None:
    """The last token of a prompt that is longer than a step by one is a decoding row."""
    states = []
    for recorder in (Again(), None):
        engine = tiny_engine(MODEL, recorder=recorder, max_tokens_per_step=16)
        engine.add(request("r", [4] * 17, task=HiddenStates(layers=(1,))))
        states += [event for event in run_dry(engine)["r"] if isinstance(event, HiddenStatesReady)]
        assert recorder is None or recorder.num_recorded == 0
    assert len(states) == 2 and states[0] == states[1]


def test_graphs_are_for_cuda_devices_and_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    config = EngineConfig(kv_cache_tokens=64)
    assert not isinstance(ModelRunner(MODEL, config)._whole_pass, DecodeGraphs)
    assert isinstance(ModelRunner(MODEL, config, recorder=Again())._whole_pass, DecodeGraphs)
    off = ModelRunner(MODEL, EngineConfig(kv_cache_tokens=64, decode_graphs=False), recorder=Again())
    assert not isinstance(off._whole_pass, DecodeGraphs) and off._cache.layers[0].shape[1] == config.num_kv_blocks


class Devices(TorchDispatchMode):
    """Notes on which devices the results of operators lie."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.found |= {item.device.type for item in (result if isinstance(result, tuple) else (result,)) if isinstance(item, Tensor)}
        return result


@pytest.mark.parametrize("qk_norm", [False, True])
def test_a_decoding_pass_asks_no_tensor_for_its_numbers_and_leaves_the_device_for_nothing(qk_norm: bool) -> None:
    """What a graph can record. On the device `meta` tensors have shapes but no numbers: whoever asks for one fails, and a transfer shows."""
    model = tiny_model(device="meta", **({"model_type": "qwen3", "head_dim": 8} if qk_norm else {}))
    cache = model.new_cache(num_blocks=9, block_size=BLOCK_SIZE)
    numbers = torch.zeros(3, dtype=torch.long, device="meta")
    batch = ForwardBatch(numbers, numbers, numbers, 3, torch.zeros(3, 2, dtype=torch.long, device="meta"), numbers, ())
    with torch.inference_mode(), Devices() as devices:
        hidden_NH = model(batch, cache)
    assert hidden_NH.shape == (3, 32) and devices.found == {"meta"}
