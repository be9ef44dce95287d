"""The recipes of the reward model (GRAM, arXiv 2506.14175): a debug run, the LoRA that Attune ships, and adaptation to a task from few pairs."""

from __future__ import annotations

import argparse
import json
import random
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from gpu_backend.config import load_catalog
from gpu_backend.data.judge_rows import judged_rows, text_rows
from gpu_backend.data.obvious_pairs import make_obvious_pairs
from gpu_backend.data.preference_pairs import PreferencePair, read_finegrained, read_gsm8k_solutions, read_gsm8k_train, read_hh_rlhf, read_pandalm
from gpu_backend.data.splits import part_of, without_overlap
from gpu_backend.losses.generative_reward import GenerativeRewardLossConfig
from gpu_backend.models.reward.judge import Judge
from gpu_backend.tokenizer import Tokenizer
from gpu_backend.train.lora_model import LoraModel, LoraSettings
from gpu_backend.train.train_reward import RewardTraining, train_reward


class RecipeError(ValueError):
    """A recipe that cannot run as asked; the message says what to change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardRecipe:
    """Which pairs are read and how the stages run. Pairs whose prompt has more than `max_tokens` (in stage 1, `stage_1_max_tokens`) are left out.

    Between the paper's two stages, a small judge first learns to compare at all, from `num_obvious_pairs` made by rule; `num_mixed_pairs` more of them
    are mixed into stage 2, so that it does not forget.
    """

    judge: str
    lora: LoraSettings
    num_pairs: int
    num_obvious_pairs: int
    num_mixed_pairs: int
    stage_1_pairs: int
    stage_1_max_tokens: int
    max_tokens: int
    criterion_rate: float = 0.4
    stage_1: RewardTraining
    obvious: RewardTraining
    stage_2: RewardTraining


_LOSS = GenerativeRewardLossConfig(epsilon=0.05, order_penalty=0.25)
SHIPPED = "gram-smollm2-135m"
RECIPES: dict[str, RewardRecipe] = {
    "reward_debug": RewardRecipe(
        judge=SHIPPED,
        lora=LoraSettings(rank=16, alpha=32),
        num_pairs=16,
        num_obvious_pairs=8,
        num_mixed_pairs=8,
        stage_1_pairs=8,
        stage_1_max_tokens=128,
        max_tokens=128,
        stage_1=RewardTraining(learning_rate=2e-4, rows_per_step=8),
        obvious=RewardTraining(learning_rate=3e-4, rows_per_step=8),
        stage_2=RewardTraining(learning_rate=3e-4, rows_per_step=8),
    ),
    "reward_embedded": RewardRecipe(
        judge=SHIPPED,
        lora=LoraSettings(rank=16, alpha=32),
        num_pairs=800,
        num_obvious_pairs=960,
        num_mixed_pairs=160,
        stage_1_pairs=320,
        stage_1_max_tokens=384,
        max_tokens=256,
        stage_1=RewardTraining(learning_rate=2e-4, rows_per_step=16),
        obvious=RewardTraining(learning_rate=3e-4, warmup_share=0.1, rows_per_step=16, loss=_LOSS),
        stage_2=RewardTraining(learning_rate=3e-4, rows_per_step=16, loss=_LOSS),
    ),
}


def run_recipe(name: str, options: argparse.Namespace) -> None:
    """Read the data, run both stages, and write the adapter in PEFT's form to `out`/adapter."""
    recipe = RECIPES[name]
    accelerator = Accelerator(mixed_precision="bf16")
    judge, base_folder = _judge_of(recipe, options)
    pairs = training_pairs(options)
    seed = options.seed
    model = LoraModel.from_folder(base_folder, recipe.lora, seed=seed)
    started = time.monotonic()
    texts = text_rows(judge, pairs, max_tokens=recipe.stage_1_max_tokens, seed=seed)[: recipe.stage_1_pairs]
    train_reward(model, texts, judge.label_ids, replace(recipe.stage_1, seed=seed), options.out / "stage_1", _print, accelerator)
    num_easy, num_all = recipe.num_obvious_pairs, recipe.num_obvious_pairs + recipe.num_mixed_pairs
    made = make_obvious_pairs(pairs, read_gsm8k_train(options.data), 2 * num_all, seed)
    easy = judged_rows(judge, made, max_tokens=recipe.max_tokens)[:num_all]
    train_reward(model, easy[:num_easy], judge.label_ids, replace(recipe.obvious, seed=seed), options.out / "obvious", _print, accelerator)
    rows = judged_rows(judge, pairs, max_tokens=recipe.max_tokens, criterion_rate=recipe.criterion_rate, seed=seed)[: recipe.num_pairs] + easy[num_easy:]
    train_reward(model, rows, judge.label_ids, replace(recipe.stage_2, seed=seed), options.out / "stage_2", _print, accelerator)
    if accelerator.is_main_process:
        model.save_adapter(options.out / "adapter", torch.bfloat16)
        summary = {"recipe": name, "seed": seed, "pairs": len(rows), "minutes": round((time.monotonic() - started) / 60, 1)}
        (options.out / "run.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")


def training_pairs(options: argparse.Namespace) -> list[PreferencePair]:
    """The training part of HH without anything that overlaps a test set, in random order."""
    if options.data is None:
        raise RecipeError("this recipe needs --data DIR, the folder of data sets (docs/rewards.md says what lies where)")
    parts: dict[str, list[PreferencePair]] = {"train": [], "validation": [], "test": []}
    for pair in read_hh_rlhf(options.data):
        parts[part_of(pair)].append(pair)
    held_out = [*parts["validation"], *parts["test"], *read_pandalm(options.data), *read_finegrained(options.data), *read_gsm8k_solutions(options.data)]
    pairs = without_overlap(parts["train"], held_out)
    random.Random(options.seed).shuffle(pairs)
    return pairs


def _judge_of(recipe: RewardRecipe, options: argparse.Namespace) -> tuple[Judge, Path]:
    """The judge of a model's row, and the folder of the base that it works on."""
    specs = {spec.id: spec for spec in load_catalog(options.catalog)}
    spec = specs[recipe.judge]
    base = specs[spec.base] if spec.base is not None else spec
    folder = base.folder(options.models_dir)
    if not folder.exists():
        raise RecipeError(f"{folder} does not exist: run `npm start` once, it fetches {base.id}")
    assert spec.judge is not None, "recipes name rows that judge"
    return Judge.from_folder(spec.folder(options.models_dir), Tokenizer.from_file(folder / "tokenizer.json"), spec.judge), folder


def _print(metrics: dict[str, Any]) -> None:
    numbers = " ".join(f"{name} {value:.4g}" for name, value in metrics.items() if name not in ("step", "steps"))
    print(f"step {metrics['step']}/{metrics['steps']}: {numbers}", flush=True)
