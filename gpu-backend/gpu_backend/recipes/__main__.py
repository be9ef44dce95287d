"""Runs a recipe: `python -m gpu_backend.recipes reward_embedded --data DIR --models-dir DIR --out DIR`. A run that was stopped goes on where it was."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gpu_backend.config import DEFAULT_CATALOG, ConfigError
from gpu_backend.recipes.reward import RECIPES, RecipeError, run_recipe


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="npm run train --", description="Trains a part that Attune ships, or one of your own.")
    parser.add_argument("recipe", choices=sorted(RECIPES))
    parser.add_argument("--data", type=Path, help="the folder of data sets (docs/rewards.md says what lies where)")
    parser.add_argument("--pairs", type=Path, help="for reward_adapt: a file of {prompt, chosen, rejected} lines")
    parser.add_argument("--models-dir", type=Path, required=True, help="where `npm start` keeps the models")
    parser.add_argument("--catalog", type=Path, default=DEFAULT_CATALOG)
    parser.add_argument("--out", type=Path, required=True, help="where checkpoints, metrics and the adapter go")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    try:
        run_recipe(options.recipe, options)
    except (RecipeError, ConfigError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
