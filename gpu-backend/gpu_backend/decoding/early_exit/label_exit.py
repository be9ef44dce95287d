"""A label exit: a linear reading of an inner layer, from which a judge's verdict can be told before the layers above have run.

It was fitted to the difference of the two labels' logits at full depth. An operating point says from which distance of that reading from even on a prompt
may leave, so that no more than `max_risk` of the verdicts are others than full depth's. Shapes: K rows, H hidden size.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

WEIGHTS, CONFIG = "label_exit.safetensors", "label_exit.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelPoint:
    """A prompt may leave whose reading is at least `threshold` from 0."""

    max_risk: float
    threshold: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelExitConfig:
    """`judge` names the weights and the template that it was fitted to (`judge_revision`). The log-odds that a reading d has the sign of full depth's
    difference are `slope` |d| + `intercept`. `points` go from the safest to the boldest."""

    judge: str
    layer: int
    slope: float
    intercept: float
    points: tuple[LabelPoint, ...]


class LabelExit:
    """Difference of the labels' logits, read as `direction_H` · x + `bias`."""

    def __init__(self, config: LabelExitConfig, direction_H: Tensor, bias: float) -> None:
        if direction_H.dim() != 1 or not torch.isfinite(direction_H).all() or not math.isfinite(bias):
            raise ValueError("a label exit has one direction of finite numbers, and a finite bias")
        if [point.threshold for point in config.points] != sorted((point.threshold for point in config.points), reverse=True):
            raise ValueError("a bolder point has a lower threshold")
        self.config = config
        self.direction_H = direction_H.float()
        self.bias = bias
        # By the risk of its point.
        self.gates = {point.max_risk: LabelExitGate(self, point.threshold) for point in config.points}

    def confidence(self, difference: float) -> float:
        """How often full depth gives the same verdict where this was read."""
        return 1 / (1 + math.exp(-(self.config.slope * abs(difference) + self.config.intercept)))

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        save_file({"direction": self.direction_H.contiguous(), "bias": torch.tensor([self.bias])}, folder / WEIGHTS)
        (folder / CONFIG).write_text(json.dumps(asdict(self.config), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> LabelExit:
        """Raises OSError where a file is missing, ValueError where one is not of this kind."""
        try:
            raw = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
            config = LabelExitConfig(**{**raw, "points": tuple(LabelPoint(**point) for point in raw["points"])})
            state = load_file(folder / WEIGHTS)
            return cls(config, state["direction"], float(state["bias"]))
        except (TypeError, KeyError, RuntimeError) as error:
            raise ValueError(f"{folder} does not hold a label exit: {error}") from error


@dataclass(frozen=True, slots=True, eq=False)
class LabelExitGate:
    """A label exit at one operating point."""

    label_exit: LabelExit
    threshold: float

    @property
    def layer(self) -> int:
        return self.label_exit.config.layer

    def read(self, x_KH: Tensor) -> list[float | None]:
        differences = (x_KH.float() @ self.label_exit.direction_H.to(x_KH.device) + self.label_exit.bias).tolist()
        return [difference if abs(difference) >= self.threshold else None for difference in differences]
