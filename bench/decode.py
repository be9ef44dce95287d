"""Tokens per second of the engine against `transformers` and llama.cpp on the same weights, decoding 1 and 16 at once and reading a 512-token prompt."""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable
from typing import Any

import torch
from harness import prompts
from harness.engines import Bench, decode_speed, load, models_dir, run_all
from harness.llama_cpp import LlamaCpp, RivalUnavailableError
from harness.quiet import wait_until_quiet
from harness.report import report, settings_of
from transformers import AutoModelForCausalLM, StoppingCriteria, StoppingCriteriaList

from gpu_backend.config import load_catalog
from gpu_backend.core import Request, SamplingParams

PROMPT = "Write a long story about a lighthouse keeper who repairs clocks."
BATCHES = (1, 16)
PREFILL_TOKENS = 512
Measure = Callable[[int], float]


def main() -> None:
    options = _parse()
    settings = settings_of(
        new_tokens=options.tokens,
        rounds=options.rounds,
        taken="best round, rivals in turns",
        timed="decode: from first token to last, greedy; prefill: until the first token, prompts all different",
        dtypes="attune and llama.cpp 4 and 8 bits as in the file (activations: attune bfloat16); transformers the bfloat16 copy",
    )
    bench = load()
    theirs = AutoModelForCausalLM.from_pretrained(load_catalog()[0].folder(models_dir()), dtype=torch.bfloat16).eval()
    rows: list[dict[str, Any]] = []
    try:
        llama = LlamaCpp(num_threads=torch.get_num_threads(), max_batch=max(BATCHES))
    except RivalUnavailableError as error:
        llama = None
        rows.append({"engine": "llama.cpp", "skipped": str(error)})
    assert bench.served.template is not None
    prompt_ids = bench.served.template.encode([{"role": "user", "content": PROMPT}])
    settings["prompt_tokens"] = len(prompt_ids)
    ratios: dict[str, float] = {}
    for batch in BATCHES:
        ways = _decode_ways(bench, theirs, llama, prompt_ids, batch, options.tokens)
        _compare(f"decode_batch_{batch}", ways, options.rounds, rows, ratios)
    ways = _prefill_ways(bench, theirs, llama)
    _compare("prefill_512", ways, options.rounds, rows, ratios)
    if llama is not None:
        llama.close()
    report("decode", settings, rows, ratios)


def _compare(figure: str, ways: dict[str, Measure], rounds: int, rows: list[dict[str, Any]], ratios: dict[str, float]) -> None:
    """Every way once per round, in turns. A rival with several ways counts with its best."""
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    for index in range(rounds):
        wait_until_quiet()
        for name, measure in ways.items():
            speeds[name].append(measure(index))
    for name, values in speeds.items():
        rows.append({"figure": figure, "engine": name, "tokens_per_second": round(max(values), 1), "rounds": [round(value, 1) for value in values]})
    for rival in ("transformers", "llama.cpp"):
        theirs = [max(values) for name, values in speeds.items() if name.startswith(rival)]
        if theirs:
            ratios[f"{figure}_vs_{rival}"] = round(max(speeds["attune"]) / max(theirs), 2)


def _decode_ways(bench: Bench, theirs: Any, llama: LlamaCpp | None, prompt_ids: list[int], batch: int, tokens: int) -> dict[str, Measure]:
    sampling = SamplingParams(max_tokens=tokens, temperature=0.0)
    requests = [Request(id=str(index), prompt_ids=tuple(prompt_ids), task=sampling) for index in range(batch)]
    ways: dict[str, Measure] = {
        "attune": lambda _: decode_speed(bench, requests),
        "transformers generate": lambda _: _decode_transformers(theirs, prompt_ids, batch, tokens),
    }
    if llama is not None:
        ways["llama.cpp raw batches"] = lambda _: llama.ask("raw", prompt=prompt_ids, batch=batch, tokens=tokens)["tokens_per_second"]
        ways["llama.cpp sequences"] = lambda _: llama.ask("sequences", prompt=prompt_ids, batch=batch, tokens=tokens)["tokens_per_second"]
        if batch == 1:
            ways["llama.cpp chat session"] = lambda _: llama.ask("chat", text=PROMPT, tokens=tokens)["tokens_per_second"]
    return ways


def _prefill_ways(bench: Bench, theirs: Any, llama: LlamaCpp | None) -> dict[str, Measure]:
    def prompt(index: int) -> tuple[int, ...]:
        return prompts.words(bench.tokenizer, random.Random(f"prefill/{index}"), PREFILL_TOKENS)

    one = SamplingParams(max_tokens=1, temperature=0.0)
    ways: dict[str, Measure] = {
        "attune": lambda index: PREFILL_TOKENS / run_all(bench, [Request(id="prefill", prompt_ids=prompt(index), task=one)]),
        "transformers generate": lambda index: PREFILL_TOKENS / _prefill_transformers(theirs, prompt(index)),
    }
    if llama is not None:
        ways["llama.cpp raw batches"] = lambda index: PREFILL_TOKENS / llama.ask("prefill", prompt=prompt(index))["seconds"]
    return ways


class _Clock(StoppingCriteria):
    """Stops nothing; notes when each token was chosen."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(self, input_ids: torch.LongTensor, *_: Any, **__: Any) -> Any:
        self.times.append(time.perf_counter())
        return torch.zeros(input_ids.shape[0], dtype=torch.bool)


def _decode_transformers(model: Any, prompt_ids: list[int], batch: int, tokens: int) -> float:
    clock = _Clock()
    _generate(model, torch.tensor([prompt_ids] * batch), tokens, stopping_criteria=StoppingCriteriaList([clock]))
    assert len(clock.times) == tokens
    return batch * (tokens - 1) / (clock.times[-1] - clock.times[0])


def _prefill_transformers(model: Any, prompt_ids: tuple[int, ...]) -> float:
    started = time.perf_counter()
    _generate(model, torch.tensor([prompt_ids]), 1)
    return time.perf_counter() - started


@torch.inference_mode()
def _generate(model: Any, prompt: torch.Tensor, tokens: int, **more: Any) -> None:
    model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=tokens, do_sample=False, eos_token_id=None, **more)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="npm run bench -- decode")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
