"""How far served weights are from float32: error of the logits, how often both choose the same token, and with `--data` the perplexity on WikiText-2."""

from __future__ import annotations

import argparse
import gzip
import math
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from harness.report import report, settings_of
from torch import Tensor
from torch.nn import functional

from gpu_backend.config import load_catalog
from gpu_backend.decoding.reference import full_logits
from gpu_backend.kernels.native import load_native
from gpu_backend.models.causal_lm.model import CausalLM
from gpu_backend.models.causal_lm.texts import load_texts
from gpu_backend.models.causal_lm.weights import load_causal_lm

QUESTIONS = ("What is the capital of France?", "Hi", "Write one sentence about the sea.", "Explain how a bridge carries its load.", "List three uses of salt.")
WINDOW_TOKENS = 512


def main() -> None:
    options = _parse()
    models_dir, cpu = Path(os.environ["ATTUNE_MODELS_DIR"]), torch.device("cpu")
    spec = load_catalog()[0]
    folder = spec.folder(models_dir)
    tokenizer, template, _ = load_texts(folder)
    assert template is not None
    prompts = [template.encode([{"role": "user", "content": question}]) for question in QUESTIONS]
    windows = [] if options.data is None else _windows(tokenizer.encode_text(_wikitext(options.data)), options.windows)
    native = load_native(models_dir / ".native")
    with tempfile.TemporaryDirectory() as work:
        dense = _without_packed(folder, Path(work))
        ways: dict[str, Callable[[], CausalLM]] = {
            "float32": lambda: load_causal_lm(dense, dtype=torch.float32, device=cpu),
            "served: 4- and 8-bit weights as they are": lambda: load_causal_lm(folder, dtype=torch.bfloat16, device=cpu, native=native),
            "bfloat16 weights": lambda: load_causal_lm(dense, dtype=torch.bfloat16, device=cpu, native=native),
            "int8 weights": lambda: load_causal_lm(dense, dtype=torch.bfloat16, device=cpu, native=native, weight_dtype="int8"),
            "bfloat16 weights, PyTorch's operators": lambda: load_causal_lm(dense, dtype=torch.bfloat16, device=cpu),
        }
        rows: list[dict[str, Any]] = []
        expected: Tensor | None = None
        for name, load in ways.items():
            model = load()
            logits = torch.cat([full_logits(model, prompt) for prompt in prompts])
            expected = logits if expected is None else expected
            row = {
                "weights": name,
                "rms_error": round((logits - expected).pow(2).mean().sqrt().item(), 4),
                "same_best_token": round((logits.argmax(-1) == expected.argmax(-1)).float().mean().item(), 4),
            }
            rows.append(row | ({"perplexity": round(_perplexity(model, windows), 4)} if windows else {}))
    assert expected is not None
    ratios = {f"same_best_token_{row['weights'].split(':')[0].split()[0]}": row["same_best_token"] for row in rows[1:4]}
    if windows:
        ratios |= {f"perplexity_{row['weights'].split(':')[0].split()[0]}": round(row["perplexity"] / rows[0]["perplexity"], 5) for row in rows[1:4]}
    settings = settings_of(positions=expected.shape[0], prompts=len(prompts), windows=len(windows), window_tokens=WINDOW_TOKENS)
    report("precision", settings, rows, ratios)


def _without_packed(folder: Path, work: Path) -> Path:
    """The same model, of which only the bfloat16 weights are found."""
    for name in ("model.safetensors", "config.json"):
        (work / name).symlink_to((folder / name).resolve())
    return work


def _wikitext(data: Path) -> str:
    return gzip.decompress((data / "lm_text" / "wikitext2.test.txt.gz").read_bytes()).decode()


def _windows(ids: list[int], count: int) -> list[list[int]]:
    """`count` stretches, evenly spread over the text."""
    step = (len(ids) - WINDOW_TOKENS) // count
    return [ids[start : start + WINDOW_TOKENS] for start in range(0, step * count, step)]


def _perplexity(model: CausalLM, windows: list[list[int]]) -> float:
    losses = [functional.cross_entropy(full_logits(model, window)[:-1], torch.tensor(window[1:])).item() for window in windows]
    return math.exp(sum(losses) / len(losses))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="npm run bench -- precision")
    parser.add_argument("--data", type=Path, help="a folder with lm_text/wikitext2.test.txt.gz")
    parser.add_argument("--windows", type=int, default=24)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
