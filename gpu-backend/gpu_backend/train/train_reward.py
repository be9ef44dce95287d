"""Trains the LoRA of a generative reward model: over judged pairs (stage 2 of GRAM, arXiv 2506.14175) or over texts (stage 1)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor

from gpu_backend.data.branched import branched
from gpu_backend.data.judge_rows import JudgedRow, TextRow
from gpu_backend.losses import LossOutput
from gpu_backend.losses.generative_reward import GenerativeRewardLoss, GenerativeRewardLossConfig, winner_margins
from gpu_backend.losses.language_modeling import language_modeling_loss
from gpu_backend.train.loop import Report, Run, Training, read_rows, train
from gpu_backend.train.lora_model import LoraModel


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardTraining(Training):
    """Settings of one stage; `loss` is that of judged pairs."""

    loss: GenerativeRewardLossConfig = field(default_factory=GenerativeRewardLossConfig)


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
    texts = [row for row in rows if isinstance(row, TextRow)]
    judged = [row for row in rows if isinstance(row, JudgedRow)]
    if texts:
        train(model, Run(rows=texts, loss_of=_text_loss, training=training, folder=folder, report=report), accelerator)
        return
    reward_loss = GenerativeRewardLoss(training.loss)

    def loss_of(wrapped: torch.nn.Module, group: Sequence[JudgedRow]) -> LossOutput:
        logits_P22 = label_logits(wrapped, group, label_ids)
        is_seen_P2 = torch.tensor([[row.better_first is not None, row.better_second is not None] for row in group], device=logits_P22.device)
        epsilon_P = torch.tensor([training.loss.epsilon if row.epsilon is None else row.epsilon for row in group])
        return reward_loss(logits_P22, is_seen_P2, epsilon_P)

    train(model, Run(rows=judged, loss_of=loss_of, training=training, folder=folder, report=report), accelerator)


def judge_rows(model: LoraModel, rows: Sequence[JudgedRow], label_ids: tuple[int, int], rows_per_microbatch: int = 4) -> Tensor:
    """Label logits of every row in both orders: (P, 2, 2) in float32; column 0 is the better answer in slot A. An order without a prompt has zeros."""
    return read_rows(model, rows, lambda module, group: label_logits(module, group, label_ids), rows_per_microbatch)


def rows_with_own_verdicts(
    model: LoraModel, rows: Sequence[JudgedRow], label_ids: tuple[int, int], path: Path, rows_per_microbatch: int = 4
) -> list[JudgedRow]:
    """The rows with what the judge itself says over both orders as their `epsilon`, so that each order learns the mean of the two margins: without the noise
    of labels, which is most of what a judge of this size learns from. Kept in `path`, for a run that is stopped goes on with a judge that has changed."""
    if not path.exists():
        mean_P = winner_margins(judge_rows(model, rows, label_ids, rows_per_microbatch)).mean(dim=1)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(torch.sigmoid(-mean_P).tolist()) + "\n", encoding="utf-8")
    epsilons = json.loads(path.read_text(encoding="utf-8"))
    return [replace(row, epsilon=epsilon) for row, epsilon in zip(rows, epsilons, strict=True)]


def label_logits(model: torch.nn.Module, group: Sequence[JudgedRow], label_ids: tuple[int, int]) -> Tensor:
    """(P, 2, 2): pair, order, label."""
    prompts = branched([row.prompts for row in group], next(model.parameters()).device)
    places = [2 * index + order for index, row in enumerate(group) for order, prompt in enumerate((row.better_first, row.better_second)) if prompt is not None]
    logits_K2: Tensor = model(*prompts, label_ids)
    logits_O2 = logits_K2.new_zeros(2 * len(group), 2).index_copy(0, torch.tensor(places, device=logits_K2.device), logits_K2)
    return logits_O2.view(len(group), 2, 2)


def _text_loss(model: torch.nn.Module, group: Sequence[TextRow]) -> LossOutput:
    sequences, _, _ = branched([[row.ids] for row in group], next(model.parameters()).device)
    rows_K = torch.tensor([index for index, row in enumerate(group) for _ in range(row.start, row.stop)], device=sequences.ids_BT.device)
    targets_K = torch.tensor([at for row in group for at in range(row.start, row.stop)], device=sequences.ids_BT.device)
    return language_modeling_loss(model(sequences, rows_K, targets_K - 1), sequences.ids_BT[rows_K, targets_K])
