"""Training of the generative reward model on tiny random models: restarts, microbatches, padding, processes, and where the margin ends."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("peft", reason="tests of training need peft and accelerate: requirements/test.txt")

import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from gpu_backend.config import EngineConfig
from gpu_backend.core import LabelScores, LabelScoresReady
from gpu_backend.data.judge_rows import JudgedRow, TextRow, in_one_order
from gpu_backend.engine.local_engine import engine_around
from gpu_backend.evals.engine_judge import read_adapter
from gpu_backend.losses.generative_reward import GenerativeRewardLoss, GenerativeRewardLossConfig, winner_margins
from gpu_backend.models.causal_lm.weights import load_causal_lm
from gpu_backend.train.lora_model import LoraModel, LoraSettings
from gpu_backend.train.train_reward import RewardTraining, judge_rows, rows_with_own_verdicts, train_reward
from support import byte_tokenizer, request, run_dry
from train_support import LABELS, easy_rows, losses, tiny_lora, write_base

TRAINING = RewardTraining(learning_rate=1e-3, rows_per_step=8, num_epochs=4, checkpoint_every=3)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base"))


def trained(base: Path, folder: Path, training: RewardTraining = TRAINING, rows: list[JudgedRow] | None = None) -> LoraModel:
    model = tiny_lora(base)
    train_reward(model, rows or easy_rows(16), LABELS, training, folder)
    return model


def test_a_killed_run_goes_on_with_the_same_losses_bit_for_bit(base: Path, tmp_path: Path) -> None:
    class KilledError(Exception):
        pass

    def die(metrics: dict[str, float]) -> None:
        if metrics["step"] == 5:
            raise KilledError

    whole = trained(base, tmp_path / "whole")
    with pytest.raises(KilledError):
        train_reward(tiny_lora(base), easy_rows(16), LABELS, TRAINING, tmp_path / "killed", die)
    # Another seed gives another A: only the checkpoint can bring the right one back.
    resumed = tiny_lora(base, seed=7)
    train_reward(resumed, easy_rows(16), LABELS, TRAINING, tmp_path / "killed")
    expected, found = losses(tmp_path / "whole"), losses(tmp_path / "killed")
    # Steps 1 to 5, then from the checkpoint after step 3 on: 4 to 8.
    assert found[:5] == expected[:5] and found[5:] == expected[3:]
    for name, tensor in whole.adapter_state().items():
        assert torch.equal(tensor, resumed.adapter_state()[name]), name


def test_a_finished_run_is_not_trained_further(base: Path, tmp_path: Path) -> None:
    model = trained(base, tmp_path)
    again = trained(base, tmp_path)
    assert all(torch.equal(tensor, again.adapter_state()[name]) for name, tensor in model.adapter_state().items())
    assert len(losses(tmp_path)) == 8


def test_microbatches_change_nothing_but_rounding(base: Path, tmp_path: Path) -> None:
    trained(base, tmp_path / "large")
    trained(base, tmp_path / "small", replace(TRAINING, rows_per_microbatch=1))
    assert losses(tmp_path / "small") == pytest.approx(losses(tmp_path / "large"), abs=1e-5)


def test_padding_changes_no_logit(base: Path) -> None:
    model, rows = tiny_lora(base), easy_rows(6)
    assert len({row.num_tokens for row in rows}) > 1
    together, alone = judge_rows(model, rows, LABELS), judge_rows(model, rows, LABELS, rows_per_microbatch=1)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_a_row_in_one_order_is_read_as_that_half_of_it(base: Path) -> None:
    model, rows = tiny_lora(base), easy_rows(6)
    whole, half = judge_rows(model, rows, LABELS), judge_rows(model, in_one_order(rows, seed=1), LABELS)
    is_seen = half.abs().sum(dim=2) > 0
    assert is_seen.sum(dim=1).tolist() == [1] * 6 and is_seen[:, 0].any() and is_seen[:, 1].any()
    torch.testing.assert_close(half[is_seen], whole[is_seen], atol=1e-5, rtol=0)


def test_rows_in_one_order_are_learned_together_with_whole_ones(base: Path, tmp_path: Path) -> None:
    model = tiny_lora(base)
    rows = in_one_order(easy_rows(12), seed=1) + easy_rows(4, seed=2)
    train_reward(model, rows, LABELS, RewardTraining(learning_rate=1e-2, rows_per_step=16, num_epochs=60, checkpoint_every=1000), tmp_path)
    margins, is_seen = winner_margins(judge_rows(model, rows, LABELS)), judge_rows(model, rows, LABELS).abs().sum(dim=2) > 0
    assert is_seen.sum().item() == 12 + 2 * 4
    assert (margins[is_seen] > 1).all(), "of each pair the orders that were seen"


def test_a_fresh_lora_is_the_base(base: Path) -> None:
    rows = easy_rows(4)
    reference = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    found = judge_rows(tiny_lora(base), rows, LABELS)
    for row, logits_22 in zip(rows, found, strict=True):
        for prompt, logits_2 in zip((row.better_first, row.better_second), logits_22, strict=True):
            expected = reference(torch.tensor([prompt])).logits[0, -1, list(LABELS)]
            torch.testing.assert_close(logits_2, expected, atol=1e-5, rtol=0)


def test_the_loss_sees_no_token_after_the_label_and_only_its_position_gets_a_gradient(base: Path) -> None:
    reference = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    row = easy_rows(1)[0]

    def loss_and_gradient(after: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
        """The whole sequence's logits, so that the gradient of every position can be looked at."""
        logits_2TV = reference(torch.tensor([(*row.better_first, *after), (*row.better_second, *after)])).logits.detach().requires_grad_()
        last = len(row.better_first) - 1
        loss = GenerativeRewardLoss(GenerativeRewardLossConfig())(logits_2TV[:, last, list(LABELS)].unsqueeze(0)).loss
        loss.backward()
        assert logits_2TV.grad is not None
        return loss.detach(), logits_2TV.grad.abs()

    first, gradient = loss_and_gradient((LABELS[0], 50, 60))
    second, _ = loss_and_gradient((LABELS[0], 70, 80))
    torch.testing.assert_close(first, second, atol=1e-6, rtol=0)
    last = len(row.better_first) - 1
    assert gradient[:, last, list(LABELS)].min() > 0
    gradient[:, last, list(LABELS)] = 0
    assert gradient.max() == 0


@pytest.mark.parametrize("epsilon", [0.05, 0.1])
def test_the_margin_goes_towards_its_best_and_not_past_it(base: Path, tmp_path: Path, epsilon: float) -> None:
    training = RewardTraining(learning_rate=1e-2, rows_per_step=16, num_epochs=120, checkpoint_every=1000, loss=GenerativeRewardLossConfig(epsilon))
    rows = easy_rows(16)
    model = trained(base, tmp_path, training, rows)
    margins = winner_margins(judge_rows(model, rows, LABELS))
    best = math.log((1 - epsilon) / epsilon)
    assert (margins > 0).all()
    assert 0.8 * best < margins.mean().item() < 1.02 * best


def test_each_order_learns_the_mean_of_both(base: Path, tmp_path: Path) -> None:
    # A judge that was stopped early has a position bias.
    model, rows = trained(base, tmp_path / "before", replace(TRAINING, learning_rate=1e-2)), easy_rows(16, seed=3)
    before_P2 = winner_margins(judge_rows(model, rows, LABELS))
    taught = rows_with_own_verdicts(model, rows, LABELS, tmp_path / "own" / "verdicts.json")
    mean_P = before_P2.mean(dim=1)
    assert [row.epsilon for row in taught] == pytest.approx(torch.sigmoid(-mean_P).tolist(), abs=1e-6)
    train_reward(model, taught, LABELS, RewardTraining(learning_rate=3e-3, rows_per_step=16, num_epochs=80, checkpoint_every=1000), tmp_path / "own")
    after_P2 = winner_margins(judge_rows(model, rows, LABELS))
    assert (before_P2[:, 0] - before_P2[:, 1]).abs().mean() > 0.2
    assert (after_P2 - mean_P.unsqueeze(1)).abs().mean() < (before_P2 - mean_P.unsqueeze(1)).abs().mean() / 3


def test_own_verdicts_are_those_of_before_when_a_run_goes_on(base: Path, tmp_path: Path) -> None:
    model, rows, path = tiny_lora(base), easy_rows(8), tmp_path / "verdicts.json"
    first = rows_with_own_verdicts(model, rows, LABELS, path)
    train_reward(model, rows, LABELS, replace(TRAINING, learning_rate=1e-2), tmp_path)
    assert rows_with_own_verdicts(model, rows, LABELS, path) == first
    path.unlink()
    assert rows_with_own_verdicts(model, rows, LABELS, path) != first


def test_stage_1_learns_the_tokens_of_the_span(base: Path, tmp_path: Path) -> None:
    rows = [TextRow((5, 6, 7, *[(5 + step) for step in range(6)]), 3, 9)] * 8
    model = tiny_lora(base)
    train_reward(model, rows, LABELS, RewardTraining(learning_rate=1e-2, rows_per_step=8, num_epochs=20), tmp_path)
    found = losses(tmp_path)
    assert found[-1] < found[0] / 4


def test_the_saved_adapter_gives_the_same_logits_in_peft_and_in_the_engine(base: Path, tmp_path: Path) -> None:
    model, rows = trained(base, tmp_path), easy_rows(3)
    model.save_adapter(tmp_path / "adapter", torch.bfloat16)
    ours = judge_rows(LoraModel.continued(base, tmp_path / "adapter", dtype=torch.float32), rows, LABELS)
    in_peft = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), str(tmp_path / "adapter")).eval()
    adapter = read_adapter(tmp_path / "adapter")
    served = load_causal_lm(base, dtype=torch.float32, device=torch.device("cpu"))
    config = EngineConfig(max_num_sequences=4, max_tokens_per_step=16, kv_block_size=4, kv_cache_tokens=256)
    engine = engine_around(served, byte_tokenizer(), adapter, config)
    for number, row in enumerate(rows):
        for prompt, logits_2 in zip((row.better_first, row.better_second), ours[number], strict=True):
            theirs = in_peft(torch.tensor([prompt])).logits[0, -1, list(LABELS)]
            engine.add(replace(request("one", list(prompt), task=LabelScores(LABELS)), adapter=adapter.id))
            (scores,) = [event for event in run_dry(engine)["one"] if isinstance(event, LabelScoresReady)]
            torch.testing.assert_close(logits_2, theirs, atol=1e-4, rtol=0)
            torch.testing.assert_close(torch.tensor(scores.logits), theirs, atol=2e-2, rtol=0)
    # What was learned is more than the tolerance.
    assert (ours - judge_rows(tiny_lora(base), rows, LABELS)).abs().max() > 0.1


def test_an_adapter_of_another_kind_is_refused(base: Path, tmp_path: Path) -> None:
    tiny_lora(base).save_adapter(tmp_path)
    config = (tmp_path / "adapter_config.json").read_text()
    (tmp_path / "adapter_config.json").write_text(config.replace('"q_proj",', ""))
    with pytest.raises(ValueError, match="target_modules"):
        LoraModel.continued(base, tmp_path)


def test_too_few_rows_for_a_step_are_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="fill no step"):
        train_reward(tiny_lora(base), easy_rows(3), LABELS, TRAINING, tmp_path)


def test_two_processes_train_the_same_adapter_as_one(base: Path, tmp_path: Path) -> None:
    training = RewardTraining(learning_rate=1e-3, rows_per_step=8, num_epochs=2)
    model = trained(base, tmp_path / "one", training)
    here = Path(__file__)
    paths = os.pathsep.join([*sys.path, str(here.parents[1])])
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(here.parent / "two_processes.py")]
    env = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    result = subprocess.run([*command, str(base), str(tmp_path / "two")], env=env, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    found = load_file(tmp_path / "two" / "adapter" / "adapter_model.safetensors")
    for name, tensor in model.adapter_state().items():
        torch.testing.assert_close(found[name], tensor, atol=1e-4, rtol=0)


def test_rows_per_step_are_shared_evenly_or_not_at_all(base: Path, tmp_path: Path) -> None:
    class Three:
        num_processes = 3

    with pytest.raises(ValueError, match="multiple of the number of processes"):
        train_reward(tiny_lora(base), easy_rows(16), LABELS, TRAINING, tmp_path, accelerator=Three())


def test_settings_reach_the_lora(base: Path) -> None:
    config = LoraModel.from_folder(base, LoraSettings(rank=2, alpha=6), seed=0).peft.peft_config["default"]
    assert (config.r, config.lora_alpha) == (2, 6)


def test_swap_consistency_rises_with_training(base: Path, tmp_path: Path) -> None:
    """The share of held-out pairs with the same verdict in both orders: of a judge that knows nothing no more than chance, half of them."""
    held_out = easy_rows(60, seed=5)

    def consistency(model: LoraModel) -> float:
        is_right_P2 = winner_margins(judge_rows(model, held_out, LABELS)) > 0
        return (is_right_P2[:, 0] == is_right_P2[:, 1]).float().mean().item()

    before = consistency(tiny_lora(base))
    training = RewardTraining(learning_rate=5e-3, rows_per_step=8, num_epochs=4, checkpoint_every=1000)
    after = consistency(trained(base, tmp_path, training, easy_rows(120)))
    assert before < 0.55 and after > 0.9
