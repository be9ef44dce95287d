"""Run by torchrun in a test: trains the tiny model on this process's share of every step."""

from __future__ import annotations

import sys
from pathlib import Path

from accelerate import Accelerator

from gpu_backend.train.train_reward import RewardTraining, train_reward
from train_support import LABELS, easy_rows, tiny_lora

base, out = map(Path, sys.argv[1:])
accelerator = Accelerator(cpu=True)
assert accelerator.num_processes == 2
model = tiny_lora(base)
train_reward(
    model, easy_rows(16), LABELS, RewardTraining(learning_rate=1e-3, rows_per_step=8, num_epochs=2, rows_per_microbatch=2), out, accelerator=accelerator
)
if accelerator.is_main_process:
    model.save_adapter(out / "adapter")
accelerator.end_training()
