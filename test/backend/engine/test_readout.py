"""What a row says: label scores by hand, and through the engine against the plain twin."""

from __future__ import annotations

import math

import pytest
import torch
from slow_decoder import slow_decoder

from gpu_backend.core import Event, Finished, LabelScores, LabelScoresReady, Usage
from gpu_backend.engine.readout import read
from gpu_backend.engine.rows import DueRow
from gpu_backend.engine.sequence import Sequence
from gpu_backend.layers.linear import can_pack
from support import request, run_dry, text_of, tiny_engine, tiny_model

WEIGHTS: dict[str, torch.Tensor] = {}
MODEL = tiny_model(recorded=WEIGHTS)
PROMPT = [5, 9, 33, 2, 71, 8, 8, 40, 12, 13, 90, 1, 66, 7, 21, 30, 31, 50, 4, 4, 17]


def test_label_scores_by_hand() -> None:
    """Weights 1, 2 and 5 sum to 8."""
    sequence = Sequence.of(request("r", [1], task=LabelScores((2, 0))), 0)
    (reading,) = read([DueRow(sequence, torch.tensor([1.0, 2.0, 5.0]).log())], {})
    assert reading.is_last and reading.token_ids == ()
    (scores,) = reading.events
    assert isinstance(scores, LabelScoresReady)
    assert scores.logits == pytest.approx((math.log(5), 0.0)) and scores.logprobs == pytest.approx((math.log(5 / 8), math.log(1 / 8)))


def scores_of(events: list[Event]) -> LabelScoresReady:
    scores, finished = events
    assert isinstance(scores, LabelScoresReady) and isinstance(finished, Finished) and finished.usage.completion_tokens == 0
    return scores


@pytest.mark.parametrize("limits", [{}, {"max_tokens_per_step": 4}, {"reuses_prefixes": False}])
def test_label_scores_equal_the_plain_twin(limits: dict[str, int]) -> None:
    expected = slow_decoder(WEIGHTS, PROMPT)[1][-1].double()
    labels = (90, 0, 33)
    engine = tiny_engine(MODEL, **limits)
    engine.add(request("company", [3, 4]))
    engine.add(request("r", PROMPT, task=LabelScores(labels)))
    scores = scores_of(run_dry(engine)["r"])
    assert scores.logits == pytest.approx([float(expected[label]) for label in labels], abs=1e-4)
    assert scores.logprobs == pytest.approx([float(expected[label] - expected.logsumexp(0)) for label in labels], abs=1e-4)
    assert engine.num_free_blocks == engine.config.num_kv_blocks


def is_rounded(scores: LabelScoresReady) -> bool:
    return torch.tensor(scores.logits).bfloat16().double().tolist() == list(scores.logits)


@pytest.mark.parametrize("tied", [True, False])
def test_labels_are_read_in_float32_where_the_weights_are_not(tied: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the C operators: torch's product of bfloat16 numbers is one, too. A head that was packed and is not the embedding gives nothing better."""
    model = tiny_model(dtype=torch.bfloat16, tie_word_embeddings=tied)
    assert model.rounds_logits is (tied or not can_pack(torch.bfloat16, torch.device("cpu")))
    compute_logits, seen = model.compute_logits, []
    monkeypatch.setattr(model, "compute_logits", lambda x_KH: seen.append(x_KH) or compute_logits(x_KH))
    asked = {"r": (90, 0, 33), "other": (5, 6), "again": (90, 0, 33)}
    alone = {}
    for name, labels in asked.items():
        engine = tiny_engine(model)
        engine.add(request(name, PROMPT, task=LabelScores(labels)))
        alone[name] = scores_of(run_dry(engine)[name])
        with torch.inference_mode():
            rounded_V, last_H = compute_logits(seen[-1])[0], model.final_norm(seen[-1])[0].float()
            expected_S = model.head_rows(torch.tensor(labels)) @ last_H if model.rounds_logits else rounded_V[list(labels)]
        assert alone[name].logits == pytest.approx(expected_S.tolist(), abs=1e-5)
        assert alone[name].logits == pytest.approx(rounded_V[list(labels)].tolist(), abs=2e-2)
        assert alone[name].logprobs == pytest.approx([logit - rounded_V.logsumexp(0).item() for logit in alone[name].logits], abs=2e-2)
        assert is_rounded(alone[name]) is not model.rounds_logits
    together = tiny_engine(model, max_tokens_per_step=128)
    together.add(request("writer", [3, 4]))
    for name, labels in asked.items():
        together.add(request(name, PROMPT, task=LabelScores(labels)))
    events = run_dry(together)
    for name, scores in alone.items():
        assert scores_of(events[name]).logits == pytest.approx(scores.logits, abs=0.1), "the right rows and columns"
        assert is_rounded(scores_of(events[name])) is not model.rounds_logits


def test_what_rounds_no_logits_is_left_alone() -> None:
    assert not MODEL.rounds_logits
    rows_KH = torch.randn(3, MODEL.config.hidden_size, generator=torch.Generator().manual_seed(0))
    every_S = torch.arange(MODEL.config.vocab_size)
    torch.testing.assert_close(MODEL.compute_few_logits(rows_KH, every_S), MODEL.compute_logits(rows_KH), rtol=1e-4, atol=1e-5)


def test_label_scores_and_generation_share_prefixes() -> None:
    """Blocks of 4: a judge that asks twice about 21 tokens computes the last one anew; generation finds the same blocks, and leaves some for a third."""
    engine = tiny_engine(MODEL)
    found = []
    for name, task in (("judge", LabelScores((1, 2))), ("again", LabelScores((1, 2))), ("writer", None)):
        engine.add(request(name, PROMPT, task=task))
        events = run_dry(engine)[name]
        found.append(events)
    assert scores_of(found[0]).logits == pytest.approx(scores_of(found[1]).logits, abs=1e-4)
    assert [events[-1] for events in found] == [Finished(Usage(21, 0, 0)), Finished(Usage(21, 0, 20)), Finished(Usage(21, 8, 20))]
    alone = tiny_engine(MODEL)
    alone.add(request("writer", PROMPT))
    assert text_of(found[2]) == text_of(run_dry(alone)["writer"])
