"""Runs a recipe: `python -m gpu_backend.recipes reward_embedded --data DIR --models-dir DIR --out DIR`. A run that was stopped goes on where it was."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from gpu_backend.config import DEFAULT_CATALOG, ConfigError
from gpu_backend.recipes.early_exit import run_exit_adapter
from gpu_backend.recipes.judge_row import RecipeError
from gpu_backend.recipes.reward import run_generative, run_scalar
from gpu_backend.recipes.reward_8b import run_8b
from gpu_backend.recipes.reward_adapt import run_adapt
from gpu_backend.recipes.reward_study import run_study

RECIPES: dict[str, Callable[[argparse.Namespace], None]] = {
    "reward_debug": lambda options: run_generative("reward_debug", options),
    "reward_embedded": lambda options: run_generative("reward_embedded", options),
    "reward_scalar": run_scalar,
    "reward_adapt": run_adapt,
    "reward_8b": run_8b,
    "reward_study": run_study,
    "early_exit_debug": lambda options: run_exit_adapter("early_exit_debug", options),
    "early_exit_embedded": lambda options: run_exit_adapter("early_exit_embedded", options),
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="npm run train --", description="Trains a part that Attune ships, or one of your own.")
    parser.add_argument("recipe", choices=sorted(RECIPES))
    parser.add_argument("--data", type=Path, help="the folder of data sets (docs/training.md says what lies where)")
    parser.add_argument("--pairs", type=Path, help="reward_adapt, reward_8b: a file of {prompt, chosen, rejected} lines")
    parser.add_argument("--adapter", type=Path, help="reward_adapt: the folder of the adapter to start from; the shipped one by default")
    parser.add_argument("--hold-out", type=float, default=0.0, help="reward_adapt: the share of pairs that is not trained on but measured before and after")
    parser.add_argument("--unlabelled", type=Path, help="reward_8b: pairs for stage 1, whose labels are not read")
    parser.add_argument("--base", type=Path, help="reward_8b: the folder of the base model")
    parser.add_argument("--dry-run", action="store_true", help="reward_8b: prove the configuration without weights or graphics cards")
    parser.add_argument("--models-dir", type=Path, required=True, help="where `npm start` keeps the models")
    parser.add_argument("--catalog", type=Path, default=DEFAULT_CATALOG)
    parser.add_argument("--out", type=Path, required=True, help="where checkpoints, metrics and the adapter go")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    try:
        RECIPES[options.recipe](options)
    except (RecipeError, ConfigError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
