"""How far the served bfloat16 model is from float32: error of its logits, and how often both choose the same token."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from harness.report import report, settings_of

from gpu_backend.config import load_catalog
from gpu_backend.decoding.reference import full_logits
from gpu_backend.kernels.native import load_native
from gpu_backend.models.causal_lm.weights import load_causal_lm
from gpu_backend.server.served_model import load_texts

QUESTIONS = ("What is the capital of France?", "Hi", "Write one sentence about the sea.", "Explain how a bridge carries its load.", "List three uses of salt.")


def main() -> None:
    models_dir, device = Path(os.environ["ATTUNE_MODELS_DIR"]), torch.device("cpu")
    (spec,) = load_catalog()
    folder = spec.folder(models_dir)
    _, template, _ = load_texts(folder)
    assert template is not None
    prompts = [template.encode([{"role": "user", "content": question}]) for question in QUESTIONS]
    exact = load_causal_lm(folder, dtype=torch.float32, device=device)
    expected = torch.cat([full_logits(exact, prompt) for prompt in prompts])
    rows: list[dict[str, Any]] = []
    for name, native in (("torch operators", None), ("native operators", load_native(models_dir / ".native"))):
        model = load_causal_lm(folder, dtype=torch.bfloat16, device=device, native=native)
        served = torch.cat([full_logits(model, prompt) for prompt in prompts])
        error = (served - expected).pow(2).mean().sqrt().item()
        agreement = (served.argmax(-1) == expected.argmax(-1)).float().mean().item()
        rows.append({"bfloat16 with": name, "rms_error": round(error, 4), "same_best_token": round(agreement, 4)})
    ratios = {f"same_best_token_{row['bfloat16 with'].split()[0]}": row["same_best_token"] for row in rows}
    report("precision", settings_of(positions=expected.shape[0], prompts=len(prompts)), rows, ratios)


if __name__ == "__main__":
    main()
