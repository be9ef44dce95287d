"""Tokens that leave unverified, their keys and values deferred: the same leave, and the same follow, as where every layer runs for every token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from draft_support import counts, drafting_engine, quiet_above

from gpu_backend.core import Delta, Finished, FinishReason, SamplingParams, TokenGate
from gpu_backend.decoding.early_exit.drafter import AdapterDrafter
from gpu_backend.decoding.reference import full_logits, generate_greedily
from gpu_backend.engine.engine import Engine
from gpu_backend.engine.rows import DueRow
from gpu_backend.kernels.native import load_native
from gpu_backend.layers.linear import can_pack
from gpu_backend.models.causal_lm.exit_adapter import ExitAdapter, ExitAdapterConfig
from support import request, run_dry, tiny_model

EXIT, NUM_TOKENS = 3, 14
MODEL = quiet_above(tiny_model(num_hidden_layers=5), EXIT, 0.4)
LOWER = quiet_above(tiny_model(num_hidden_layers=5), EXIT, 0.0)
PROMPTS = [[1, 2, 3], [5] * 21, [7, 8], [9, 10, 11, 12, 13, 14, 15], [20], [30, 31, 32, 33]]


def engine_for(**options: Any) -> Engine:
    """All prompts of this file begin in one step."""
    return drafting_engine(MODEL, exit_layer=EXIT, **{"most": NUM_TOKENS, "max_num_sequences": 8, "max_tokens_per_step": 128, **options})


def answer_together(engine: Engine, prompts: list[list[int]], **sampling: Any) -> tuple[list[list[int]], list[Finished]]:
    """-> the tokens of each answer, and how each ended."""
    params = {"drafts": True, "max_tokens": NUM_TOKENS, **sampling}
    for index, prompt in enumerate(prompts):
        engine.add(request(str(index), prompt, **params))
    sequences = [engine._live[str(index)].sequences[0] for index in range(len(prompts))]
    endings = [events[-1] for events in run_dry(engine).values()]
    assert all(isinstance(ending, Finished) for ending in endings)
    return [sequence.token_ids[len(prompt) :] for sequence, prompt in zip(sequences, prompts, strict=True)], endings  # type: ignore[return-value]


def slow_twin(prompt: list[int], least_prob: float, verified_ids: frozenset[int] = frozenset()) -> tuple[list[int], int]:
    """Everything anew for each token, at both depths. The prompt's own step brings the first token, and the last one is never drafted. -> tokens, and how many
    left as others than full depth's."""
    tokens: list[int] = []
    num_others = 0
    for place in range(NUM_TOKENS):
        deep = int(full_logits(MODEL, prompt + tokens)[-1].argmax())
        probs_V = full_logits(LOWER, prompt + tokens)[-1].softmax(dim=-1)
        guess = int(probs_V.argmax())
        leaves = 0 < place < NUM_TOKENS - 1 and float(probs_V[guess]) >= least_prob and guess not in verified_ids
        tokens.append(guess if leaves else deep)
        num_others += leaves and guess != deep
    return tokens, num_others


def thresholds() -> list[float]:
    """Quantiles of the probability of guesses, between two that occur."""
    probs = sorted(
        float(full_logits(LOWER, prompt + generate_greedily(MODEL, prompt, place))[-1].softmax(dim=-1).amax())
        for prompt in PROMPTS
        for place in range(NUM_TOKENS)
    )
    return [(probs[at] + probs[at + 1]) / 2 for at in (len(probs) // 4, len(probs) // 2, 9 * len(probs) // 10)]


@pytest.mark.parametrize("company", [1, len(PROMPTS)])
def test_what_leaves_and_what_follows_is_what_the_slow_twin_says(company: int) -> None:
    num_others = 0
    for least_prob in thresholds():
        gate = TokenGate(least_prob)
        twins = [slow_twin(prompt, least_prob) for prompt in PROMPTS]
        num_others += sum(others for _, others in twins)
        found: list[list[int]] = []
        for first in range(0, len(PROMPTS), company):
            found += answer_together(engine_for(), PROMPTS[first : first + company], gate=gate)[0]
        assert found == [tokens for tokens, _ in twins], least_prob
    assert num_others > 5


def test_beyond_every_probability_it_is_the_plain_model() -> None:
    found, endings = answer_together(engine_for(), PROMPTS, gate=TokenGate(1.01))
    assert found == [generate_greedily(MODEL, prompt, NUM_TOKENS) for prompt in PROMPTS]
    assert [ending.min_confidence for ending in endings] == [1.0] * len(PROMPTS)


def test_the_head_is_asked_only_where_nothing_stands_and_the_layers_above_run_once_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, rows, deep = engine_for(most=4), [], []
    rounds = engine._runner._draft_round
    assert rounds is not None
    compute_logits, run_layers = MODEL.compute_logits, MODEL.run_layers
    run = rounds.run
    noted: list[DueRow] = []
    monkeypatch.setattr(rounds, "run", lambda *work: noted.extend(found := run(*work)) or found)
    monkeypatch.setattr(rounds, "_model", MODEL)
    monkeypatch.setattr(MODEL, "compute_logits", lambda x: rows.append(len(x)) or compute_logits(x))
    monkeypatch.setattr(MODEL, "run_layers", lambda x, start, *rest: deep.append((start, len(x))) or run_layers(x, start, *rest))
    (tokens,), _ = answer_together(engine, [[1, 2, 3]], gate=TokenGate(0.0), max_tokens=7)
    # 1 with the prompt; a round of four that stand and one of full depth; and the last in a step without drafts.
    assert len(tokens) == 7 and [len(row.drafted) for row in noted] == [4]
    (first,) = noted
    assert first.logits_V is None and [draft.logits_V is None for draft in first.drafted] == [True, True, True, False]
    # The head's own rows: the prompt's; the drafter's four, one by one, and one of five; the last token's.
    assert rows == [1, 1, 1, 1, 1, 1, 1]
    assert [passed for passed in deep if passed[0] == EXIT] == [(EXIT, 5)]
    assert counts(engine) == (4, 4)


@pytest.mark.parametrize(
    "sampling",
    [{"temperature": 1.0, "seed": 5}, {"frequency_penalty": 1.5}, {"presence_penalty": 0.5}, {"logit_bias": {7: 3.0}}, {"logprobs": True}, {"drafts": False}],
    ids="-".join,
)
def test_where_more_than_logits_choose_or_are_shown_all_is_verified(sampling: dict[str, Any]) -> None:
    plain, _ = answer_together(engine_for(), PROMPTS, **sampling)
    gated, endings = answer_together(engine_for(), PROMPTS, gate=TokenGate(0.0), **sampling)
    assert gated == plain and {ending.min_confidence for ending in endings} == {1.0}
    params = {"max_tokens": 1, "temperature": 0.0, "drafts": True, "gate": TokenGate(0.0)}
    assert SamplingParams(**params).open_gate is not None and SamplingParams(**{**params, **sampling}).open_gate is None


def test_tokens_that_full_depth_must_give_are_verified() -> None:
    prompt = PROMPTS[1]
    ((*tokens, _),), _ = answer_together(engine_for(), [prompt], gate=TokenGate(0.0))
    other = next(token for place, token in enumerate(tokens) if token != int(full_logits(MODEL, prompt + tokens[:place])[-1].argmax()))
    found, _ = answer_together(engine_for(), PROMPTS, gate=TokenGate(0.0, frozenset({other})))
    assert found == [slow_twin(prompt, 0.0, frozenset({other}))[0] for prompt in PROMPTS]
    assert found[1][:-1] != tokens


def test_an_answer_ends_at_an_end_token_that_stands_or_comes_from_full_depth() -> None:
    (tokens,), _ = answer_together(engine_for(), [PROMPTS[0]], gate=TokenGate(0.0))
    end = next(token for index, token in enumerate(tokens) if index >= 2 and token not in tokens[:index])
    engine = engine_for(end_token_ids=(end,))
    engine.add(request("r", PROMPTS[0], drafts=True, max_tokens=NUM_TOKENS, gate=TokenGate(0.0)))
    *_, last, finished = run_dry(engine)["r"]
    assert isinstance(last, Delta) and last.finish_reason is FinishReason.STOP
    assert isinstance(finished, Finished) and finished.usage.completion_tokens == tokens.index(end) + 1
    assert engine.num_free_blocks == engine.config.num_kv_blocks


@pytest.mark.parametrize("quantile", [0.3, 0.7])
def test_one_call_of_c_and_layer_by_layer_let_the_same_leave(models_dir: Path, quantile: float) -> None:
    if not can_pack(torch.bfloat16, torch.device("cpu")):
        pytest.skip("this processor lacks the instructions")
    sizes = {"hidden_size": 64, "head_dim": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 96, "num_hidden_layers": 4}
    model = tiny_model(dtype=torch.bfloat16, native=load_native(models_dir / ".native"), **sizes)
    shape = {"exit_layer": 1, "inner_layers": (2,), "hidden_size": 64, "width": 32, "shortlist_size": 97, "rms_norm_eps": 1e-5}
    adapter = ExitAdapter.fresh(ExitAdapterConfig(base="", calibration=(0.6,) * 10, **shape), torch.arange(97), model.final_norm.weight, seed=0)

    def tell(drafter: AdapterDrafter, gate: TokenGate | None) -> tuple[list[list[int]], list[float], list[list[tuple[int, float, bool]]]]:
        engine = drafting_engine(model, drafter=drafter, most=4, max_tokens_per_step=64)
        rounds = engine._runner._draft_round
        assert rounds is not None
        told: list[list[tuple[int, float, bool]]] = []
        run = rounds.run

        def noted(*work: Any) -> list[DueRow]:
            found = run(*work)
            told.extend([(draft.token_id, draft.chance, draft.logits_V is None) for draft in row.drafted] for row in found)
            return found

        rounds.run = noted  # type: ignore[method-assign]
        parts = [answer_together(engine, [prompt], gate=gate) for prompt in PROMPTS]
        return [tokens for (tokens,), _ in parts], [ending.min_confidence for _, (ending,) in parts], told

    probs: list[float] = []
    watched = AdapterDrafter(model, adapter)
    watched.draft_alone = None
    draft = watched.draft
    watched.draft = lambda *rows: probs.extend((found := draft(*rows)).probs) or found  # type: ignore[method-assign]
    tell(watched, None)
    gate = TokenGate(sorted(probs)[int(quantile * len(probs))])
    alone, layered = AdapterDrafter(model, adapter), AdapterDrafter(model, adapter)
    assert alone.draft_alone is not None
    layered.draft_alone = None
    found = tell(alone, gate)
    assert found == tell(layered, gate)
    assert set(found[1]) <= {0.6, 1.0} and 0.6 in found[1]
    assert len({left for row in found[2] for *_, left in row}) == 2
