"""Trains and reads a scalar reward model (Bradley-Terry loss), on the same loop as the generative one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor

from gpu_backend.data.branched import branched
from gpu_backend.data.scalar_rows import ScalarRow
from gpu_backend.losses import LossOutput
from gpu_backend.losses.bradley_terry import bradley_terry_loss
from gpu_backend.train.loop import Report, Run, Training, read_rows, train
from gpu_backend.train.scalar_model import ScalarModel


def train_scalar_reward(
    model: ScalarModel,
    rows: Sequence[ScalarRow],
    training: Training,
    folder: Path,
    report: Report = lambda _metrics: None,
    accelerator: Accelerator | None = None,
) -> None:
    """As `train_reward`: in place, going on from a checkpoint in `folder`."""
    train(model, Run(rows=rows, loss_of=_loss, training=training, folder=folder, report=report), accelerator)


def scalar_margins(model: ScalarModel, rows: Sequence[ScalarRow], rows_per_microbatch: int = 4) -> Tensor:
    """(P,) float32: the reward of the better answer less that of the other."""
    chosen_P, rejected_P = read_rows(model, rows, _rewards, rows_per_microbatch).unbind(dim=1)
    return chosen_P - rejected_P


def _loss(model: torch.nn.Module, group: Sequence[ScalarRow]) -> LossOutput:
    chosen_P, rejected_P = _rewards(model, group).unbind(dim=1)
    return bradley_terry_loss(chosen_P, rejected_P)


def _rewards(model: torch.nn.Module, group: Sequence[ScalarRow]) -> Tensor:
    """(P, 2): rewards of the better answer and of the other. Both follow the question, which is read once."""
    rewards_K: Tensor = model(branched([row.prompts for row in group], next(model.parameters()).device))
    return rewards_K.view(len(group), 2)
