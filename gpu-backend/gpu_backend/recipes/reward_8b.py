"""The paper's size: both stages of GRAM on a Qwen3 of 8 billion weights, on several graphics cards. `--dry-run` proves the configuration without them.

The paper trains every weight (learning rates 1e-5 and 2e-5, sharded by ZeRO-3). We train a LoRA of rank 64 on the frozen base at ten times those rates,
because the engine serves adapters on a shared base. A card then holds the whole base, so nothing is sharded and checkpoints stay small.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from transformers import Qwen3Config, Qwen3ForCausalLM

from gpu_backend.config import load_catalog
from gpu_backend.data.judge_rows import JudgedRow, TextRow, judged_rows, text_rows
from gpu_backend.data.preference_pairs import read_pair_file
from gpu_backend.losses.generative_reward import GenerativeRewardLossConfig
from gpu_backend.models.reward.judge import Judge
from gpu_backend.recipes.judge_row import SHIPPED, RecipeError, needed, print_step
from gpu_backend.recipes.reward import write_summary
from gpu_backend.tokenizer import Tokenizer
from gpu_backend.train.lora_model import LoraModel, LoraSettings
from gpu_backend.train.train_reward import RewardTraining, train_reward

MAX_TOKENS = 2048
LORA = LoraSettings(rank=64, alpha=128)
STAGE_1 = RewardTraining(learning_rate=1e-4, rows_per_step=256, warmup_share=0.1, rows_per_microbatch=1)
STAGE_2 = RewardTraining(
    learning_rate=2e-4, rows_per_step=128, num_epochs=2, warmup_share=0.1, rows_per_microbatch=1, loss=GenerativeRewardLossConfig(epsilon=0.05)
)
QWEN3_8B: dict[str, Any] = {
    "vocab_size": 151_936,
    "hidden_size": 4096,
    "intermediate_size": 12_288,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 40_960,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
}
_TINY = {**QWEN3_8B, "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
_TINY |= {"num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 128}


@dataclass(frozen=True, slots=True)
class Size:
    """Weights of the frozen base and of the LoRA, and an estimate of a card's memory in bytes."""

    num_base: int
    num_trained: int
    base_bytes: int
    trained_bytes: int
    activation_bytes: int

    @property
    def total_bytes(self) -> int:
        return self.base_bytes + self.trained_bytes + self.activation_bytes


def run_8b(options: argparse.Namespace) -> None:
    """To `out`/adapter. Stage 1 runs where `unlabelled` names its pairs."""
    if options.dry_run:
        dry_run()
        return
    base = needed(options, "base", "DIR, the folder of a Qwen3-8B")
    judge, seed = _judge_of(base, options), options.seed
    try:
        pairs = read_pair_file(needed(options, "pairs", "FILE, lines of {prompt, chosen, rejected}"))
        unlabelled = [] if options.unlabelled is None else read_pair_file(options.unlabelled)
    except ValueError as error:
        raise RecipeError(str(error)) from error
    accelerator, started = Accelerator(mixed_precision="bf16"), time.monotonic()
    model = LoraModel.from_folder(base, LORA, seed=seed)
    if unlabelled:
        texts = text_rows(judge, unlabelled, max_tokens=MAX_TOKENS, seed=seed)
        train_reward(model, texts, judge.label_ids, replace(STAGE_1, seed=seed), options.out / "stage_1", print_step, accelerator)
    rows = judged_rows(judge, pairs, max_tokens=MAX_TOKENS)
    train_reward(model, rows, judge.label_ids, replace(STAGE_2, seed=seed), options.out / "stage_2", print_step, accelerator)
    if accelerator.is_main_process:
        model.save_adapter(options.out / "adapter", torch.bfloat16)
        write_summary(options.out, "reward_8b", seed, len(rows), started)


def dry_run() -> None:
    """The full shape without memory for it, and a step of both stages on a tiny model of the same family, through the code that the full one takes."""
    size = measure_size()
    parts = {"base": size.base_bytes, "LoRA, gradients and optimizer": size.trained_bytes, "activations of a microbatch": size.activation_bytes}
    print(f"{size.num_base:,} frozen weights, {size.num_trained:,} trained")
    print(f"memory of a card, about {size.total_bytes / 1e9:.0f} GB: " + ", ".join(f"{name} {num / 1e9:.1f}" for name, num in parts.items()))
    model = LoraModel.around(Qwen3ForCausalLM(Qwen3Config(**_TINY)), LORA, seed=0)
    prompts = [tuple(range(first, first + 12)) for first in range(16)]
    judged = [JudgedRow(prompt, prompt[::-1]) for prompt in prompts]
    texts = [TextRow(prompt, 4, 12) for prompt in prompts]
    stages: dict[str, tuple[Sequence[TextRow] | Sequence[JudgedRow], RewardTraining]] = {"stage_1": (texts, STAGE_1), "stage_2": (judged, STAGE_2)}
    with tempfile.TemporaryDirectory() as folder:
        for name, (rows, stage) in stages.items():
            settings = replace(stage, rows_per_step=16, num_epochs=1)
            train_reward(model, rows, (1, 2), settings, Path(folder) / name, print_step, Accelerator())
    print("the configuration holds")


def measure_size() -> Size:
    """Counted on the meta device. Activations: per layer and token about 17 vectors of the model's width and 5 of the inner width, 2 bytes each; and in
    stage 1 the logits of a token, their log-softmax and its gradient in float32."""
    with torch.device("meta"):
        base = Qwen3ForCausalLM(Qwen3Config(**QWEN3_8B))
        model = LoraModel.around(base, LORA, seed=0)
    num_trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    num_base = sum(parameter.numel() for parameter in model.parameters()) - num_trained
    per_token = QWEN3_8B["num_hidden_layers"] * (17 * QWEN3_8B["hidden_size"] + 5 * QWEN3_8B["intermediate_size"]) * 2 + 12 * QWEN3_8B["vocab_size"]
    # A and B, their gradients and two moments, each in float32.
    return Size(num_base, num_trained, 2 * num_base, 16 * num_trained, per_token * 2 * MAX_TOKENS)


def _judge_of(base: Path, options: argparse.Namespace) -> Judge:
    """The shipped template, whose control tokens Qwen3 has too, with this base's tokenizer."""
    spec = next((spec for spec in load_catalog(options.catalog) if spec.id == SHIPPED), None)
    if spec is None or spec.judge is None:
        raise RecipeError(f"{options.catalog} has no row {SHIPPED!r} with a table `judge`")
    tokenizer = Tokenizer.from_file(base / "tokenizer.json")
    return Judge.from_folder(spec.folder(options.models_dir), tokenizer, replace(spec.judge, max_tokens=MAX_TOKENS))
