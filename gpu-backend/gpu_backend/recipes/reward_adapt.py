"""Few-shot adaptation: goes on training a reward adapter on a few hundred pairs of one's own, and says what that did to pairs held out from it."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator

from gpu_backend.data.judge_rows import JudgedRow, judged_rows
from gpu_backend.data.preference_pairs import PreferencePair, read_pair_file
from gpu_backend.data.splits import hold_out
from gpu_backend.losses.generative_reward import GenerativeRewardLossConfig, winner_margins
from gpu_backend.recipes.judge_row import SHIPPED, JudgeRow, RecipeError, needed, open_judge_row, print_step
from gpu_backend.recipes.reward import write_summary
from gpu_backend.train.lora_model import LoraModel
from gpu_backend.train.train_reward import RewardTraining, judge_rows, train_reward

TRAINING = RewardTraining(learning_rate=1e-4, rows_per_step=8, num_epochs=2, loss=GenerativeRewardLossConfig(epsilon=0.05, order_penalty=0.25))


def run_adapt(options: argparse.Namespace) -> None:
    """To `out`/adapter; with `hold_out` above 0 also `out`/held_out.json, the accuracy on that share of the pairs before and after."""
    if not 0 <= options.hold_out < 1:
        raise RecipeError(f"--hold-out must be at least 0 and below 1, got {options.hold_out}")
    row = open_judge_row(SHIPPED, options)
    try:
        pairs = read_pair_file(needed(options, "pairs", "FILE, lines of {prompt, chosen, rejected}"))
        model = LoraModel.continued(row.base_folder, options.adapter or row.folder)
    except ValueError as error:
        raise RecipeError(str(error)) from error
    train_part, held_part = hold_out(pairs, options.hold_out)
    rows, held_rows = _rows(row, train_part), _rows(row, held_part)
    print(f"{len(rows)} pairs to train on, {len(held_rows)} held out, {len(pairs) - len(rows) - len(held_rows)} too long", flush=True)
    if len(rows) < TRAINING.rows_per_step:
        raise RecipeError(f"at least {TRAINING.rows_per_step} pairs are needed to train on")
    accelerator, started = Accelerator(mixed_precision="bf16"), time.monotonic()
    before = _measure(model, row, held_rows, accelerator)
    train_reward(model, rows, row.judge.label_ids, replace(TRAINING, seed=options.seed), options.out / "adapt", print_step, accelerator)
    after = _measure(model, row, held_rows, accelerator)
    if accelerator.is_main_process:
        model.save_adapter(options.out / "adapter", torch.bfloat16)
        write_summary(options.out, "reward_adapt", options.seed, len(rows), started)
        if held_rows:
            _report(options.out, len(held_rows), before, after)


def _rows(row: JudgeRow, pairs: Sequence[PreferencePair]) -> list[JudgedRow]:
    return judged_rows(row.judge, pairs, max_tokens=row.spec.max_tokens)


def _measure(model: LoraModel, row: JudgeRow, rows: list[JudgedRow], accelerator: Accelerator) -> float:
    """Accuracy averaged over both orders; a tie is worth half."""
    if not rows or not accelerator.is_main_process:
        return float("nan")
    margin_P = winner_margins(judge_rows(model, rows, row.judge.label_ids)).mean(dim=1)
    return float(((margin_P > 0).float() + (margin_P == 0).float() / 2).mean())


def _report(out: Path, num_pairs: int, before: float, after: float) -> None:
    print(f"accuracy on {num_pairs} held-out pairs: {before:.3f} before, {after:.3f} after", flush=True)
    numbers = {"pairs": num_pairs, "accuracy_before": before, "accuracy_after": after}
    (out / "held_out.json").write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")
