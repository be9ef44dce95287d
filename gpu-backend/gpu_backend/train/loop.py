"""The training loop of all reward models: rows to steps to gradients, the same numbers on one process or several, and after a restart.

Runs alone or under `accelerate launch`; then every process takes its share of each step's rows, and gradients are averaged.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from gpu_backend.data.judge_rows import TrainingRow, microbatches, step_indices
from gpu_backend.losses import LossOutput
from gpu_backend.train.checkpoint import load_checkpoint, save_checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """Settings of one stage. A step takes `rows_per_step` rows in groups of `rows_per_microbatch`, which bounds memory.

    Each group counts by its number of rows, so that the size of groups changes no gradient but by rounding where the loss is a mean over rows. It does
    where the loss is a mean over something else: over tokens in stage 1, and over pairs seen in both orders for the penalty on position bias.
    """

    learning_rate: float
    rows_per_step: int
    num_epochs: int = 1
    warmup_share: float = 0.05
    rows_per_microbatch: int = 4
    max_grad_norm: float = 1.0
    checkpoint_every: int = 25
    seed: int = 0


Report = Callable[[dict[str, Any]], None]
RowT = TypeVar("RowT", bound=TrainingRow)
# The mean loss of a microbatch. The model is the one that accelerate has wrapped.
LossOf = Callable[[nn.Module, Sequence[RowT]], LossOutput]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(Generic[RowT]):
    """What is trained on what. Checkpoints and metrics go to `folder`; `report` gets the metrics of every step."""

    rows: Sequence[RowT]
    loss_of: LossOf[RowT]
    training: Training
    folder: Path
    report: Report = lambda _metrics: None


def train(model: nn.Module, run: Run[RowT], accelerator: Accelerator | None = None) -> None:
    """Train `model` in place, going on from the checkpoint in the run's folder if there is one. Metrics are also appended to metrics.jsonl there."""
    training, rows, folder = run.training, run.rows, run.folder
    accelerator = accelerator or Accelerator()
    if training.rows_per_step % accelerator.num_processes:
        raise ValueError(f"rows_per_step ({training.rows_per_step}) must be a multiple of the number of processes ({accelerator.num_processes})")
    steps = step_indices(len(rows), training.rows_per_step, training.num_epochs, training.seed)
    if not steps:
        raise ValueError(f"{len(rows)} rows fill no step of {training.rows_per_step}: give more pairs")
    parameters = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    optimizer = torch.optim.AdamW(parameters.values(), lr=training.learning_rate, weight_decay=0.0)
    state = load_checkpoint(folder, parameters, optimizer)
    first_step = 0 if state is None else state["step"]
    seconds_before = 0.0 if state is None else state["seconds"]
    wrapped, optimizer = accelerator.prepare(model, optimizer)
    wrapped.train()
    started = time.monotonic()
    for step in range(first_step, len(steps)):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, len(steps), training)
        own = [rows[index] for index in steps[step][accelerator.process_index :: accelerator.num_processes]]
        metrics = _run_step(accelerator, wrapped, own, run.loss_of, training)
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
            run.report(line)
            if (step + 1) % training.checkpoint_every == 0 or step + 1 == len(steps):
                save_checkpoint(folder, parameters, _inner(optimizer), {"step": step + 1, "seconds": seconds})


def learning_rate_at(step: int, num_steps: int, training: Training) -> float:
    """Linear warm-up over the first share of the steps, then half a cosine down to a tenth."""
    num_warmup = max(1, round(num_steps * training.warmup_share))
    if step < num_warmup:
        return training.learning_rate * (step + 1) / num_warmup
    progress = (step - num_warmup) / max(1, num_steps - num_warmup)
    return training.learning_rate * (0.1 + 0.9 * (1 + math.cos(math.pi * progress)) / 2)


@torch.no_grad()
def read_rows(model: nn.Module, rows: Sequence[RowT], read: Callable[[nn.Module, Sequence[RowT]], Tensor], rows_per_microbatch: int = 4) -> Tensor:
    """What `read` gives for each of the rows, in their order, in the arithmetic of training; the model goes on training afterwards."""
    model.eval()
    device, dtypes = next(model.parameters()).device, {parameter.dtype for parameter in model.parameters()}
    indices = {id(row): index for index, row in enumerate(rows)}
    results: list[Tensor | None] = [None] * len(rows)
    with torch.autocast(device.type, torch.bfloat16, enabled=torch.bfloat16 in dtypes):
        for group in microbatches(rows, rows_per_microbatch):
            for row, result in zip(group, read(model, group).cpu(), strict=True):
                results[indices[id(row)]] = result
    model.train()
    return torch.stack([result for result in results if result is not None])


def _run_step(accelerator: Accelerator, model: nn.Module, rows: Sequence[RowT], loss_of: LossOf[RowT], training: Training) -> dict[str, float]:
    """Gradients of the mean over microbatches by their numbers of rows. -> metrics, averaged the same way."""
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


def _inner(optimizer: Any) -> torch.optim.Optimizer:
    """The optimizer inside accelerate's wrapper."""
    inner: torch.optim.Optimizer = getattr(optimizer, "optimizer", optimizer)
    return inner
