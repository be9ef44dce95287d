"""A training step of the judge: pairs as one sequence that reads their common beginning once, against a sequence per prompt, with both kinds of attention."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from accelerate import Accelerator
from harness.engines import models_dir
from harness.examples import exchanges, read_examples
from harness.quiet import wait_until_quiet
from harness.report import report, settings_of

from gpu_backend.config import DEFAULT_CATALOG
from gpu_backend.data.judge_rows import JudgedRow, judged_rows, microbatches
from gpu_backend.data.preference_pairs import PreferencePair
from gpu_backend.recipes.judge_row import SHIPPED, JudgeRow, open_judge_row
from gpu_backend.train.lora_model import LoraModel, LoraSettings
from gpu_backend.train.train_reward import label_logits

NUM_PAIRS = 16
NUM_EARLIER = {"short": 0, "conversation": 8}
MICROBATCH_PROMPTS = (2, 8)
Way = tuple[str, str, int]


def main() -> None:
    options = _parse()
    settings = settings_of(
        model=f"the base of {SHIPPED} with a fresh LoRA of rank 16",
        rows=f"{NUM_PAIRS} pairs of examples/ in both orders, alone and after {NUM_EARLIER['conversation']} exchanges",
        timed="forward and backward of a step of them all, in microbatches of 2 or 8 prompts",
        rounds=options.rounds,
        taken="best round, all ways in turns, after a first pass of each",
    )
    judge_row = open_judge_row(SHIPPED, argparse.Namespace(catalog=DEFAULT_CATALOG, models_dir=models_dir()))
    trainer = Trainer(judge_row)
    measured: list[dict[str, Any]] = []
    ratios: dict[str, float] = {}
    for workload, num_earlier in NUM_EARLIER.items():
        as_one = judged_rows(judge_row.judge, _pairs(num_earlier), max_tokens=judge_row.spec.max_tokens)
        alone = [half for row in as_one for half in (replace(row, better_second=None), replace(row, better_first=None))]
        layouts = {"as one": as_one, "alone": alone}
        seconds: dict[Way, list[float]] = {}
        for round_number in range(options.rounds + 1):
            wait_until_quiet()
            for way in _ways():
                taken = trainer.seconds_of_step(layouts[way[0]], way[1], way[2])
                if round_number:
                    seconds.setdefault(way, []).append(taken)
        best = {way: min(values) for way, values in seconds.items()}
        measured += [_line(workload, way, sum(row.num_tokens for row in layouts[way[0]]), values) for way, values in seconds.items()]
        for attention in ("eager", "sdpa"):
            ratios[f"{workload}_as_one_eager_vs_alone_{attention}"] = round(_best(best, "alone", attention) / _best(best, "as one", "eager"), 2)
    report("training", settings, measured, ratios)


class Trainer:
    """The model as `npm run train` has it."""

    def __init__(self, row: JudgeRow) -> None:
        self._label_ids = row.judge.label_ids
        self._accelerator = Accelerator(mixed_precision="bf16")
        self._model: Any = self._accelerator.prepare(LoraModel.from_folder(row.base_folder, LoraSettings(rank=16, alpha=32), seed=0))
        self._model.train()

    def seconds_of_step(self, rows: Sequence[JudgedRow], attention: str, num_prompts: int) -> float:
        """Microbatches have so many prompts, whichever way they are laid out."""
        self._model._causal_lm.set_attn_implementation(attention)
        started = time.perf_counter()
        for group in microbatches(rows, num_prompts // len(rows[0].prompts)):
            self._accelerator.backward(label_logits(self._model, group, self._label_ids).square().sum())
        self._model.zero_grad()
        return time.perf_counter() - started


def _ways() -> Iterator[Way]:
    return ((layout, attention, size) for layout in ("as one", "alone") for attention in ("eager", "sdpa") for size in MICROBATCH_PROMPTS)


def _line(workload: str, way: Way, num_tokens: int, values: list[float]) -> dict[str, Any]:
    layout, attention, size = way
    rounds = [round(value, 2) for value in values]
    return {"pairs": workload, "layout": layout, "attention": attention, "microbatch": size, "tokens": num_tokens, "seconds": min(rounds), "rounds": rounds}


def _best(best: dict[Way, float], layout: str, attention: str) -> float:
    return min(best[layout, attention, size] for size in MICROBATCH_PROMPTS)


def _pairs(num_earlier: int) -> list[PreferencePair]:
    """Each example's question after those of the examples that follow it, with their better answers."""
    examples = read_examples()
    pairs = []
    for number, asked in enumerate(examples[:NUM_PAIRS]):
        others = [examples[(number + 1 + index) % len(examples)] for index in range(num_earlier)]
        pairs.append(PreferencePair((*exchanges(others), ("user", asked["prompt"])), asked["chosen"], asked["rejected"], "examples"))
    return pairs


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="npm run bench -- training")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
