"""Drafts change how many passes an answer takes and nothing else: alone, in company, sampled, held to a form, cut off, and when they are wrong."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from draft_support import INVITING, counts, drafting_engine, quiet_above
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_backend.core import Delta, Event, Failed, Finished, FinishReason, TokenLogprob
from gpu_backend.decoding.early_exit.draft_length import PassCost, RoundCosts
from gpu_backend.decoding.early_exit.drafter import AdapterDrafter, HeadDrafter
from gpu_backend.decoding.grammar import GrammarCompiler, json_grammar
from gpu_backend.decoding.reference import full_logits, generate_greedily
from gpu_backend.engine.engine import Engine
from gpu_backend.engine.rows import DueRow
from gpu_backend.kernels.native import load_native
from gpu_backend.layers.linear import can_pack
from gpu_backend.models.causal_lm.exit_adapter import ExitAdapter, ExitAdapterConfig
from gpu_backend.models.causal_lm.model import CausalLM
from lora_support import random_adapter, store_of
from support import byte_tokenizer, num_terminal, request, run_dry, text_of, tiny_engine, tiny_model

# Of five layers the last two add little: about half of all drafts from the third are right.
MODEL = quiet_above(tiny_model(num_hidden_layers=5), 3, 0.4)
PROMPTS = [[1, 2, 3], [5] * 21, [7, 8], [9, 10, 11, 12, 13, 14, 15], [20], [30, 31, 32, 33]]

SCHEMA = {"type": "object", "properties": {"a": {"enum": [True, False]}, "b": {"type": "integer"}}, "required": ["a", "b"]}


def tokens_of(events: list[Event]) -> list[TokenLogprob]:
    return [token for event in events if isinstance(event, Delta) for token in event.logprobs]


def by_choice(events: list[Event]) -> dict[int, list[tuple[object, ...]]]:
    """What each choice said, delta by delta. Log-probabilities are left out: in float32 they depend on the batch by a rounding."""
    told: dict[int, list[tuple[object, ...]]] = {}
    for event in events:
        if isinstance(event, Delta):
            told.setdefault(event.choice, []).append((event.text, event.finish_reason, [token.token_id for token in event.logprobs]))
    return told


def ask(engine: Engine, name: str, prompt: list[int], **sampling: Any) -> None:
    engine.add(request(name, prompt, **{"drafts": True, "max_tokens": 20, "logprobs": True, **sampling}))


def answers(engine: Engine, *asked: dict[str, Any], **sampling: Any) -> dict[str, list[Event]]:
    for index, prompt in enumerate(PROMPTS):
        ask(engine, str(index), prompt, **sampling, **(asked[index] if index < len(asked) else {}))
    return run_dry(engine)


def num_steps(engine: Engine) -> int:
    steps = 0
    while engine.has_work:
        engine.step()
        steps += 1
    return steps


@pytest.mark.parametrize("exit_layer", [1, 3, 4])
@pytest.mark.parametrize("most", [1, 3, 6])
def test_greedy_answers_are_those_of_full_depth(exit_layer: int, most: int) -> None:
    engine = drafting_engine(MODEL, exit_layer=exit_layer, most=most, max_tokens_per_step=64)
    for prompt, events in zip(PROMPTS, answers(engine).values(), strict=True):
        assert [token.token_id for token in tokens_of(events)] == generate_greedily(MODEL, prompt, 20)
    drafted, accepted = counts(engine)
    assert 0 < accepted < drafted
    assert engine.num_free_blocks == engine.config.num_kv_blocks


@pytest.mark.parametrize(
    "sampling",
    [
        {"temperature": 1.0, "seed": 5},
        {"temperature": 0.8, "seed": 6, "top_p": 0.9, "top_k": 40},
        {"frequency_penalty": 1.5, "presence_penalty": 0.5},
        {"logit_bias": {7: 3.0, 30: -100.0}},
        {"stop": ("\x07",)},
        {"num_choices": 3, "temperature": 1.0, "seed": 2},
        {"max_tokens": 1},
        {"max_tokens": 2},
    ],
    ids="-".join,
)
def test_whatever_chooses_the_tokens_chooses_the_same(sampling: dict[str, Any]) -> None:
    plain = answers(tiny_engine(MODEL, max_tokens_per_step=64), drafts=False, **sampling)
    drafting = drafting_engine(MODEL, exit_layer=3, max_tokens_per_step=64)
    found = answers(drafting, **sampling)
    for name, events in plain.items():
        assert by_choice(found[name]) == by_choice(events)
        assert isinstance(last := found[name][-1], Finished) and isinstance(expected := events[-1], Finished)
        assert last.usage == expected.usage and expected.accepted_drafts == 0
    # The prompt's own step brings the first token, and the last one needs no draft.
    assert (counts(drafting)[0] > 0) == (sampling.get("max_tokens", 20) > 2)


def test_right_drafts_save_passes_and_wrong_ones_cost_none() -> None:
    right = quiet_above(tiny_model(num_hidden_layers=4), 2)
    engine = drafting_engine(right, exit_layer=2)
    ask(engine, "r", [1, 2, 3], max_tokens=21)
    # One step reads the prompt and brings the first token; of the other twenty each round brings four.
    assert num_steps(engine) == 1 + 5
    assert counts(engine) == (15, 15)

    wrong = drafting_engine(tiny_model(num_hidden_layers=4, seed=3), exit_layer=1)
    ask(wrong, "r", [1, 2, 3], max_tokens=21)
    assert num_steps(wrong) <= 1 + 20


def test_the_last_round_drafts_no_more_than_the_answer_can_take() -> None:
    engine = drafting_engine(quiet_above(tiny_model(num_hidden_layers=4), 2), exit_layer=2)
    ask(engine, "r", [1, 2, 3], max_tokens=7)
    events = run_dry(engine)["r"]
    # 1 with the prompt, 4 in a round of three drafts, and 2 in a round of one.
    assert len(tokens_of(events)) == 7 and counts(engine) == (4, 4)


def test_an_end_token_inside_accepted_drafts_ends_the_answer_there() -> None:
    model = quiet_above(tiny_model(num_hidden_layers=4), 2)
    tokens = generate_greedily(model, [1, 2, 3], 12)
    end = next(token for index, token in enumerate(tokens) if index >= 2 and token not in tokens[:index])
    engine = drafting_engine(model, exit_layer=2, most=6, end_token_ids=(end,))
    ask(engine, "r", [1, 2, 3], max_tokens=12)
    events = run_dry(engine)["r"]
    assert [token.token_id for token in tokens_of(events)] == tokens[: tokens.index(end)]
    assert isinstance(events[-2], Delta) and events[-2].finish_reason is FinishReason.STOP
    assert num_terminal(events) == 1


def test_structured_output_keeps_its_form() -> None:
    tokenizer = byte_tokenizer()
    grammar = GrammarCompiler(tokenizer, 258, (257,)).compile(json_grammar(SCHEMA))
    model = quiet_above(tiny_model(num_hidden_layers=5, vocab_size=258), 3, 0.4)
    found = []
    for engine in (tiny_engine(model, end_token_ids=(257,)), drafting_engine(model, exit_layer=3, end_token_ids=(257,))):
        engine.add(request("r", [1, 2, 3], grammar=grammar, drafts=True, max_tokens=40))
        found.append(run_dry(engine)["r"])
    assert text_of(found[0]) == text_of(found[1])
    assert text_of(found[1]).startswith("{")


def test_adapters_draft_for_themselves(tmp_path: Path) -> None:
    names = [random_adapter(tmp_path, MODEL.config, seed=1, rank=3), None, random_adapter(tmp_path, MODEL.config, seed=2, rank=16)]
    found = []
    for drafts in (False, True):
        engine = drafting_engine(MODEL, exit_layer=3, adapters=store_of(MODEL, tmp_path), max_tokens_per_step=64)
        for index, adapter in enumerate(names):
            engine.add(replace(request(str(index), PROMPTS[index], drafts=drafts, max_tokens=20), adapter=adapter))
        found.append({name: text_of(events) for name, events in run_dry(engine).items()})
    assert found[0] == found[1]
    assert counts(engine)[1] > 0


def test_sequences_with_and_without_drafts_share_a_round() -> None:
    engine = drafting_engine(MODEL, exit_layer=3)
    found = answers(engine, {}, {"drafts": False}, {}, {"drafts": False})
    for prompt, events in zip(PROMPTS, found.values(), strict=True):
        assert [token.token_id for token in tokens_of(events)] == generate_greedily(MODEL, prompt, 20)
    assert counts(engine)[0] > 0


def test_preemption_changes_no_answer() -> None:
    engine = drafting_engine(MODEL, exit_layer=3, kv_cache_tokens=56)
    found = answers(engine, max_tokens=16)
    assert engine._scheduler.num_preemptions > 0 and counts(engine)[0] > 0
    for prompt, events in zip(PROMPTS, found.values(), strict=True):
        assert [token.token_id for token in tokens_of(events)] == generate_greedily(MODEL, prompt, 16)
    assert engine.num_free_blocks == engine.config.num_kv_blocks


def test_later_requests_find_what_accepted_drafts_computed() -> None:
    engine = drafting_engine(quiet_above(tiny_model(num_hidden_layers=4), 2), exit_layer=2)
    ask(engine, "r", [1, 2, 3], max_tokens=14)
    tokens = [token.token_id for token in tokens_of(run_dry(engine)["r"])]
    ask(engine, "again", [1, 2, 3, *tokens], max_tokens=5)
    events = run_dry(engine)["again"]
    assert isinstance(events[-1], Finished) and events[-1].usage.cached_tokens == 16
    assert [token.token_id for token in tokens_of(events)] == generate_greedily(engine._runner.model, [1, 2, 3, *tokens], 5)  # type: ignore[arg-type]


def test_cancel_and_deadline_between_rounds_free_everything() -> None:
    now = 0.0
    engine = drafting_engine(MODEL, exit_layer=3, clock=lambda: now)
    engine.add(request("late", PROMPTS[0], drafts=True, max_tokens=60, deadline_s=5.0))
    ask(engine, "left", PROMPTS[2], max_tokens=60)
    ask(engine, "stays", PROMPTS[3], max_tokens=30)
    for _ in range(4):
        engine.step()
    assert engine.cancel("left")
    now = 6.0
    events = run_dry(engine)
    assert isinstance(events["late"][-1], Failed) and events["late"][-1].code == "deadline_exceeded"
    assert isinstance(events["stays"][-1], Finished) and events["stays"][-1].usage.completion_tokens == 30
    assert engine.num_free_blocks == engine.config.num_kv_blocks


def test_where_drafts_cost_more_than_they_save_there_are_none() -> None:
    dear = RoundCosts(lower=PassCost.line(1.0, 0.0), draft=PassCost.line(9.0, 0.0), upper=PassCost.line(1.0, 0.0))
    engine = drafting_engine(MODEL, exit_layer=3, costs=dear)
    answers(engine)
    assert counts(engine) == (0, 0)


def test_a_round_that_raises_is_done_again_without_drafts(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = drafting_engine(MODEL, exit_layer=3)
    monkeypatch.setattr(HeadDrafter, "draft", lambda self, x_KH, known_KH: 1 / 0)
    found = answers(engine)
    for prompt, events in zip(PROMPTS, found.values(), strict=True):
        assert [token.token_id for token in tokens_of(events)] == generate_greedily(MODEL, prompt, 20)


def test_a_drafter_sits_between_two_layers() -> None:
    for exit_layer in (0, 5, 6):
        with pytest.raises(ValueError, match="exit_layer must be between 1 and 4"):
            HeadDrafter(MODEL, exit_layer)


def test_sampled_pairs_of_tokens_have_the_models_distribution() -> None:
    """Chi-square over the four likeliest second tokens and the rest, after the likeliest first one; each second token comes out of a round of drafts."""
    model = quiet_above(tiny_model(num_hidden_layers=4, seed=1), 2, 0.5)
    prompt = [1, 2, 3]
    first = int(full_logits(model, prompt)[-1].argmax())
    wanted_V = torch.softmax(full_logits(model, [*prompt, first])[-1].double(), dim=-1)
    engine = drafting_engine(model, exit_layer=2, max_num_sequences=32, max_tokens_per_step=512, kv_cache_tokens=4096)
    seconds: Counter[int] = Counter()
    for batch in range(125):
        for index in range(32):
            ask(engine, f"{batch}/{index}", prompt, max_tokens=3, temperature=1.0, seed=1000 * batch + index, logit_bias={})
        for events in run_dry(engine).values():
            tokens = [token.token_id for token in tokens_of(events)]
            seconds[tokens[1]] += tokens[0] == first
    num = sum(seconds.values())
    assert num > 100
    best = wanted_V.topk(4).indices.tolist()
    expected = [float(wanted_V[token]) * num for token in best]
    observed = [seconds[token] for token in best]
    expected.append(num - sum(expected))
    observed.append(num - sum(observed))
    chi_square = sum((o - e) ** 2 / e for o, e in zip(observed, expected, strict=True))
    # Four degrees of freedom; a right sampler exceeds 18.5 once in a thousand runs, and the seeds are fixed.
    assert chi_square < 18.5, (observed, expected)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_random_arrivals_cancels_and_mixtures_end_as_without_drafts(data: st.DataObject) -> None:
    engine = drafting_engine(
        MODEL, exit_layer=data.draw(st.integers(1, 4)), most=data.draw(st.integers(1, 5)), kv_cache_tokens=data.draw(st.sampled_from([64, 128]))
    )
    asked: dict[str, tuple[list[int], int]] = {}
    events: dict[str, list[Event]] = {}
    cancelled: set[str] = set()
    for index in range(data.draw(st.integers(1, 6))):
        prompt, max_tokens = data.draw(st.lists(st.integers(0, 96), min_size=1, max_size=14)), data.draw(st.integers(1, 18))
        asked[str(index)] = prompt, max_tokens
        ask(engine, str(index), prompt, max_tokens=max_tokens, drafts=data.draw(st.booleans()))
        for _ in range(data.draw(st.integers(0, 4))):
            for name, event in engine.step():
                events.setdefault(name, []).append(event)
        if data.draw(st.booleans()) and engine.cancel(victim := data.draw(st.sampled_from(sorted(asked)))):
            cancelled.add(victim)
    for name, more in run_dry(engine).items():
        events.setdefault(name, []).extend(more)
    for name in asked.keys() - cancelled:
        assert [token.token_id for token in tokens_of(events[name])] == generate_greedily(MODEL, *asked[name])
        assert num_terminal(events[name]) == 1
    assert engine.num_free_blocks == engine.config.num_kv_blocks


def test_the_c_operators_give_the_same_bits(models_dir: Path) -> None:
    if not can_pack(torch.bfloat16, torch.device("cpu")):
        pytest.skip("this processor lacks the instructions")
    native = load_native(models_dir / ".native")
    assert native is not None
    sizes = {"hidden_size": 64, "head_dim": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 96, "num_hidden_layers": 4}
    model: CausalLM = tiny_model(dtype=torch.bfloat16, native=native, **sizes)
    assert model.fused is not None
    sampling = {"top_logprobs": 5, "temperature": 0.9, "seed": 4}
    plain = answers(tiny_engine(model, max_tokens_per_step=64), drafts=False, **sampling)
    engine = drafting_engine(model, exit_layer=2, max_tokens_per_step=64)
    found = answers(engine, **sampling)
    assert {name: tokens_of(events) for name, events in found.items()} == {name: tokens_of(events) for name, events in plain.items()}
    assert counts(engine)[0] > 0
    assert INVITING.round(1, 3) == INVITING.round(1, 0)


@pytest.mark.parametrize("least", [0.0, 0.3, 0.7])
def test_a_sequence_alone_drafts_in_one_call_what_it_drafts_layer_by_layer(models_dir: Path, least: float) -> None:
    if not can_pack(torch.bfloat16, torch.device("cpu")):
        pytest.skip("this processor lacks the instructions")
    sizes = {"hidden_size": 64, "head_dim": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 96, "num_hidden_layers": 4}
    model = tiny_model(dtype=torch.bfloat16, native=load_native(models_dir / ".native"), **sizes)
    shape = {"exit_layer": 1, "inner_layers": (2, 3), "hidden_size": 64, "width": 32, "shortlist_size": 97, "rms_norm_eps": 1e-5}
    # Guesses of more probability are taken to be better, so that the rule ends some rounds early.
    config = ExitAdapterConfig(base="", calibration=tuple(0.35 + tenth / 16 for tenth in range(10)), **shape)
    adapter = ExitAdapter.fresh(config, torch.arange(97), model.final_norm.weight, seed=0)
    with torch.no_grad():
        for weight in (adapter.fuse_deep, adapter.mix):
            weight.add_(0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)))
    costs = RoundCosts(lower=PassCost.line(least / 4, 0.0), draft=PassCost.line(least / 4, 0.0), upper=PassCost.line(1.0, 0.0))
    told: list[dict[str, Any]] = []
    drafted: list[list[tuple[list[int], int]]] = []
    for in_one_call in (True, False):
        drafter = AdapterDrafter(model, adapter)
        assert drafter.draft_alone is not None
        engine = drafting_engine(model, drafter=drafter, most=4, costs=costs, max_tokens_per_step=64)
        rounds = engine._runner._draft_round
        assert rounds is not None
        if not in_one_call:
            drafter.draft_alone = None
        seen: list[tuple[list[int], int]] = []
        run = rounds.run
        rounds.run = lambda *work, run=run, seen=seen: _noted(run(*work), seen)  # type: ignore[method-assign]
        for index, prompt in enumerate(PROMPTS):
            ask(engine, str(index), prompt)
            told.append({"in_one_call": in_one_call, "tokens": tokens_of(run_dry(engine)[str(index)])})
        told[-1]["counts"] = counts(engine)
        drafted.append(seen)
    half = len(told) // 2
    assert [one["tokens"] for one in told[:half]] == [one["tokens"] for one in told[half:]]
    assert told[half - 1]["counts"] == told[-1]["counts"] and told[-1]["counts"][0] > 0
    assert drafted[0] == drafted[1]
    lengths = {len(tokens) for tokens, _ in drafted[0]}
    assert len(lengths) > 1 or least == 0.0


def _noted(rows: list[DueRow], seen: list[tuple[list[int], int]]) -> list[DueRow]:
    seen += [([draft.token_id for draft in row.drafted], row.num_guesses) for row in rows]
    return rows
