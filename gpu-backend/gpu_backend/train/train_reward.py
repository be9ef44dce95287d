"""Trains the LoRA of a generative reward model: a loop over judged pairs (stage 2 of GRAM, arXiv 2506.14175) or over texts (stage 1).

Runs alone or under `accelerate launch`; then every process takes its share of each step's rows, and gradients are averaged.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from gpu_backend.data.judge_rows import JudgedRow, TextRow, microbatches, step_indices
from gpu_backend.losses import LossOutput
from gpu_backend.losses.generative_reward import GenerativeRewardLoss, GenerativeRewardLossConfig
from gpu_backend.losses.language_modeling import language_modeling_loss
from gpu_backend.train.checkpoint import load_checkpoint, save_checkpoint
from gpu_backend.train.lora_model import LoraModel


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardTraining:
    """Settings of one stage. A step takes `rows_per_step` pairs; `rows_per_microbatch` bounds memory only, it changes no gradient but by rounding."""

    learning_rate: float
    rows_per_step: int
    num_epochs: int = 1
    warmup_share: float = 0.05
    rows_per_microbatch: int = 4
    max_grad_norm: float = 1.0
    loss: GenerativeRewardLossConfig = field(default_factory=GenerativeRewardLossConfig)
    checkpoint_every: int = 25
    seed: int = 0


Report = Callable[[dict[str, Any]], None]


def train_reward(
    model: LoraModel,
    rows: Sequence[JudgedRow] | Sequence[TextRow],
    label_ids: tuple[int, int],
    training: RewardTraining,
    folder: Path,
    report: Report = lambda _metrics: None,
    accelerator: Accelerator | None = None,
) -> None:
    """Train `model` in place, going on from the checkpoint in `folder` if there is one. `report` gets the metrics of every step, which are also
    appended to `folder`/metrics.jsonl."""
    accelerator = accelerator or Accelerator()
    if training.rows_per_step % accelerator.num_processes:
        raise ValueError(f"rows_per_step ({training.rows_per_step}) must be a multiple of the number of processes ({accelerator.num_processes})")
    parameters = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    optimizer = torch.optim.AdamW(parameters.values(), lr=training.learning_rate, weight_decay=0.0)
    state = load_checkpoint(folder, parameters, optimizer)
    first_step = 0 if state is None else state["step"]
    seconds_before = 0.0 if state is None else state["seconds"]
    wrapped, optimizer = accelerator.prepare(model, optimizer)
    wrapped.train()
    steps = step_indices(len(rows), training.rows_per_step, training.num_epochs, training.seed)
    loss_of = _loss_of(rows, label_ids, training)
    started = time.monotonic()
    for step in range(first_step, len(steps)):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, len(steps), training)
        own = [rows[index] for index in steps[step][accelerator.process_index :: accelerator.num_processes]]
        metrics = _run_step(accelerator, wrapped, own, loss_of, training)
        grad_norm = accelerator.clip_grad_norm_(wrapped.parameters(), training.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        seconds = seconds_before + time.monotonic() - started
        line = {
            "step": step + 1,
            "steps": len(steps),
            **metrics,
            "grad_norm": float(grad_norm),
            "lr": optimizer.param_groups[0]["lr"],
            "seconds": round(seconds, 1),
        }
        if accelerator.is_main_process:
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            report(line)
            if (step + 1) % training.checkpoint_every == 0 or step + 1 == len(steps):
                save_checkpoint(folder, parameters, _inner(optimizer), {"step": step + 1, "seconds": seconds})


def learning_rate_at(step: int, num_steps: int, training: RewardTraining) -> float:
    """Linear warm-up over the first share of the steps, then half a cosine down to a tenth."""
    num_warmup = max(1, round(num_steps * training.warmup_share))
    if step < num_warmup:
        return training.learning_rate * (step + 1) / num_warmup
    progress = (step - num_warmup) / max(1, num_steps - num_warmup)
    return training.learning_rate * (0.1 + 0.9 * (1 + math.cos(math.pi * progress)) / 2)


@torch.no_grad()
def judge_rows(model: LoraModel, rows: Sequence[JudgedRow], label_ids: tuple[int, int], rows_per_microbatch: int = 4) -> Tensor:
    """Label logits of every row in both orders, as served: (P, 2, 2) in float32; column 0 is the better answer in slot A."""
    model.eval()
    weights = next(model.parameters())
    indices = {id(row): index for index, row in enumerate(rows)}
    logits_P22 = torch.empty(len(rows), 2, 2)
    with torch.autocast(weights.device.type, torch.bfloat16, enabled=weights.dtype is torch.bfloat16):
        for group in microbatches(rows, rows_per_microbatch):
            logits_P22[[indices[id(row)] for row in group]] = _label_logits(model, group, label_ids).cpu()
    model.train()
    return logits_P22


def _loss_of(rows: Sequence[Any], label_ids: tuple[int, int], training: RewardTraining) -> Callable[[torch.nn.Module, list[Any]], LossOutput]:
    if rows and isinstance(rows[0], TextRow):
        return _text_loss
    reward_loss = GenerativeRewardLoss(training.loss)
    return lambda model, group: reward_loss(_label_logits(model, group, label_ids))


def _run_step(
    accelerator: Accelerator, model: torch.nn.Module, rows: list[Any], loss_of: Callable[[torch.nn.Module, list[Any]], LossOutput], training: RewardTraining
) -> dict[str, float]:
    """Gradients of the mean over rows, gathered over microbatches. -> metrics, averaged the same way."""
    totals: dict[str, float] = {}
    groups = microbatches(rows, training.rows_per_microbatch)
    for number, group in enumerate(groups):
        is_last = number + 1 == len(groups)
        with nullcontext() if is_last else accelerator.no_sync(model):
            output = loss_of(model, group)
            share = len(group) / len(rows)
            accelerator.backward(output.loss * share)
        for name, value in {"loss": output.loss.item(), **output.metrics}.items():
            totals[name] = totals.get(name, 0.0) + value * share
    return totals


def _label_logits(model: torch.nn.Module, group: Sequence[JudgedRow], label_ids: tuple[int, int]) -> Tensor:
    """(P, 2, 2): pair, order, label."""
    prompts = [prompt for row in group for prompt in (row.better_first, row.better_second)]
    ids_BT = _padded(model, prompts)
    last_B = torch.tensor([len(prompt) - 1 for prompt in prompts], device=ids_BT.device)
    logits_B2: Tensor = model(ids_BT, torch.arange(len(prompts), device=ids_BT.device), last_B, label_ids)
    return logits_B2.view(len(group), 2, 2)


def _text_loss(model: torch.nn.Module, group: Sequence[TextRow]) -> LossOutput:
    ids_BT = _padded(model, [row.ids for row in group])
    rows_K = torch.tensor([index for index, row in enumerate(group) for _ in range(row.start, row.stop)], device=ids_BT.device)
    targets_K = torch.tensor([at for row in group for at in range(row.start, row.stop)], device=ids_BT.device)
    return language_modeling_loss(model(ids_BT, rows_K, targets_K - 1), ids_BT[rows_K, targets_K])


def _padded(model: torch.nn.Module, prompts: Sequence[tuple[int, ...]]) -> Tensor:
    """(B, T) on the model's device, filled up at the right with token 0, which no chosen position sees.

    T is a multiple of 32: a product of a new shape costs the CPU's library a second or more to prepare, in all layers together.
    """
    width = -(-max(map(len, prompts)) // 32) * 32
    return torch.tensor([[*prompt, *[0] * (width - len(prompt))] for prompt in prompts], device=next(model.parameters()).device)


def _inner(optimizer: Any) -> torch.optim.Optimizer:
    """The optimizer inside accelerate's wrapper."""
    inner: torch.optim.Optimizer = getattr(optimizer, "optimizer", optimizer)
    return inner
