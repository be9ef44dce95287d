"""The recipes of the generative reward model (GRAM, arXiv 2506.14175): a debug run and the LoRA that Attune ships; and the scalar model beside it."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch
from accelerate import Accelerator

from gpu_backend.chat_template import ChatTemplate
from gpu_backend.data.judge_rows import in_one_order, judged_pairs, judged_rows, text_rows
from gpu_backend.data.obvious_pairs import make_obvious_pairs
from gpu_backend.data.preference_pairs import PreferencePair, read_gsm8k_train
from gpu_backend.data.scalar_rows import scalar_rows
from gpu_backend.data.training_part import hh_training_pairs
from gpu_backend.losses.generative_reward import GenerativeRewardLossConfig
from gpu_backend.recipes.judge_row import SHIPPED, RecipeError, needed, open_judge_row, print_step
from gpu_backend.train.lora_model import LoraModel, LoraSettings
from gpu_backend.train.scalar_model import ScalarModel
from gpu_backend.train.train_reward import RewardTraining, rows_with_own_verdicts, train_reward
from gpu_backend.train.train_scalar_reward import train_scalar_reward

DATA = "DIR, the folder of data sets (docs/training.md says what lies where)"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaughtStage:
    """Each order learns what the judge itself said over both before the stage: of `num_pairs` of people's, of up to `max_tokens`, after as many as such stages
    before it took, and of `num_made` made ones."""

    folder: str
    num_pairs: int
    num_made: int
    max_tokens: int
    training: RewardTraining


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardRecipe:
    """Which pairs are read, `num_read_pairs` or all, and how the stages run. A prompt of more than `max_tokens` loses its oldest turns; one that is too
    long with the last turn alone, or in stage 1 has more than `stage_1_max_tokens`, is left out.

    Between the paper's two stages, a small judge first learns to compare at all, from `num_obvious_pairs` made by rule; `num_mixed_pairs` more of them
    are mixed into stage 2, so that it does not forget, and `num_last_pairs` into its second part, which sees every pair once more, in one order, and into its
    third, which sees them again, those about harmlessness twice: helpful answers are three times as many, and often the others' opposite. The fourth reads
    `num_both_pairs` once more, and half as many of the other two kinds, in both orders at once, and weighs it heavily when these do not agree.
    At last come the `taught` stages.
    """

    judge: str
    lora: LoraSettings
    num_read_pairs: int | None = None
    num_pairs: int
    num_obvious_pairs: int
    num_mixed_pairs: int
    num_last_pairs: int
    stage_1_pairs: int
    stage_1_max_tokens: int
    obvious_max_tokens: int
    max_tokens: int
    criterion_rate: float = 0.4
    stage_1: RewardTraining
    obvious: RewardTraining
    stage_2: RewardTraining
    stage_2_last: RewardTraining
    stage_2_again: RewardTraining
    num_both_pairs: int
    stage_2_both: RewardTraining
    taught: tuple[TaughtStage, ...]


RowT = TypeVar("RowT")
_LOSS = GenerativeRewardLossConfig(epsilon=0.05, order_penalty=0.25)
RECIPES: dict[str, RewardRecipe] = {
    "reward_debug": RewardRecipe(
        judge=SHIPPED,
        lora=LoraSettings(rank=16, alpha=32),
        num_read_pairs=48,
        num_pairs=16,
        num_obvious_pairs=8,
        num_mixed_pairs=8,
        num_last_pairs=8,
        stage_1_pairs=8,
        stage_1_max_tokens=256,
        obvious_max_tokens=128,
        max_tokens=128,
        stage_1=RewardTraining(learning_rate=2e-4, rows_per_step=8),
        obvious=RewardTraining(learning_rate=3e-4, rows_per_step=8),
        stage_2=RewardTraining(learning_rate=3e-4, rows_per_step=8),
        stage_2_last=RewardTraining(learning_rate=3e-4, rows_per_step=8),
        stage_2_again=RewardTraining(learning_rate=3e-4, rows_per_step=8),
        num_both_pairs=8,
        stage_2_both=RewardTraining(learning_rate=2e-4, rows_per_step=8),
        taught=(
            TaughtStage(folder="both_orders", num_pairs=8, num_made=8, max_tokens=192, training=RewardTraining(learning_rate=2e-4, rows_per_step=8)),
            TaughtStage(folder="both_orders_long", num_pairs=8, num_made=0, max_tokens=192, training=RewardTraining(learning_rate=2e-4, rows_per_step=8)),
        ),
    ),
    "reward_embedded": RewardRecipe(
        judge=SHIPPED,
        lora=LoraSettings(rank=16, alpha=32),
        num_pairs=3200,
        num_obvious_pairs=2560,
        num_mixed_pairs=2000,
        num_last_pairs=1200,
        stage_1_pairs=160,
        stage_1_max_tokens=384,
        obvious_max_tokens=160,
        max_tokens=224,
        stage_1=RewardTraining(learning_rate=2e-4, rows_per_step=16),
        obvious=RewardTraining(learning_rate=3e-4, warmup_share=0.1, rows_per_step=16, loss=_LOSS),
        stage_2=RewardTraining(learning_rate=2e-4, rows_per_step=16, loss=_LOSS),
        stage_2_last=RewardTraining(learning_rate=3e-4, rows_per_step=32, rows_per_microbatch=8, loss=_LOSS),
        stage_2_again=RewardTraining(learning_rate=3e-4, rows_per_step=32, rows_per_microbatch=8, loss=_LOSS),
        num_both_pairs=800,
        stage_2_both=RewardTraining(learning_rate=2e-4, rows_per_step=16, loss=GenerativeRewardLossConfig(epsilon=0.05, order_penalty=1.0)),
        # Attention of long rows one at a time stays in the cache: two and a half times as fast as four together.
        taught=(
            TaughtStage(
                folder="both_orders",
                num_pairs=1200,
                num_made=240,
                max_tokens=512,
                training=RewardTraining(learning_rate=3e-4, rows_per_step=16, rows_per_microbatch=1),
            ),
            TaughtStage(
                folder="both_orders_long",
                num_pairs=4000,
                num_made=400,
                max_tokens=768,
                training=RewardTraining(learning_rate=2e-4, rows_per_step=8, rows_per_microbatch=1),
            ),
        ),
    ),
}


def run_generative(name: str, options: argparse.Namespace) -> None:
    """Read the data, run all stages, and write the adapter in PEFT's form to `out`/adapter."""
    recipe = RECIPES[name]
    accelerator = Accelerator(mixed_precision="bf16")
    row = open_judge_row(recipe.judge, options)
    judge, seed, data = row.judge, options.seed, needed(options, "data", DATA)
    pairs = hh_training_pairs(data, seed)[: recipe.num_read_pairs]
    model = LoraModel.from_folder(row.base_folder, recipe.lora, seed=seed)
    started = time.monotonic()
    texts = text_rows(judge, pairs, max_tokens=recipe.stage_1_max_tokens, seed=seed)[: recipe.stage_1_pairs]
    train_reward(model, texts, judge.label_ids, replace(recipe.stage_1, seed=seed), options.out / "stage_1", print_step, accelerator)
    easy, mixed, last, again = _in_turn(judged_rows(judge, _made_pairs(recipe, pairs, data, seed), max_tokens=recipe.obvious_max_tokens), _made_counts(recipe))
    preferred, anew = (
        judged_rows(judge, pairs, max_tokens=recipe.max_tokens, criterion_rate=recipe.criterion_rate, seed=number) for number in (seed, seed + 1)
    )
    kept = judged_pairs(judge, pairs, max_tokens=recipe.max_tokens, criterion_rate=recipe.criterion_rate, seed=seed + 1)
    # Other rows name their criterion the second time.
    harmless = [row for pair, row in zip(kept, anew, strict=True) if pair.criterion == "harmlessness"]
    num_both = recipe.num_both_pairs
    both = anew[:num_both] + harmless[: num_both // 2] + again[: num_both // 2]
    stages = (
        ("obvious", recipe.obvious, easy),
        ("stage_2", recipe.stage_2, preferred[: recipe.num_pairs] + mixed),
        ("stage_2_last", recipe.stage_2_last, in_one_order(preferred, seed) + last),
        ("stage_2_again", recipe.stage_2_again, in_one_order(anew + harmless, seed + 1) + again),
        ("stage_2_both", recipe.stage_2_both, both),
    )
    for folder, training, rows in stages:
        train_reward(model, rows, judge.label_ids, replace(training, seed=seed), options.out / folder, print_step, accelerator)
    num_rows, num_taken = sum(len(rows) for _, _, rows in stages), 0
    for number, stage in enumerate(recipe.taught, start=2):
        folder = options.out / stage.folder
        longer = judged_rows(judge, pairs, max_tokens=stage.max_tokens, criterion_rate=recipe.criterion_rate, seed=seed + number)
        rows = longer[num_taken : num_taken + stage.num_pairs] + again[len(again) - stage.num_made :]
        taught = rows_with_own_verdicts(model, rows, judge.label_ids, folder / "own_verdicts.json", stage.training.rows_per_microbatch)
        train_reward(model, taught, judge.label_ids, replace(stage.training, seed=seed), folder, print_step, accelerator)
        num_rows, num_taken = num_rows + len(taught), num_taken + stage.num_pairs
    if accelerator.is_main_process:
        model.save_adapter(options.out / "adapter", torch.bfloat16)
        write_summary(options.out, name, seed, num_rows, started)


def run_scalar(options: argparse.Namespace) -> None:
    """The discriminative rival of `reward_embedded`: the same labelled pairs, steps and rank, one answer at a time, Bradley-Terry loss. To `out`/scalar.
    Stage 1 generates answers, which a scalar head has no part in."""
    recipe = RECIPES["reward_embedded"]
    accelerator = Accelerator(mixed_precision="bf16")
    row = open_judge_row(recipe.judge, options)
    template = ChatTemplate.from_folder(row.base_folder, row.tokenizer)
    if template is None:
        raise RecipeError(f"{row.base_folder} has no chat template, which the scalar model reads conversations with")
    seed, data = options.seed, needed(options, "data", DATA)
    pairs = hh_training_pairs(data, seed)
    made = judged_pairs(row.judge, _made_pairs(recipe, pairs, data, seed), max_tokens=recipe.obvious_max_tokens)
    easy, mixed, last, again = _in_turn(made, _made_counts(recipe))
    kept = judged_pairs(row.judge, pairs, max_tokens=recipe.max_tokens, criterion_rate=recipe.criterion_rate, seed=seed)
    harmless = [pair for pair in kept if pair.criterion == "harmlessness"]
    num_both = recipe.num_both_pairs
    stages = (
        ("scalar_obvious", recipe.obvious, easy),
        ("scalar_stage_2", recipe.stage_2, kept[: recipe.num_pairs] + mixed),
        ("scalar_stage_2_last", recipe.stage_2_last, kept + last),
        ("scalar_stage_2_again", recipe.stage_2_again, kept + harmless + again),
        ("scalar_stage_2_both", recipe.stage_2_both, kept[:num_both] + harmless[: num_both // 2] + again[: num_both // 2]),
    )
    model = ScalarModel(LoraModel.from_folder(row.base_folder, recipe.lora, seed=seed))
    started = time.monotonic()
    for name, stage, chosen in stages:
        # The frame of a conversation may take a few tokens more than the judge's; no pair is cut for that.
        rows = scalar_rows(template, chosen, max_tokens=row.spec.max_tokens)
        train_scalar_reward(model, rows, replace(stage, seed=seed), options.out / name, print_step, accelerator)
    if accelerator.is_main_process:
        model.save(options.out / "scalar", torch.bfloat16)
        write_summary(options.out, "reward_scalar", seed, sum(len(chosen) for _, _, chosen in stages), started)


def write_summary(out: Path, name: str, seed: int, num_pairs: int, started: float) -> None:
    summary = {"recipe": name, "seed": seed, "pairs": num_pairs, "minutes": round((time.monotonic() - started) / 60, 1)}
    (out / "run.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")


def _made_pairs(recipe: RewardRecipe, pairs: list[PreferencePair], data: Path, seed: int) -> list[PreferencePair]:
    """More than are used: some are too long."""
    return make_obvious_pairs(pairs, read_gsm8k_train(data), 2 * sum(_made_counts(recipe)), seed)


def _made_counts(recipe: RewardRecipe) -> tuple[int, int, int, int]:
    return recipe.num_obvious_pairs, recipe.num_mixed_pairs, recipe.num_last_pairs, recipe.num_last_pairs


def _in_turn(rows: Sequence[RowT], counts: Sequence[int]) -> list[list[RowT]]:
    """So many rows after each other."""
    starts = [sum(counts[:index]) for index in range(len(counts))]
    return [list(rows[start : start + count]) for start, count in zip(starts, counts, strict=True)]
