"""Early exit against full depth: the same greedy answers to held-out questions, alone and side by side, and what the drafts did; gated beside it."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.engines import checked, load
from harness.quiet import wait_until_quiet
from harness.report import report, settings_of

from gpu_backend.config import EngineConfig
from gpu_backend.core import Request, SamplingParams, TokenGate
from gpu_backend.server.served_model import ServedModel
from gpu_backend.train.own_answers import Prompt, prompts_of, read_questions

MAX_TOKENS = 128
BATCHES = (1, 4, 16)
REPETITION = 0.2
METRICS = ("attune_drafted_tokens_total", "attune_accepted_drafts_total", "attune_generated_tokens_total")


@dataclass
class Way:
    """What each request asks; seconds and tokens of each group of prompts, of the best round; and the answers."""

    task: SamplingParams
    seconds: list[float] = field(default_factory=list)
    answers: dict[int, tuple[int, ...]] = field(default_factory=dict)


def main() -> None:
    options = _parse()
    settings = settings_of(
        prompts=options.prompts,
        questions="HH helpful first turns and GSM8K problems of the test part, half and half",
        max_tokens=MAX_TOKENS,
        ends="at the model's end token",
        rounds=options.rounds,
        timed="from the first token of a group to its last",
        taken="best round of each group, full depth and early exit in turns",
        without_loops=f"answers in which at most {REPETITION:.0%} of the 4-grams occurred before",
    )
    bench = load(EngineConfig(reuses_prefixes=False), ends_early=True, exit_adapter=options.exit_adapter)
    served = bench.served
    if served.engine.exit_layer is None:
        raise SystemExit("the model's row names no exit_adapter: give --exit-adapter DIR")
    assert served.template is not None
    prompts = prompts_of(served.template, read_questions(options.data, "test", options.prompts, options.seed))
    rows: list[dict[str, Any]] = []
    ratios: dict[str, float] = {}
    for batch in BATCHES:
        groups = [range(first, min(first + batch, len(prompts))) for first in range(0, len(prompts) if batch == 1 else min(len(prompts), 4 * batch), batch)]
        ways = {"full": Way(_task()), "early": Way(_task(drafts=True))}
        gated = {f"gated_{risk}": Way(_task(drafts=True, gate=gate)) for risk, gate in served.exit_gates.items()} if batch == 1 else {}
        before = [bench.count(name) for name in METRICS]
        _run_in_turns(served, prompts, groups, list(ways.values()), options.rounds)
        drafted, accepted, generated = (bench.count(name) - then for name, then in zip(METRICS, before, strict=True))
        same = ways["full"].answers == ways["early"].answers
        plain = [number for number, group in enumerate(groups) if all(_repetition(ways["full"].answers[index]) <= REPETITION for index in group)]
        row = {
            "batch": batch,
            "groups": len(groups),
            "identical": same,
            "full_tokens_per_second": round(_speed(ways["full"], groups), 1),
            "early_tokens_per_second": round(_speed(ways["early"], groups), 1),
            "drafted": drafted,
            "accepted": accepted,
            "accepted_share_of_tokens": round(2 * accepted / generated, 3),
        }
        rows.append(row)
        ratios[f"lossless_batch_{batch}"] = round(sum(ways["full"].seconds) / sum(ways["early"].seconds), 3)
        for name, way in gated.items():
            # After the counters have been read, each beside full depth and lossless drafts of its own.
            beside = [Way(_task()), Way(_task(drafts=True)), way]
            _run_in_turns(served, prompts, groups, beside, options.rounds)
            ratios[f"{name}_against_full"] = round(_speed(way, groups) / _speed(beside[0], groups), 3)
            ratios[f"{name}_against_lossless"] = round(_speed(way, groups) / _speed(beside[1], groups), 3)
        if batch == 1:
            ratios["lossless_batch_1_without_loops"] = round(_sum(ways["full"], plain) / _sum(ways["early"], plain), 3)
            ratios["answers_without_loops"] = len(plain)
        ratios[f"identical_batch_{batch}"] = float(same)
    lengths = served.engine._scheduler._draft_lengths
    costs = {} if lengths is None else {"round_costs_ms": repr(lengths.costs), "prior": lengths.prior, "exit_layer": served.engine.exit_layer}
    report("early-exit", {**settings, **costs}, rows, ratios)


def _task(*, drafts: bool = False, gate: TokenGate | None = None) -> SamplingParams:
    return SamplingParams(max_tokens=MAX_TOKENS, temperature=0.0, drafts=drafts, gate=gate)


def _run_in_turns(served: ServedModel, prompts: Sequence[Prompt], groups: Sequence[range], ways: list[Way], rounds: int) -> None:
    """Who comes first finds the processor as another way left it, so that turns change."""
    for index in range(rounds):
        wait_until_quiet()
        for number, group in enumerate(groups):
            for way in ways[:: 1 if (index + number) % 2 else -1]:
                _run(served, prompts, group, way, number)


def _run(served: ServedModel, prompts: Sequence[Prompt], group: range, way: Way, number: int) -> None:
    """Keeps the best time of the group."""
    for index in group:
        served.engine.add(Request(id=str(index), prompt_ids=prompts[index], task=way.task))
    # Nobody asks for log-probabilities, so tokens are read where they are.
    sequences = {index: served.engine._live[str(index)].sequences[0] for index in group}
    started = None
    while served.engine.has_work:
        checked(served.engine.step())
        if started is None and all(sequence.num_generated for sequence in sequences.values()):
            started = time.perf_counter()
    seconds = time.perf_counter() - (started or time.perf_counter())
    if number == len(way.seconds):
        way.seconds.append(seconds)
    way.seconds[number] = min(way.seconds[number], seconds)
    way.answers |= {index: tuple(sequence.token_ids[len(prompts[index]) :]) for index, sequence in sequences.items()}


def _repetition(tokens: Sequence[int]) -> float:
    """The share of 4-grams that occurred before in the same answer."""
    grams = [tuple(tokens[at : at + 4]) for at in range(len(tokens) - 3)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def _speed(way: Way, groups: Sequence[range]) -> float:
    return sum(len(way.answers[index]) for group in groups for index in group) / sum(way.seconds)


def _sum(way: Way, numbers: Sequence[int]) -> float:
    return sum(way.seconds[number] for number in numbers)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="npm run bench -- early-exit")
    parser.add_argument("--data", type=Path, required=True, help="the folder of data sets (docs/training.md)")
    parser.add_argument("--exit-adapter", type=Path, help="the folder of one; the model's own by default")
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
