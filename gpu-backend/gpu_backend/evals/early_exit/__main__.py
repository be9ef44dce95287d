"""`python -m gpu_backend.evals.early_exit analyse|frontier|judge --data DIR --models-dir DIR`."""

from __future__ import annotations

import argparse
import sys

from gpu_backend.config import ConfigError
from gpu_backend.evals.early_exit import analyse, frontier, judge


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="npm run early-exit --", description="How early a model's layers know its next token, and what that could save.")
    commands = parser.add_subparsers(dest="command", required=True)
    analyse.add_options(commands.add_parser("analyse", help="agreement by layer, oracle, gates, cost; tables and a picture"))
    frontier.add_options(commands.add_parser("frontier", help="tokens that leave unverified within a risk, against drafts that are verified"))
    judge.add_options(commands.add_parser("judge", help="verdicts that leave early: fits and calibrates a judge's label exit, and measures it"))
    options = parser.parse_args(arguments)
    try:
        {"analyse": analyse.run, "frontier": frontier.run, "judge": judge.run}[options.command](options)
    except (ConfigError, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
