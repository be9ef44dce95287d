"""Training of exit adapters: which rows and targets they see, that the loss is the one by hand, that they learn, and that the base stays as it is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from gpu_backend.data.judge_rows import TextRow
from gpu_backend.decoding.reference import full_logits, generate_greedily, whole_texts
from gpu_backend.models.causal_lm.exit_adapter import ExitAdapter
from gpu_backend.models.causal_lm.model import CausalLM
from gpu_backend.train.exit_model import ExitModel, exit_loss, exit_shares, shortlist_of
from gpu_backend.train.exit_states import answer_states
from gpu_backend.train.loop import Run, Training, train
from gpu_backend.train.own_answers import own_answers
from support import tiny_engine, tiny_model

ROWS = [TextRow((1, 5, 9, 80, 3, 7), 2, 6), TextRow((4, 4, 60, 2), 1, 4), TextRow((7, 8), 1, 2)]
INNER = (2,)


def test_the_shortlist_has_what_comes_most_often_and_what_must_be_there() -> None:
    rows = [TextRow((9, 9, 9, 3, 3, 5, 2), 3, 7), TextRow((3, 2, 5, 5), 1, 4)]
    # Learned: 3 3 5 2 and 2 5 5.
    assert shortlist_of(rows, 3).tolist() == [5, 2, 3]
    assert shortlist_of(rows, 3, always=(96, 2)).tolist() == [96, 2, 5]
    assert shortlist_of(rows, 50).tolist() == [5, 2, 3]


def fresh(base: CausalLM, exit_layers: tuple[int, ...], shortlist_S: torch.Tensor, *, width: int = 16, num_ahead: int = 2) -> ExitModel:
    return ExitModel.fresh(base, exit_layers, INNER, shortlist_S, width=width, num_ahead=num_ahead, base_revision="r", seed=0)


def test_states_are_those_of_the_base_at_each_position_of_the_answer() -> None:
    base = tiny_model(num_hidden_layers=4)
    done: list[tuple[int, int]] = []
    first, second = answer_states(base, ROWS, (1, 3), INNER, lambda *counts: done.append(counts))
    assert done == [(3, 3)]
    # Of (1, 5, 9, 80, 3, 7) the answer is 9 80 3 7; at 9, 80 and 3 the next is guessed. The answer (8,) is a single token.
    assert first.next_P.tolist() == [80, 3, 7] and second.next_P.tolist() == [60, 2]
    assert first.exits_EPH.shape == (2, 3, 32) and first.deep_QRH.shape == (4, 2, 32) and first.num_tokens == 3
    batch, cache = whole_texts(base, [ROWS[0].ids])
    x_NH = base.embed(batch.token_ids_N)
    after = {layer: (x_NH := base.run_layers(x_NH, layer - 1, layer, cache, batch)) for layer in range(1, 5)}
    for index, layer in enumerate((1, 3)):
        assert torch.allclose(first.exits_EPH[index].float(), after[layer][2:5], rtol=0.01, atol=0.01)
    assert torch.allclose(first.deep_QRH.float(), torch.stack((after[2], after[4]), dim=1)[1:5], rtol=0.01, atol=0.01)


def test_fresh_adapters_see_what_an_exit_there_would_see() -> None:
    base = tiny_model(num_hidden_layers=4)
    model = fresh(base, (1, 3), torch.arange(97))
    assert [adapter.config.exit_layer for adapter in model.exits] == [1, 3]
    guesses = model(answer_states(base, ROWS, (1, 3), INNER))
    deepest = torch.cat([full_logits(base, list(row.ids))[row.start : row.stop - 1] for row in ROWS])
    for ahead, depth in zip(guesses, (1, 3), strict=True):
        short = tiny_model(num_hidden_layers=depth)
        wanted = torch.cat([full_logits(short, list(row.ids))[row.start : row.stop - 1] for row in ROWS])
        assert ahead[0].places_K.tolist() == [80, 3, 7, 60, 2]
        # States and products are in bfloat16.
        assert torch.allclose(ahead[0].logits_KS, wanted, atol=0.06)
        assert torch.allclose(ahead[0].base_logits_KS, deepest, atol=0.06)


def test_a_guess_after_a_guess_is_made_from_the_state_before_it() -> None:
    base = tiny_model(num_hidden_layers=4)
    model = fresh(base, (1,), torch.arange(97), num_ahead=3)
    adapter = model.exits[0]
    with torch.no_grad():
        for weight in (adapter.fuse_deep, adapter.mix, adapter.down):
            weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)) * 0.2)
    states = answer_states(base, ROWS, (1,), INNER)
    (ahead,) = model(states)
    assert [guesses.places_K.tolist() for guesses in ahead] == [[80, 3, 7, 60, 2], [3, 7, 2], [7]]
    (x_PH,), deep_QRH = states[0].exits_EPH.float(), states[0].deep_QRH.float()
    z_1H = adapter.fuse(deep_QRH[:1])
    for at in range(3):
        # The third guess in a row, at the answer's third position: full depth was one position before its first.
        z_1H = adapter(x_PH[at : at + 1], z_1H)
    assert torch.allclose(ahead[2].logits_KS, adapter.read(z_1H) @ base.head_rows(torch.arange(97)).T, atol=0.15)


def test_the_loss_by_hand_and_shares_of_all_tokens_also_of_those_outside_the_shortlist() -> None:
    base = tiny_model()
    shortlist_S = torch.tensor([80, 3, 60, 8])
    model = fresh(base, (1,), shortlist_S)
    states = answer_states(base, ROWS, (1,), INNER)
    (ahead,) = model(states)
    assert [guesses.places_K.tolist() for guesses in ahead] == [[0, 1, -1, 2, -1], [1, -1, -1]]
    losses = []
    for guesses in ahead:
        shares_KS = torch.exp(guesses.base_logits_KS) / torch.exp(guesses.base_logits_KS).sum(dim=1, keepdim=True)
        log_shares_KS = guesses.logits_KS - torch.log(torch.exp(guesses.logits_KS).sum(dim=1, keepdim=True))
        losses.append(-(shares_KS * log_shares_KS).sum() / len(shares_KS))
    output = exit_loss(model, states)
    assert output.loss.item() == pytest.approx(sum(losses).item() / 2, abs=1e-5)
    right = [int((guesses.logits_KS.argmax(dim=-1) == guesses.places_K).sum()) for guesses in ahead]
    assert [output.metrics["right_0_1"], output.metrics["right_0_2"]] == pytest.approx([right[0] / 5, right[1] / 3])
    (shares,) = exit_shares(model, states, answers_per_pass=1)
    assert shares.by_number == pytest.approx((right[0] / 5, right[1] / 3))


def test_shares_by_tenths_of_probability() -> None:
    base = tiny_model(num_hidden_layers=4)
    model = fresh(base, (3,), torch.arange(97), num_ahead=1)
    with torch.no_grad():
        model.exits[0].out_norm.mul_(2)
    rows = [TextRow(tuple((7 * index + 3 * at * at) % 97 for at in range(12)), 2, 12) for index in range(8)]
    states = answer_states(base, rows, (3,), INNER)
    # The base is made to have said what the adapter guesses, at every other position.
    ((guesses,),) = model(states)
    best_K = guesses.logits_KS.argmax(dim=-1)
    said = torch.where(torch.arange(len(best_K)) % 2 == 0, best_K, (best_K + 1) % 97).split([state.num_tokens for state in states])
    states = [replace(state, next_P=next_P) for state, next_P in zip(states, said, strict=True)]
    counts: dict[int, list[bool]] = {}
    for index, logits_S in enumerate(guesses.logits_KS):
        counts.setdefault(min(9, int(10 * torch.softmax(logits_S, dim=0).amax())), []).append(index % 2 == 0)
    assert len(counts) > 2 and len({sum(right) / len(right) for right in counts.values()}) > 1
    (shares,) = exit_shares(model, states)
    assert shares.by_number == (0.5,)
    assert shares.by_tenth == pytest.approx([sum(counts[tenth]) / len(counts[tenth]) if tenth in counts else tenth / 10 + 0.05 for tenth in range(10)])


def test_adapters_learn_what_their_base_says_and_a_finished_run_stays_finished(tmp_path: Path) -> None:
    base = tiny_model(num_hidden_layers=4)
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    prompts = [(index, 3 * index % 97, 5) for index in range(1, 65)]
    rows = own_answers(tiny_engine(base, max_tokens_per_step=64), prompts, max_tokens=8, end_id=96)
    assert [list(row.ids[row.start :]) for row in rows[:3]] == [generate_greedily(base, list(prompt), 8) for prompt in prompts[:3]]
    states = answer_states(base, rows, (1, 2), INNER)

    def run(folder: Path, num_epochs: int) -> ExitModel:
        model = fresh(base, (1, 2), torch.arange(97), width=64)
        training = Training(learning_rate=1e-2, rows_per_step=16, rows_per_microbatch=8, num_epochs=num_epochs, checkpoint_every=4)
        train(model, Run(rows=states, loss_of=exit_loss, training=training, folder=folder), Accelerator())
        return model

    untrained = exit_shares(fresh(base, (1, 2), torch.arange(97), width=64), states)
    whole = run(tmp_path / "whole", 12)
    shares = exit_shares(whole, states)
    for learned, start in zip(shares, untrained, strict=True):
        assert all(share > at_start + 0.3 for share, at_start in zip(learned.by_number, start.by_number, strict=True)), (untrained, shares)
    assert all(torch.equal(tensor, before[name]) for name, tensor in base.state_dict().items())
    lines = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["right_0_1"] > lines[0]["right_0_1"] + 0.3 and {"right_1_2", "loss"} <= lines[0].keys()

    again = run(tmp_path / "whole", 12)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))
    adapter = whole.exits[0]
    adapter.save(tmp_path / "adapter", torch.float32)
    assert torch.equal(ExitAdapter.load(tmp_path / "adapter").gate_up, adapter.gate_up)
