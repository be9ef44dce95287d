"""Training of exit adapters: which rows and targets they see, that the loss is the one by hand, that they learn, and that the base stays as it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from gpu_backend.data.judge_rows import TextRow
from gpu_backend.decoding.reference import full_logits, generate_greedily
from gpu_backend.models.causal_lm.exit_adapter import ExitAdapter
from gpu_backend.train.exit_model import ExitModel, exit_loss, exit_shares, shortlist_of
from gpu_backend.train.loop import Run, Training, train
from gpu_backend.train.own_answers import own_answers
from support import tiny_engine, tiny_model

ROWS = [TextRow((1, 5, 9, 80, 3, 7), 2, 6), TextRow((4, 4, 60, 2), 1, 4), TextRow((7, 8), 1, 2)]


def test_the_shortlist_has_what_comes_most_often_and_what_must_be_there() -> None:
    rows = [TextRow((9, 9, 9, 3, 3, 5, 2), 3, 7), TextRow((3, 2, 5, 5), 1, 4)]
    # Learned: 3 3 5 2 and 2 5 5.
    assert shortlist_of(rows, 3).tolist() == [5, 2, 3]
    assert shortlist_of(rows, 3, always=(96, 2)).tolist() == [96, 2, 5]
    assert shortlist_of(rows, 50).tolist() == [5, 2, 3]


def test_fresh_adapters_see_what_an_exit_there_would_see() -> None:
    base = tiny_model(num_hidden_layers=4)
    shortlist_S = torch.arange(97)
    model = ExitModel.fresh(base, (3, 1), shortlist_S, width=16, base_revision="r", seed=0)
    assert [adapter.config.exit_layer for adapter in model.exits] == [1, 3]
    logits, targets_K = model(ROWS)
    assert targets_K.tolist() == [9, 80, 3, 7, 4, 60, 2, 8]
    for adapter_logits_KS, depth in zip(logits, (1, 3), strict=True):
        short = tiny_model(num_hidden_layers=depth)
        wanted = [full_logits(short, list(row.ids))[index - 1] for row in ROWS for index in range(row.start, row.stop)]
        # The products are in bfloat16.
        assert torch.allclose(adapter_logits_KS, torch.stack(wanted), atol=0.05)


def test_tokens_outside_the_shortlist_are_no_target_but_count_as_wrong() -> None:
    base = tiny_model()
    model = ExitModel.fresh(base, (1,), torch.tensor([80, 3, 60, 8]), width=16, base_revision="r", seed=0)
    logits, targets_K = model(ROWS)
    assert targets_K.tolist() == [-1, 0, 1, -1, -1, 2, -1, 3]
    output = exit_loss(model, ROWS)
    kept = targets_K >= 0
    assert output.loss.item() == pytest.approx(torch.nn.functional.cross_entropy(logits[0][kept], targets_K[kept]).item())
    assert output.metrics["in_shortlist"] == 0.5
    num_right = int((logits[0].argmax(dim=-1) == targets_K).sum())
    assert output.metrics["right_0"] == num_right / 8
    assert exit_shares(model, ROWS, rows_per_pass=2) == [num_right / 8]


def test_adapters_learn_what_their_base_says_and_a_finished_run_stays_finished(tmp_path: Path) -> None:
    base = tiny_model(num_hidden_layers=4)
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    prompts = [(index, 3 * index % 97, 5) for index in range(1, 65)]
    rows = own_answers(tiny_engine(base, max_tokens_per_step=64), prompts, max_tokens=8, end_id=96)
    assert [list(row.ids[row.start :]) for row in rows[:3]] == [generate_greedily(base, list(prompt), 8) for prompt in prompts[:3]]

    def run(folder: Path, num_epochs: int) -> ExitModel:
        model = ExitModel.fresh(base, (1, 2), torch.arange(97), width=64, base_revision="r", seed=0)
        training = Training(learning_rate=1e-2, rows_per_step=16, rows_per_microbatch=8, num_epochs=num_epochs, checkpoint_every=4)
        train(model, Run(rows=rows, loss_of=exit_loss, training=training, folder=folder), Accelerator())
        return model

    untrained = exit_shares(ExitModel.fresh(base, (1, 2), torch.arange(97), width=64, base_revision="r", seed=0), rows)
    whole = run(tmp_path / "whole", 12)
    shares = exit_shares(whole, rows)
    assert all(share > start + 0.3 for share, start in zip(shares, untrained, strict=True)), (untrained, shares)
    assert all(torch.equal(tensor, before[name]) for name, tensor in base.state_dict().items())
    lines = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["loss"] < lines[0]["loss"] / 2 and {"right_0", "right_1", "in_shortlist"} <= lines[0].keys()

    again = run(tmp_path / "whole", 12)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))
    adapter = whole.exits[0]
    adapter.save(tmp_path / "adapter", torch.float32)
    assert torch.equal(ExitAdapter.load(tmp_path / "adapter").gate_up, adapter.gate_up)
