"""How much sooner 32 requests that begin with the same 400 tokens are done than with prefix reuse switched off."""

from __future__ import annotations

import argparse
import random
from typing import Any

from harness import prompts
from harness.engines import Bench, load, run_all
from harness.quiet import wait_until_quiet
from harness.report import report, settings_of

from gpu_backend.config import EngineConfig
from gpu_backend.core import Request, SamplingParams

NUM_REQUESTS, PREFIX_TOKENS, SUFFIX_TOKENS, OUTPUT_TOKENS = 32, 400, 20, 32


def main() -> None:
    options = _parse()
    settings = settings_of(
        requests=NUM_REQUESTS,
        prefix_tokens=PREFIX_TOKENS,
        suffix_tokens=SUFFIX_TOKENS,
        output_tokens=OUTPUT_TOKENS,
        rounds=options.rounds,
        arrival="all at once; `new prefix`: nobody has sent it before, `known prefix`: the same prefix once more with other suffixes",
        taken="best round, both engines in turns",
    )
    reusing, computing = load(), load(EngineConfig(reuses_prefixes=False))
    seconds: dict[str, list[float]] = {"reuse, new prefix": [], "reuse, known prefix": [], "no reuse": []}
    busy = []
    for index in range(options.rounds):
        busy.append(wait_until_quiet())
        seconds["reuse, new prefix"].append(run_all(reusing, _requests(reusing, index, 0)))
        seconds["no reuse"].append(run_all(computing, _requests(computing, index, 0)))
        seconds["reuse, known prefix"].append(run_all(reusing, _requests(reusing, index, 1)))
    best = {name: min(values) for name, values in seconds.items()}
    rows: list[dict[str, Any]] = [
        {"engine": name, "seconds": round(best[name], 2), "rounds": [round(value, 2) for value in values]} for name, values in seconds.items()
    ]
    ratios = {
        "prefix_reuse_new_prefix": round(best["no reuse"] / best["reuse, new prefix"], 2),
        "prefix_reuse_known_prefix": round(best["no reuse"] / best["reuse, known prefix"], 2),
    }
    report("prefix", {**settings, "busy_before_rounds": busy}, rows, ratios)


def _requests(bench: Bench, index: int, part: int) -> list[Request]:
    """A prefix per round, suffixes per round and part."""
    prefix = prompts.words(bench.tokenizer, random.Random(f"prefix/{index}"), PREFIX_TOKENS)
    source = random.Random(f"suffix/{index}/{part}")
    sampling = SamplingParams(max_tokens=OUTPUT_TOKENS, temperature=0.0)
    return [Request(id=str(number), prompt_ids=prefix + prompts.words(bench.tokenizer, source, SUFFIX_TOKENS), task=sampling) for number in range(NUM_REQUESTS)]


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="npm run bench -- prefix")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
