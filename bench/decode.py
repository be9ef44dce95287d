"""Tokens per second of the engine against `transformers` on the same weights, at batch 1 and 16, taken in turns in one run."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

import torch
from prometheus_client import CollectorRegistry
from transformers import AutoModelForCausalLM

from gpu_backend.config import EngineConfig, load_catalog
from gpu_backend.core import Finished, Request, SamplingParams
from gpu_backend.engine.engine import Engine
from gpu_backend.engine.metrics import EngineMetrics
from gpu_backend.server.served_model import load_served_model

PROMPT = "Write a long story about a lighthouse keeper who repairs clocks."


def main() -> None:
    options = _parse()
    models_dir = Path(os.environ["ATTUNE_MODELS_DIR"])
    (spec,) = load_catalog()
    served = load_served_model(spec, models_dir, EngineConfig(), EngineMetrics(CollectorRegistry()))
    theirs = AutoModelForCausalLM.from_pretrained(spec.folder(models_dir), dtype=torch.bfloat16).eval()
    assert served.template is not None
    prompt_ids = served.template.encode([{"role": "user", "content": PROMPT}])
    rows: list[dict[str, Any]] = []
    ratios: dict[str, float] = {}
    for batch in (1, 16):
        ours_best = theirs_best = 0.0
        for _ in range(options.rounds):
            ours_best = max(ours_best, _run_ours(served.engine, prompt_ids, batch, options.tokens))
            theirs_best = max(theirs_best, _run_theirs(theirs, prompt_ids, batch, options.tokens))
        rows += [
            {"engine": "attune", "batch": batch, "tokens_per_second": round(ours_best, 1)},
            {"engine": "transformers", "batch": batch, "tokens_per_second": round(theirs_best, 1)},
        ]
        ratios[f"decode_batch_{batch}_vs_transformers"] = round(ours_best / theirs_best, 2)
    settings = {
        "prompt_tokens": len(prompt_ids),
        "new_tokens": options.tokens,
        "rounds": options.rounds,
        "dtype": "bfloat16",
        "threads": torch.get_num_threads(),
    }
    _report(rows, ratios, settings, as_json=options.json)


def _run_ours(engine: Engine, prompt_ids: list[int], batch: int, num_tokens: int) -> float:
    """Greedy; prompt processing is inside the time, as it is for the rival."""
    sampling = SamplingParams(max_tokens=num_tokens, temperature=0.0)
    started = time.perf_counter()
    for index in range(batch):
        engine.add(Request(id=str(index), prompt_ids=tuple(prompt_ids), sampling=sampling))
    num_generated = 0
    while engine.has_work:
        num_generated += sum(event.usage.completion_tokens for _, event in engine.step() if isinstance(event, Finished))
    seconds = time.perf_counter() - started
    assert num_generated == batch * num_tokens, "the model ended early: choose a prompt with a longer answer"
    return num_generated / seconds


@torch.inference_mode()
def _run_theirs(model: Any, prompt_ids: list[int], batch: int, num_tokens: int) -> float:
    prompt = torch.tensor([prompt_ids] * batch)
    started = time.perf_counter()
    out = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=num_tokens, do_sample=False, eos_token_id=None)
    assert out.shape[1] == len(prompt_ids) + num_tokens
    return batch * num_tokens / (time.perf_counter() - started)


def _report(rows: list[dict[str, Any]], ratios: dict[str, float], settings: dict[str, Any], *, as_json: bool) -> None:
    for row in rows:
        print("  ".join(f"{key}={value}" for key, value in row.items()))
    for name, ratio in ratios.items():
        print(f"{name}: {ratio}")
    if as_json:
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        machine = f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}"
        print(json.dumps({"name": "decode", "commit": commit, "machine": machine, "settings": settings, "rows": rows, "ratios": ratios}))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="npm run bench -- decode")
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
