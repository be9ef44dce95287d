"""Verdicts that leave early against full depth: the same held-out pairs in both orders, one comparison at a time and eight at once."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.engines import load_judge
from harness.quiet import wait_until_quiet
from harness.report import report, settings_of

from gpu_backend.config import DEFAULT_CATALOG, load_catalog
from gpu_backend.core import LabelGate
from gpu_backend.data.preference_pairs import PreferencePair
from gpu_backend.engine.async_engine import AsyncEngine
from gpu_backend.evals.preference_sets import public_sets
from gpu_backend.server.label_scores import Caller, reading
from gpu_backend.server.rewards import verdicts
from gpu_backend.server.rewards.comparisons import Comparisons
from gpu_backend.server.rewards.schemas import CompareRequest, Turn
from gpu_backend.server.served_model import ServedModel

CALLERS = (1, 8)


@dataclass
class Way:
    """One operating point, or full depth: seconds by round, and what became of each pair."""

    gate: LabelGate | None
    seconds: list[float] = field(default_factory=list)
    winners: list[str] = field(default_factory=list)
    num_early: int = 0
    num_forwards: int = 0


def main() -> None:
    options = _parse()
    settings = settings_of(
        model=options.model,
        pairs=options.pairs,
        pairs_of="HH's test part, as they come from the seed",
        rounds=options.rounds,
        taken="best round, all ways in turns; nothing of a round is in the cache of the next",
        timed="from the texts to the verdicts, both orders",
    )
    model = load_judge({spec.id: spec for spec in load_catalog(options.catalog)}, options.model)
    if model.label_exit is None:
        raise SystemExit(f"the row {options.model} names no label_exit")
    pairs = public_sets(options.data, options.pairs, options.seed)[0].pairs
    rows: list[dict[str, Any]] = []
    ratios: dict[str, float] = {}
    for callers in CALLERS:
        ways = {"full depth": Way(None), **{f"gated {risk}": Way(gate) for risk, gate in model.label_exit.gates.items()}}
        for index in range(options.rounds):
            wait_until_quiet()
            for name, way in ways.items():
                _run(model, pairs, way, f"{callers}/{index}/{name}", callers)
        full = ways["full depth"]
        for name, way in ways.items():
            row = {"callers": callers, "way": name, "seconds": round(min(way.seconds), 3), "early_share": round(way.num_early / way.num_forwards, 3)}
            rows.append({**row, "same_winner": sum(a == b for a, b in zip(way.winners, full.winners, strict=True)) / len(pairs)})
            if way.gate is not None:
                ratios[f"{name.replace(' ', '_')}_callers_{callers}"] = round(min(full.seconds) / min(way.seconds), 3)
    report("reward-exit", settings, rows, ratios)


def _run(model: ServedModel, pairs: Sequence[PreferencePair], way: Way, salt: str, callers: int) -> None:
    """As the server does it. The last round's verdicts stay."""
    judge = model.judge
    assert judge is not None
    winners: dict[int, str] = {}
    way.num_early = way.num_forwards = 0

    async def ask(engine: AsyncEngine, queue: list[int]) -> None:
        while queue:
            index = queue.pop()
            pair = pairs[index]
            body = CompareRequest(
                model=model.spec.id, input=[Turn(**turn) for turn in pair.messages], a=pair.chosen, b=pair.rejected, allow_tie=False, truncation="auto"
            )
            caller = Caller(deadline_s=None, tenant="", priority=0, cache_salt=salt.encode(), adapter=model.adapter)
            async with reading(engine, caller, way.gate) as reader:
                comparisons = await Comparisons.prepare(judge, reader, body, {"a": body.a, "b": body.b})
                winners[index] = (await verdicts.compare(comparisons, reader, body, judge.spec.labels)).winner
            way.num_early += len(reader.early)
            way.num_forwards += reader.num_forwards

    async def run() -> None:
        engine = AsyncEngine(model.engine)
        queue = list(range(len(pairs)))
        await asyncio.gather(*(ask(engine, queue) for _ in range(callers)))
        engine.close()

    started = time.perf_counter()
    asyncio.run(run())
    way.seconds.append(time.perf_counter() - started)
    way.winners = [winners[index] for index in range(len(pairs))]


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="npm run bench -- reward-exit")
    parser.add_argument("--data", type=Path, required=True, help="the folder of data sets (docs/training.md)")
    parser.add_argument("--model", default="gram-smollm2-135m")
    parser.add_argument("--catalog", type=Path, default=DEFAULT_CATALOG)
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
