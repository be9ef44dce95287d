"""What LoRA adapters of rank 16 on all seven projections of all layers cost: a step that reads prompts and a step that decodes, against the same without."""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from harness import prompts
from harness.engines import Bench, decode_speed, load, models_dir, run_all
from harness.quiet import wait_until_quiet
from harness.report import report, settings_of
from safetensors.torch import save

from gpu_backend.adapters.content import CONFIG, WEIGHTS, AdapterContent
from gpu_backend.adapters.peft_weights import projection_shapes
from gpu_backend.config import load_catalog
from gpu_backend.core import LabelScores, Request, SamplingParams
from gpu_backend.models.causal_lm.config import CausalLMConfig, parse_config

RANK, NUM_ADAPTERS = 16, 3
NUM_PROMPTS, PROMPT_TOKENS = 4, 128
NUM_DECODING, DECODED_TOKENS = 16, 24


def main() -> None:
    options = _parse()
    settings = settings_of(
        rank=RANK,
        rounds=options.rounds,
        timed=f"prefill: scores of two labels for {NUM_PROMPTS} prompts of {PROMPT_TOKENS} tokens, all different, in one step; decode: {NUM_DECODING} at once",
        adapters="one: the same for every row; mixed: none and three, in turns",
        taken="best round, in turns",
    )
    with tempfile.TemporaryDirectory() as folder:
        ids = [_store(Path(folder), seed) for seed in range(NUM_ADAPTERS)]
        bench = load(adapters_dir=Path(folder))
        kinds: dict[str, list[str | None]] = {"none": [None], "one": [ids[0]], "mixed": [None, *ids]}
        figures: dict[str, Callable[[list[str | None], str], float]] = {
            "prefill": lambda chosen, name: run_all(bench, _prompts(bench, chosen, name)) * 1000,
            "decode": lambda chosen, name: 1000 * NUM_DECODING / decode_speed(bench, _decoding(bench, chosen, name)),
        }
        times: dict[tuple[str, str], list[float]] = {}
        busy = []
        for index in range(options.rounds + 1):
            busy.append(wait_until_quiet())
            for figure, measure in figures.items():
                for kind, chosen in kinds.items():
                    took = measure(chosen, f"{figure}/{kind}/{index}")
                    # The first round loads the adapters.
                    if index > 0:
                        times.setdefault((figure, kind), []).append(took)
    rows = [
        {"figure": figure, "adapters": kind, "milliseconds": round(min(values), 2), "rounds": [round(value, 2) for value in values]}
        for (figure, kind), values in times.items()
    ]
    ratios = {f"{figure}_{kind}": round(min(times[figure, kind]) / min(times[figure, "none"]), 3) for figure in figures for kind in ("one", "mixed")}
    report("adapters", {**settings, "busy_before_rounds": busy}, rows, ratios)


def _prompts(bench: Bench, adapters: list[str | None], name: str) -> list[Request]:
    source, task = random.Random(name), LabelScores((17, 18))
    return [
        Request(id=str(number), prompt_ids=prompts.words(bench.tokenizer, source, PROMPT_TOKENS), task=task, adapter=adapters[number % len(adapters)])
        for number in range(NUM_PROMPTS)
    ]


def _decoding(bench: Bench, adapters: list[str | None], name: str) -> list[Request]:
    source, task = random.Random(name), SamplingParams(max_tokens=DECODED_TOKENS, temperature=0.0)
    return [
        Request(id=str(number), prompt_ids=prompts.words(bench.tokenizer, source, 16), task=task, adapter=adapters[number % len(adapters)])
        for number in range(NUM_DECODING)
    ]


def _store(root: Path, seed: int) -> str:
    """A random adapter in PEFT's two files. -> its id."""
    model = _embedded_config()
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for layer in range(model.num_layers):
        for name, (num_outputs, num_inputs) in projection_shapes(model).items():
            block = "mlp" if name in ("gate_proj", "up_proj", "down_proj") else "self_attn"
            prefix = f"base_model.model.model.layers.{layer}.{block}.{name}"
            tensors[f"{prefix}.lora_A.weight"] = torch.randn(RANK, num_inputs, generator=generator) * num_inputs**-0.5
            tensors[f"{prefix}.lora_B.weight"] = torch.randn(num_outputs, RANK, generator=generator) * 0.01
    content = AdapterContent(save(tensors), json.dumps({"peft_type": "LORA", "r": RANK, "lora_alpha": 2 * RANK}).encode())
    folder = root / content.id
    folder.mkdir()
    (folder / WEIGHTS).write_bytes(content.weights)
    (folder / CONFIG).write_bytes(content.config)
    return content.id


def _embedded_config() -> CausalLMConfig:
    return parse_config(json.loads((load_catalog()[0].folder(models_dir()) / "config.json").read_text(encoding="utf-8")))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="npm run bench -- adapters")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
