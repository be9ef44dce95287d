"""Throughput and time to first token of continuous batching against static batches of 16 on the same engine, under more traffic than it can carry."""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from harness import prompts
from harness.engines import Bench, checked, load
from harness.quiet import wait_until_quiet
from harness.report import percentile, report, settings_of

from gpu_backend.config import EngineConfig
from gpu_backend.core import Delta, Finished, Request, SamplingParams

BATCH = 16
OVERLOAD = 1.5
# Log-normal, as lengths of real chats are: many short ones and a long tail. (median, sigma, least, most)
PROMPT_LENGTHS = (48, 0.8, 8, 400)
OUTPUT_LENGTHS = (32, 0.9, 4, 256)
Run = Callable[[Bench, list[Request], list[float]], "Trace"]


@dataclass
class Trace:
    """Seconds on the clock of one run, which begins with the first arrival."""

    first_text: dict[str, float] = field(default_factory=dict)
    num_tokens: int = 0
    ended: float = 0.0


def main() -> None:
    options = _parse()
    settings = settings_of(
        requests=options.requests,
        prompt_lengths="log-normal median {}, sigma {}, {} to {}".format(*PROMPT_LENGTHS),
        output_lengths="log-normal median {}, sigma {}, {} to {}".format(*OUTPUT_LENGTHS),
        arrivals=f"Poisson at {OVERLOAD} x capacity, one seed per round, the same for both",
        static=f"waits for {BATCH} requests or the last arrival, and starts the next batch when the longest has ended",
        rounds=options.rounds,
        taken="best round for throughput, all rounds together for percentiles; both in turns",
    )
    bench = load(EngineConfig(max_num_waiting=options.requests, max_num_waiting_per_tenant=options.requests))
    wait_until_quiet()
    capacity = _capacity(bench)
    traces: dict[str, list[Trace]] = {"continuous": [], "static": []}
    waits: dict[str, list[float]] = {name: [] for name in traces}
    runs: dict[str, Run] = {"continuous": _run_continuous, "static": _run_static}
    busy: list[float] = []
    for index in range(options.rounds):
        source = random.Random(f"serving/{index}")
        arrivals = _arrivals(source, options.requests, OVERLOAD * capacity)
        for name, run in runs.items():
            requests = _requests(bench, random.Random(f"lengths/{index}"), options.requests, f"{index}/{name}")
            busy.append(wait_until_quiet())
            trace = run(bench, requests, arrivals)
            traces[name].append(trace)
            waits[name] += [trace.first_text[request.id] - at for request, at in zip(requests, arrivals, strict=True)]
    speeds = {name: [trace.num_tokens / trace.ended for trace in each] for name, each in traces.items()}
    rows: list[dict[str, Any]] = [{"what": "capacity", "requests_per_second": round(capacity, 2)}]
    for name in traces:
        rows.append(
            {
                "batching": name,
                "tokens_per_second": round(max(speeds[name]), 1),
                "rounds": [round(speed, 1) for speed in speeds[name]],
                "first_token_p50_s": round(percentile(waits[name], 50), 2),
                "first_token_p95_s": round(percentile(waits[name], 95), 2),
            }
        )
    ratios = {
        "throughput_vs_static": round(max(speeds["continuous"]) / max(speeds["static"]), 2),
        "first_token_p50_vs_static": round(percentile(waits["continuous"], 50) / percentile(waits["static"], 50), 2),
        "first_token_p95_vs_static": round(percentile(waits["continuous"], 95) / percentile(waits["static"], 95), 2),
    }
    report("serving", {**settings, "busy_before_runs": busy}, rows, ratios)


def _capacity(bench: Bench) -> float:
    """Requests per second with a full batch: tokens per second until fewer than a batch are left, over the mean length of an answer."""
    requests = _requests(bench, random.Random("capacity"), 4 * BATCH, "capacity")
    started, before, left = time.perf_counter(), bench.num_generated, len(requests)
    for request in requests:
        bench.engine.add(request)
    while left >= BATCH:
        left -= sum(isinstance(event, Finished) for _, event in checked(bench.engine.step()))
    speed = (bench.num_generated - before) / (time.perf_counter() - started)
    while bench.engine.has_work:
        bench.engine.step()
    return speed / (sum(request.task.max_tokens for request in requests) / len(requests))


def _requests(bench: Bench, source: random.Random, count: int, name: str) -> list[Request]:
    """Prompts differ between runs, lengths do not."""
    texts = random.Random(name)
    return [
        Request(
            id=str(index),
            prompt_ids=prompts.words(bench.tokenizer, texts, _length(source, *PROMPT_LENGTHS)),
            task=SamplingParams(max_tokens=_length(source, *OUTPUT_LENGTHS), temperature=0.0),
        )
        for index in range(count)
    ]


def _length(source: random.Random, median: int, sigma: float, least: int, most: int) -> int:
    return min(most, max(least, round(median * source.lognormvariate(0, sigma))))


def _arrivals(source: random.Random, count: int, rate: float) -> list[float]:
    """Seconds of the arrivals of a Poisson process."""
    times, now = [], 0.0
    for _ in range(count):
        times.append(now)
        now += source.expovariate(rate)
    return times


def _run_continuous(bench: Bench, requests: list[Request], arrivals: list[float]) -> Trace:
    trace, num_added, started = Trace(), 0, time.perf_counter()
    while num_added < len(requests) or bench.engine.has_work:
        now = time.perf_counter() - started
        while num_added < len(requests) and arrivals[num_added] <= now:
            bench.engine.add(requests[num_added])
            num_added += 1
        if bench.engine.has_work:
            _step(bench, trace, started)
        else:
            time.sleep(max(0.0, arrivals[num_added] - now))
    return trace


def _run_static(bench: Bench, requests: list[Request], arrivals: list[float]) -> Trace:
    trace, started = Trace(), time.perf_counter()
    for first in range(0, len(requests), BATCH):
        batch = requests[first : first + BATCH]
        time.sleep(max(0.0, arrivals[first + len(batch) - 1] - (time.perf_counter() - started)))
        for request in batch:
            bench.engine.add(request)
        while bench.engine.has_work:
            _step(bench, trace, started)
    return trace


def _step(bench: Bench, trace: Trace, started: float) -> None:
    events = checked(bench.engine.step())
    trace.ended = time.perf_counter() - started
    for request_id, event in events:
        if isinstance(event, Delta):
            trace.first_text.setdefault(request_id, trace.ended)
        elif isinstance(event, Finished):
            trace.num_tokens += event.usage.completion_tokens


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="npm run bench -- serving")
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
