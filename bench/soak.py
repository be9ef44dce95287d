"""Minutes of mixed load with cancels and deadlines on one engine; fails unless memory stays flat, all blocks come back, and every request ends exactly once."""

from __future__ import annotations

import argparse
import collections
import random
import statistics
import sys
import threading
import time
from pathlib import Path
from typing import Any

from harness import prompts
from harness.engines import Bench, load
from harness.report import report, settings_of

from gpu_backend.config import EngineConfig
from gpu_backend.core import EngineOverloadedError, Failed, Finished, Request, SamplingParams
from gpu_backend.decoding.grammar import choice_grammar, json_grammar, regex_grammar

# As small a pool as the model allows, which long answers run out of: some sequences give their blocks back and are computed anew.
CONFIG = EngineConfig(max_num_sequences=32, kv_cache_tokens=8192, max_num_waiting=40, max_num_waiting_per_tenant=20)
MAX_LIVE, CANCELLED, STRUCTURED, DEADLINES, LONG, DRAFTED = 80, 0.2, 0.25, 0.1, 0.4, 0.5
TENANTS = ("red", "green", "blue", "flood", "flood", "flood")
GROWTH_BOUND_MIB = 48
SAMPLE_S = 1.0


class Ledger:
    """What became of every request; used by both threads."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.live: set[str] = set()
        self.cancelled: set[str] = set()
        self.terminals: collections.Counter[str] = collections.Counter()
        self.outcomes: collections.Counter[str] = collections.Counter()

    def complaints(self, num_added: int) -> list[str]:
        """Every request that was added has one terminal event, or was cancelled and has none."""
        found = [f"{name} had {count} terminal events" for name, count in self.terminals.items() if count != 1]
        found += [f"{name} was cancelled and had a terminal event" for name in self.cancelled & self.terminals.keys()]
        if num_added != len(self.cancelled | self.terminals.keys()):
            found.append(f"{num_added} requests were added, {len(self.cancelled | self.terminals.keys())} ended")
        return found


class Caller(threading.Thread):
    """Adds requests while fewer than MAX_LIVE are live, and cancels a fifth of them at a random moment."""

    def __init__(self, bench: Bench, ledger: Ledger, ends_at: float, seed: int) -> None:
        super().__init__(name="caller")
        self.num_added = 0
        self._bench, self._ledger, self._ends_at = bench, ledger, ends_at
        self._source = random.Random(seed)
        self._prefix = prompts.words(bench.tokenizer, self._source, 120)
        self._to_cancel: list[tuple[float, str]] = []

    def run(self) -> None:
        while time.monotonic() < self._ends_at:
            self._cancel_due(time.monotonic())
            if len(self._ledger.live) < MAX_LIVE:
                self._add()
            time.sleep(self._source.expovariate(1 / 0.03))
        self._cancel_due(float("inf"))

    def _add(self) -> None:
        request = self._request(f"request-{self.num_added + self._ledger.outcomes['refused']}")
        with self._ledger.lock:
            try:
                self._bench.engine.add(request)
            except EngineOverloadedError:
                self._ledger.outcomes["refused"] += 1
                return
            self._ledger.live.add(request.id)
        self.num_added += 1
        if self._source.random() < CANCELLED:
            self._to_cancel.append((time.monotonic() + self._source.uniform(0, 8), request.id))

    def _cancel_due(self, now: float) -> None:
        due = [name for at, name in self._to_cancel if at <= now]
        self._to_cancel = [(at, name) for at, name in self._to_cancel if at > now]
        for name in due:
            with self._ledger.lock:
                if self._bench.engine.cancel(name):
                    self._ledger.cancelled.add(name)
                    self._ledger.live.discard(name)
                    self._ledger.outcomes["cancelled"] += 1

    def _request(self, name: str) -> Request:
        source = self._source
        text = prompts.words(self._bench.tokenizer, source, min(600, max(1, round(120 * source.lognormvariate(0, 1)))))
        is_long = source.random() < LONG
        sampling = SamplingParams(
            max_tokens=source.randrange(300, 500) if is_long else min(300, max(1, round(32 * source.lognormvariate(0, 1)))),
            # A long answer is one that may not end.
            logit_bias=dict.fromkeys(self._bench.engine._end_token_ids, -100.0) if is_long else {},
            temperature=source.choice((0.0, 0.7, 1.0)),
            top_p=source.choice((1.0, 0.9)),
            seed=source.randrange(1000),
            stop=source.choice(((), ("\n\n",), ("the end", "."))),
            frequency_penalty=source.choice((0.0, 0.5)),
            logprobs=source.random() < 0.2,
            top_logprobs=0,
            drafts=source.random() < DRAFTED,
            grammar=self._bench.served.grammars.compile(self._grammar()) if source.random() < STRUCTURED else None,
        )
        return Request(
            id=name,
            prompt_ids=(self._prefix if source.random() < 0.3 else ()) + text,
            task=sampling,
            num_choices=source.choice((1, 1, 1, 2, 3)),
            deadline_s=time.monotonic() + source.uniform(0.1, 15) if source.random() < DEADLINES else None,
            tenant=source.choice(TENANTS),
            priority=source.choice((-1, 0, 0, 1)),
            cache_salt=source.choice((b"a", b"b")),
        )

    def _grammar(self) -> str:
        """Some schemas come again, many are new."""
        number = self._source.randrange(200)
        fields = {f"field_{number}": {"type": "string"}, "count": {"type": "integer"}}
        schema = {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}
        return self._source.choice((json_grammar(schema), json_grammar({"type": "object"}), regex_grammar("[a-z]{3,12}"), choice_grammar(["yes", "no"])))


def main() -> None:
    options = _parse()
    settings = settings_of(
        minutes=options.minutes,
        seed=options.seed,
        max_live=MAX_LIVE,
        cancelled=CANCELLED,
        structured=STRUCTURED,
        deadlines=DEADLINES,
        long=LONG,
        drafted=DRAFTED,
        kv_cache_tokens=CONFIG.kv_cache_tokens,
        flat=f"median resident memory of the last quarter at most {GROWTH_BOUND_MIB} MiB above that of the second quarter",
    )
    bench, ledger = load(CONFIG, ends_early=True), Ledger()
    caller = Caller(bench, ledger, time.monotonic() + 60 * options.minutes, options.seed)
    caller.start()
    resident_mib, slowest_s, next_sample = [], 0.0, time.monotonic()
    while caller.is_alive() or bench.engine.has_work:
        if not bench.engine.has_work:
            time.sleep(0.002)
            continue
        began = time.monotonic()
        events = bench.engine.step()
        slowest_s = max(slowest_s, time.monotonic() - began)
        with ledger.lock:
            for name, event in events:
                if isinstance(event, Finished | Failed):
                    ledger.terminals[name] += 1
                    ledger.outcomes[event.code if isinstance(event, Failed) else "finished"] += 1
                    ledger.live.discard(name)
        if began >= next_sample and caller.is_alive():
            resident_mib.append(_resident_mib())
            next_sample = began + SAMPLE_S
    caller.join()
    quarter = len(resident_mib) // 4
    growth = statistics.median(resident_mib[-quarter:]) - statistics.median(resident_mib[quarter : 2 * quarter])
    preemptions, drafted = bench.count("attune_preemptions_total"), bench.count("attune_drafted_tokens_total")
    complaints = ledger.complaints(caller.num_added)
    leaked = CONFIG.num_kv_blocks - bench.engine.num_free_blocks
    if leaked:
        complaints.append(f"{leaked} blocks are not free")
    if growth > GROWTH_BOUND_MIB:
        complaints.append(f"memory grew by {growth:.0f} MiB")
    if not preemptions:
        complaints.append("no sequence was preempted, so that was not tried")
    if ledger.outcomes["internal_error"]:
        complaints.append(f"{ledger.outcomes['internal_error']} requests failed with internal_error")
    rows: list[dict[str, Any]] = [
        {"what": "requests", "added": caller.num_added, **ledger.outcomes},
        {"what": "engine", "tokens_generated": bench.num_generated, "drafted": drafted, "preemptions": preemptions, "slowest_step_s": round(slowest_s, 2)},
        {"what": "resident memory", "unit": "MiB", "first": resident_mib[0], "last": resident_mib[-1], "highest": max(resident_mib)},
        *({"complaint": text} for text in complaints),
    ]
    report("soak", settings, rows, {"memory_growth_mib": round(growth, 1), "blocks_not_free": leaked, "complaints": len(complaints)})
    sys.exit(1 if complaints else 0)


def _resident_mib() -> int:
    """Linux only."""
    line = next(line for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) // 1024


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="npm run bench -- soak")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
