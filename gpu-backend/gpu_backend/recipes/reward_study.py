"""What label smoothing and stage 1 of GRAM do for the shipped judge: small runs with and without each of them, on several seeds."""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from accelerate import Accelerator

from gpu_backend.data.judge_rows import JudgedRow, judged_rows, text_rows
from gpu_backend.data.obvious_pairs import make_obvious_pairs
from gpu_backend.data.preference_pairs import read_gsm8k_train
from gpu_backend.data.training_part import hh_parts, hh_training_pairs
from gpu_backend.losses.generative_reward import winner_margins
from gpu_backend.recipes.judge_row import JudgeRow, needed, open_judge_row, print_step
from gpu_backend.recipes.reward import DATA, RECIPES
from gpu_backend.train.lora_model import LoraModel
from gpu_backend.train.train_reward import judge_rows, train_reward

NUM_SEEDS = 3
NUM_PAIRS = 600
NUM_HELD_OUT = 150


@dataclass(frozen=True, slots=True)
class Variant:
    smooths_labels: bool = True
    has_stage_1: bool = True


VARIANTS = {"as shipped": Variant(), "no label smoothing": Variant(smooths_labels=False), "no stage 1": Variant(has_stage_1=False)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """Of held-out pairs, over both orders without a temperature. `log_loss` of a constant 1/2 is 0.693."""

    accuracy: float
    consistency: float
    log_loss: float


def run_study(options: argparse.Namespace) -> None:
    """Each variant with each seed: stage 1 on 160 pairs, then 600 pairs made by rule. Measured on made pairs and on people's, of conversations that no
    training saw. Tables and `study.json` go to `out`."""
    recipe = RECIPES["reward_embedded"]
    accelerator = Accelerator(mixed_precision="bf16")
    row = open_judge_row(recipe.judge, options)
    data = needed(options, "data", DATA)
    found: dict[str, dict[str, list[Measures]]] = {}
    for seed in range(options.seed, options.seed + NUM_SEEDS):
        pairs = hh_training_pairs(data, seed)
        texts = text_rows(row.judge, pairs, max_tokens=recipe.stage_1_max_tokens, seed=seed)[: recipe.stage_1_pairs]
        made = judged_rows(row.judge, make_obvious_pairs(pairs, read_gsm8k_train(data), 2 * NUM_PAIRS, seed), max_tokens=recipe.obvious_max_tokens)[:NUM_PAIRS]
        sets = held_out_rows(row, data, recipe.obvious_max_tokens, recipe.max_tokens)
        for name, variant in VARIANTS.items():
            folder = options.out / f"seed-{seed}"
            model = LoraModel.from_folder(row.base_folder, recipe.lora, seed=seed)
            if variant.has_stage_1:
                # Once for all variants of a seed: the second finds the first one's checkpoint.
                train_reward(model, texts, row.judge.label_ids, replace(recipe.stage_1, seed=seed), folder / "stage_1", print_step, accelerator)
            loss = recipe.obvious.loss if variant.smooths_labels else replace(recipe.obvious.loss, epsilon=0.0)
            own = folder / name.replace(" ", "_")
            train_reward(model, made, row.judge.label_ids, replace(recipe.obvious, seed=seed, loss=loss), own, print_step, accelerator)
            for kind, rows in sets.items():
                found.setdefault(kind, {}).setdefault(name, []).append(measure(model, rows, row.judge.label_ids))
    (options.out / "study.json").write_text(json.dumps(_as_json(found), indent=2) + "\n", encoding="utf-8")
    print(table_of(found))


def held_out_rows(row: JudgeRow, data: Path, made_max_tokens: int, max_tokens: int) -> dict[str, list[JudgedRow]]:
    """The same for all seeds: made from the validation part, and people's own verdicts there."""
    pairs = hh_parts(data)["validation"]
    made = make_obvious_pairs(pairs, read_gsm8k_train(data), 2 * NUM_HELD_OUT, seed=0)
    return {
        "made by rule": judged_rows(row.judge, made, max_tokens=made_max_tokens)[:NUM_HELD_OUT],
        "people's": judged_rows(row.judge, pairs[:: max(1, len(pairs) // (2 * NUM_HELD_OUT))], max_tokens=max_tokens)[:NUM_HELD_OUT],
    }


def measure(model: LoraModel, rows: Sequence[JudgedRow], label_ids: tuple[int, int]) -> Measures:
    margins_P2 = winner_margins(judge_rows(model, rows, label_ids)).double()
    probability_P = torch.sigmoid(margins_P2).mean(dim=1)
    return Measures(
        accuracy=(probability_P > 0.5).double().mean().item(),
        consistency=((margins_P2[:, 0] > 0) == (margins_P2[:, 1] > 0)).double().mean().item(),
        log_loss=-probability_P.log().mean().item(),
    )


def table_of(found: dict[str, dict[str, list[Measures]]]) -> str:
    """Means over seeds, and the mean difference to the shipped variant of the same seed with its 95 % interval (Student's t)."""
    header = ("pairs", "variant", "accuracy", "orders agree", "log-loss", "accuracy, less as shipped", "log-loss, less as shipped")
    lines: list[tuple[str, ...]] = [header, ("---",) * len(header)]
    for kind, by_variant in found.items():
        for name, measures in by_variant.items():
            means = (f"{statistics.fmean(column):.3f}" for column in _columns(measures))
            pairs = zip(_columns(measures), _columns(by_variant["as shipped"]), strict=True)
            less = ["" if name == "as shipped" else difference(column, base) for column, base in pairs]
            lines.append((kind, name, *means, less[0], less[2]))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _columns(measures: Sequence[Measures]) -> list[list[float]]:
    """Accuracy, consistency and log-loss by seed."""
    return [[one.accuracy for one in measures], [one.consistency for one in measures], [one.log_loss for one in measures]]


def difference(values: Sequence[float], base: Sequence[float]) -> str:
    """The mean of paired differences and its interval; for three seeds Student's t with two degrees of freedom."""
    differences = [value - other for value, other in zip(values, base, strict=True)]
    assert len(differences) == NUM_SEEDS
    half = 4.303 * statistics.stdev(differences) / math.sqrt(NUM_SEEDS)
    mean = statistics.fmean(differences)
    return f"{mean:+.3f} [{mean - half:+.3f}, {mean + half:+.3f}]"


def _as_json(found: dict[str, dict[str, list[Measures]]]) -> dict[str, dict[str, list[dict[str, float]]]]:
    return {kind: {name: [asdict(one) for one in measures] for name, measures in by_variant.items()} for kind, by_variant in found.items()}
