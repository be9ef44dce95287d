"""What a JSON schema costs per token: decoding under it against free text of the same lengths, 1 and 8 at once."""

from __future__ import annotations

import argparse
import time
from typing import Any

from harness.engines import Bench, decode_speed, load
from harness.quiet import wait_until_quiet
from harness.report import report, settings_of

from gpu_backend.core import Grammar, Request, SamplingParams
from gpu_backend.decoding.grammar import json_grammar

BATCHES = (1, 8)
PROMPT = "List the people of a small town as JSON, each with name, age, job, hobbies and whether they own a dog. Person list number {}."
# Longer than any answer measured here, so that both kinds end by length.
SCHEMA: dict[str, Any] = {
    "type": "array",
    "minItems": 100,
    "items": {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 40},
            "age": {"type": "integer", "minimum": 0, "maximum": 120},
            "job": {"enum": ["baker", "teacher", "doctor", "farmer", "retired"]},
            "hobbies": {"type": "array", "items": {"type": "string", "maxLength": 30}, "minItems": 1, "maxItems": 4},
            "owns_dog": {"type": "boolean"},
        },
        "required": ["name", "age", "job", "hobbies", "owns_dog"],
        "additionalProperties": False,
    },
}


def main() -> None:
    options = _parse()
    settings = settings_of(
        new_tokens=options.tokens, rounds=options.rounds, schema=SCHEMA, temperature=0, taken="best round, both kinds in turns; first to last token"
    )
    bench = load()
    began = time.perf_counter()
    grammar = bench.served.grammars.compile(json_grammar(SCHEMA))
    compile_ms = (time.perf_counter() - began) * 1000
    rows: list[dict[str, Any]] = [{"what": "schema compiled once", "ms": round(compile_ms, 1)}]
    ratios: dict[str, float] = {}
    busy: list[float] = []
    for batch in BATCHES:
        kinds = {"free": _requests(bench, batch, options.tokens, None), "schema": _requests(bench, batch, options.tokens, grammar)}
        ms: dict[str, list[float]] = {kind: [] for kind in kinds}
        for _ in range(options.rounds):
            busy.append(wait_until_quiet())
            for kind, requests in kinds.items():
                ms[kind].append(1000 * batch / decode_speed(bench, requests))
        for kind, values in ms.items():
            rows.append({"batch": batch, "text": kind, "ms_per_token": round(min(values), 2), "rounds": [round(value, 2) for value in values]})
        ratios[f"structured_batch_{batch}_vs_free"] = round(min(ms["schema"]) / min(ms["free"]), 3)
    report("structured", {**settings, "busy_before_rounds": busy}, rows, ratios)


def _requests(bench: Bench, batch: int, tokens: int, grammar: Grammar | None) -> list[Request]:
    assert bench.served.template is not None
    sampling = SamplingParams(max_tokens=tokens, temperature=0.0, grammar=grammar)
    prompts = [bench.served.template.encode([{"role": "user", "content": PROMPT.format(index)}]) for index in range(batch)]
    return [Request(id=str(index), prompt_ids=tuple(prompt), task=sampling) for index, prompt in enumerate(prompts)]


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="npm run bench -- structured")
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
