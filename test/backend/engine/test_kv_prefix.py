"""A request that brings keys and values answers as the plain twin with the same prefix does, and shares its blocks with its equals only."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from slow_decoder import HEAD_DIM, NUM_KV_HEADS, NUM_LAYERS, slow_answer, slow_decoder

from gpu_backend.core import Event, Finished, HiddenStates, HiddenStatesReady, LabelScores, LabelScoresReady, Pooling, Usage
from gpu_backend.engine.engine import Engine
from gpu_backend.layers.conditioning import KVPrefix
from support import request, run_dry, text_of, tiny_engine, tiny_model

WEIGHTS: dict[str, torch.Tensor] = {}
MODEL = tiny_model(recorded=WEIGHTS)
PROMPT = [5, 9, 33, 2, 71, 8, 8, 40, 12, 13, 90, 1, 66, 7, 21, 30, 31, 50, 4, 4]


def random_prefix(num_positions: int, seed: int = 0) -> KVPrefix:
    generator = torch.Generator().manual_seed(seed)
    shape = (2, NUM_LAYERS, num_positions, NUM_KV_HEADS, HEAD_DIM)
    return KVPrefix(*torch.randn(shape, generator=generator))


def tensors(prefix: KVPrefix) -> tuple[torch.Tensor, torch.Tensor]:
    return prefix.keys_LPGD, prefix.values_LPGD


def ask(engine: Engine, name: str = "r", prompt: list[int] = PROMPT, **asked: Any) -> list[Event]:
    engine.add(request(name, prompt, **asked))
    return run_dry(engine)[name]


@pytest.mark.parametrize("num_positions", [1, 4, 6, 23])
@pytest.mark.parametrize("tokens_per_step", [4, 16, 64])
def test_generation_equals_the_plain_twin(num_positions: int, tokens_per_step: int) -> None:
    """Stretches of 4 lie inside the prefix, across its end, and behind it."""
    prefix = random_prefix(num_positions)
    events = ask(tiny_engine(MODEL, max_tokens_per_step=tokens_per_step), conditioning=prefix)
    expected = slow_answer(WEIGHTS, PROMPT, 8, prefix=tensors(prefix))
    assert text_of(events) == expected != slow_answer(WEIGHTS, PROMPT, 8)
    assert events[-1] == Finished(Usage(prompt_tokens=20, completion_tokens=8, cached_tokens=0))


def test_steps_inside_the_prefix_run_no_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A prefix of 10 and a prompt of 3 in steps of 4: two steps copy only, the third copies 2 and runs 2, the fourth runs the last."""
    rows: list[int] = []
    embed = MODEL.embed
    monkeypatch.setattr(MODEL, "embed", lambda token_ids: (rows.append(len(token_ids)), embed(token_ids))[1])
    engine = tiny_engine(MODEL, max_tokens_per_step=4)
    engine.add(request("r", [1, 2, 3], conditioning=random_prefix(10), max_tokens=1))
    num_rows = []
    while engine.has_work:
        engine.step()
        num_rows.append(sum(rows))
    assert num_rows == [0, 0, 2, 3]


def test_the_keys_and_values_of_tokens_answer_as_the_tokens_do() -> None:
    """What an ordinary request left in the pool, taken out and brought as a prefix."""
    tokens, rest = PROMPT[:8], PROMPT[8:]
    engine = tiny_engine(MODEL)
    engine.add(request("tokens", tokens, max_tokens=2))
    engine.step()
    cache, blocks = engine._runner._cache, torch.tensor(engine._scheduler.running[0].blocks[:2])
    read = [cache.read(layer, blocks) for layer in range(NUM_LAYERS)]
    prefix = KVPrefix(*(torch.stack([x[part][:, 0].transpose(0, 1) for x in read]) for part in (0, 1)))
    run_dry(engine)
    plain, brought = ask(engine, "plain"), ask(engine, "brought", rest, conditioning=prefix)
    assert text_of(plain) == text_of(brought) == slow_answer(WEIGHTS, PROMPT, 8)


@pytest.mark.parametrize("pooling", Pooling)
def test_labels_and_hidden_states_behind_a_prefix(pooling: Pooling) -> None:
    prefix = random_prefix(6)
    stream, logits_TV = slow_decoder(WEIGHTS, PROMPT, prefix=tensors(prefix))
    engine = tiny_engine(MODEL, max_tokens_per_step=4)
    scores, _ = ask(engine, task=LabelScores((3, 4)), conditioning=prefix)
    assert isinstance(scores, LabelScoresReady) and scores.logits == pytest.approx(logits_TV[-1, 3:5].tolist(), abs=1e-4)
    ready, _ = ask(engine, task=HiddenStates((2,), pooling), conditioning=prefix)
    expected = stream[2][-1] if pooling is Pooling.LAST else stream[2].mean(0)
    assert isinstance(ready, HiddenStatesReady) and (torch.tensor(ready.states[0]) - expected).abs().max() < 1e-4


def test_only_the_same_prefix_under_the_same_salt_is_shared() -> None:
    """Blocks of 4: of 6 + 20 positions 24 can be found again, 18 of them tokens of the prompt."""
    engine = tiny_engine(MODEL)
    same = random_prefix(6)
    cases: list[tuple[dict[str, Any], int]] = [
        ({"conditioning": same}, 0),
        ({"conditioning": random_prefix(6)}, 18),
        ({"conditioning": random_prefix(6, seed=1)}, 0),
        ({"conditioning": random_prefix(5)}, 0),
        ({"conditioning": same, "cache_salt": b"somebody else"}, 0),
        ({"prompt": [0] * 6 + PROMPT}, 0),
        ({"conditioning": same, "prompt": [*PROMPT[:15], 9]}, 14),
    ]
    for index, (asked, cached_tokens) in enumerate(cases):
        events = ask(engine, str(index), **asked)
        assert events[-1] == Finished(Usage(len(asked.get("prompt", PROMPT)), 8, cached_tokens)), index
        brought = asked.get("conditioning")
        assert text_of(events) == slow_answer(WEIGHTS, asked.get("prompt", PROMPT), 8, prefix=tensors(brought) if brought else None), index


def test_a_cached_beginning_of_the_prefix_saves_no_tokens_of_the_prompt() -> None:
    """Block 0 of a prefix of 6 is known, block 1 has other tokens behind the prefix: 4 positions are found, none of them a token."""
    engine = tiny_engine(MODEL)
    ask(engine, "a", [1, 2, 3], conditioning=random_prefix(6))
    events = ask(engine, "b", [9, 2, 3], conditioning=random_prefix(6))
    assert events[-1] == Finished(Usage(3, 8, 0))
    assert text_of(events) == slow_answer(WEIGHTS, [9, 2, 3], 8, prefix=tensors(random_prefix(6)))


@pytest.mark.parametrize("after_steps", [1, 2, 3, 7, 10])
@pytest.mark.parametrize("reuses_prefixes", [True, False])
def test_a_preempted_prefix_is_written_again(after_steps: int, reuses_prefixes: bool) -> None:
    engine = tiny_engine(MODEL, max_tokens_per_step=4, reuses_prefixes=reuses_prefixes)
    engine.add(request("r", PROMPT, conditioning=random_prefix(6)))
    events = [event for _ in range(after_steps) for _, event in engine.step()]
    engine._scheduler._preempt(engine._scheduler.running[0])
    for pool in engine._runner._cache.layers:
        if not reuses_prefixes:
            pool.zero_()
    events += run_dry(engine)["r"]
    assert text_of(events) == slow_answer(WEIGHTS, PROMPT, 8, prefix=tensors(random_prefix(6)))


def test_choices_share_a_prefix() -> None:
    events = ask(tiny_engine(MODEL), num_choices=3, conditioning=random_prefix(6))
    expected = slow_answer(WEIGHTS, PROMPT, 8, prefix=tensors(random_prefix(6)))
    assert [text_of(events, choice) for choice in range(3)] == [expected] * 3
    assert events[-1] == Finished(Usage(20, 24, 0))


def test_a_prefix_is_stored_in_the_type_of_the_pool() -> None:
    engine = tiny_engine(tiny_model(dtype=torch.bfloat16))
    prefix = random_prefix(4)
    engine.add(request("r", [1, 2], conditioning=prefix))
    engine.step()
    keys_G1SD, values_G1SD = engine._runner._cache.read(1, torch.tensor(engine._scheduler.running[0].blocks[:1]))
    assert torch.equal(keys_G1SD[:, 0].transpose(0, 1), prefix.keys_LPGD[1].bfloat16())
    assert torch.equal(values_G1SD[:, 0].transpose(0, 1), prefix.values_LPGD[1].bfloat16())
