"""What every recipe of a reward model starts from: the row that judges, its template, and the folder of the base that it works on."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_backend.config import JudgeSpec, find_judge
from gpu_backend.models.reward.judge import Judge
from gpu_backend.tokenizer import Tokenizer

SHIPPED = "gram-smollm2-135m"


class RecipeError(ValueError):
    """A recipe that cannot run as asked; the message says what to change."""


@dataclass(frozen=True, slots=True)
class JudgeRow:
    """`folder` holds the template, and the adapter where there is one."""

    judge: Judge
    spec: JudgeSpec
    tokenizer: Tokenizer
    folder: Path
    base_folder: Path


def open_judge_row(model_id: str, options: argparse.Namespace) -> JudgeRow:
    """Raises ConfigError where the row is missing, RecipeError where its base is."""
    spec, base = find_judge(options.catalog, model_id)
    assert spec.judge is not None
    base_folder = base.folder(options.models_dir)
    if not base_folder.exists():
        raise RecipeError(f"{base_folder} does not exist: run `npm start` once, it fetches {base.id}")
    tokenizer, folder = Tokenizer.from_file(base_folder / "tokenizer.json"), spec.folder(options.models_dir)
    return JudgeRow(Judge.from_folder(folder, tokenizer, spec.judge), spec.judge, tokenizer, folder, base_folder)


def needed(options: argparse.Namespace, name: str, what: str) -> Path:
    """An option that this recipe cannot do without."""
    value: Path | None = getattr(options, name)
    if value is None:
        raise RecipeError(f"this recipe needs --{name} {what}")
    return value


def print_step(metrics: dict[str, Any]) -> None:
    numbers = " ".join(f"{name} {value:.4g}" for name, value in metrics.items() if name not in ("step", "steps"))
    print(f"step {metrics['step']}/{metrics['steps']}: {numbers}", flush=True)
