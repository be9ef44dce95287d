"""The debug recipe of the reward model, all its stages on a tiny random base and made data: few steps, and an adapter that PEFT loads."""

from __future__ import annotations

import gzip
import json
import lzma
import math
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("peft", reason="tests of training need peft and accelerate: requirements/test.txt")

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from gpu_backend.recipes.__main__ import main
from train_support import write_judge_catalog

STAGES = ("stage_1", "obvious", "stage_2", "stage_2_last", "stage_2_again", "stage_2_both", "both_orders", "both_orders_long")


def write_xz(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with lzma.open(path, "wt", encoding="utf-8") as file:
        file.write(text)


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def write_data(folder: Path) -> Path:
    """The files that the recipe reads, in their own forms; the sets that are only kept apart from training are empty."""
    for place, subset in enumerate(("harmless-base", "helpful-base", "helpful-online", "helpful-rejection-sampled")):
        numbers = range(100 * place, 100 * place + 60)
        rows = [{"chosen": f"\n\nHuman: why {n}?\n\nAssistant: n{n} is a b c d e f", "rejected": f"\n\nHuman: why {n}?\n\nAssistant: no"} for n in numbers]
        write_xz(folder / "hh_rlhf" / f"{subset}.test.jsonl.xz", lines(rows))
    write_xz(folder / "gsm8k" / "train.jsonl.xz", lines([{"question": f"{n} and 1?", "answer": f"{n + 1}\n#### {n + 1}"} for n in range(20)]))
    write_xz(folder / "gsm8k" / "example_model_solutions.jsonl.xz", "")
    write_xz(folder / "finegrained_rlhf" / "dev_feedback.json.xz", "[]")
    (folder / "pandalm").mkdir()
    with gzip.open(folder / "pandalm" / "testset-v1.json.gz", "wt", encoding="utf-8") as file:
        file.write("[]")
    return folder


def test_the_debug_recipe_goes_through_every_stage_in_a_few_steps(tmp_path: Path) -> None:
    catalog, data, out = write_judge_catalog(tmp_path), write_data(tmp_path / "data"), tmp_path / "out"
    assert main(["reward_debug", "--data", str(data), "--models-dir", str(tmp_path), "--catalog", str(catalog), "--out", str(out)]) == 0
    for stage in STAGES:
        metrics = [json.loads(line) for line in (out / stage / "metrics.jsonl").read_text().splitlines()]
        # Most of the 190 pairs of the training part are left unread.
        assert 1 <= len(metrics) == metrics[0]["steps"] <= 9, stage
        assert all(math.isfinite(step["loss"]) for step in metrics), stage
    summary = json.loads((out / "run.json").read_text())
    assert (summary["recipe"], summary["seed"]) == ("reward_debug", 0) and 60 < summary["pairs"] < 250
    trained = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32), str(out / "adapter"))
    updates = [parameter for name, parameter in trained.named_parameters() if "lora_B" in name]
    assert len(updates) == 7 * 3 and all(update.abs().max() > 0 and update.isfinite().all() for update in updates)
