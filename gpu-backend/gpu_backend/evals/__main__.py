"""Runs an evaluation: `python -m gpu_backend.evals reward --data DIR --models-dir DIR`."""

from __future__ import annotations

import argparse
import sys

from gpu_backend.config import ConfigError
from gpu_backend.core import AdapterError
from gpu_backend.evals import reward


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="npm run eval --", description="Measures a model on held-out data, beside its controls.")
    evaluations = parser.add_subparsers(dest="evaluation", required=True)
    reward.add_options(evaluations.add_parser("reward", help="accuracy, consistency and calibration of a reward model"))
    options = parser.parse_args(arguments)
    try:
        reward.run(options)
    except (ConfigError, AdapterError, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
