"""What a judge's layers hold at the last position of its prompts, read through the engine: inner states, and the verdict of full depth.

Shapes: P pairs, N = 2 P prompts (both orders of a pair, one after the other), L layers, H hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from gpu_backend.core import HiddenStates, HiddenStatesReady
from gpu_backend.data.preference_pairs import PreferencePair
from gpu_backend.engine.engine import Engine
from gpu_backend.evals.engine_judge import Progress, pair_prompts, read_prompts
from gpu_backend.evals.statistics import Array
from gpu_backend.models.causal_lm.model import CausalLM
from gpu_backend.models.reward.judge import Judge

Floats32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class LabelReadings:
    """`differences_N` are full depth's: the logit of the label of slot A less that of slot B. `layers` names those of `states_NLH`."""

    layers: tuple[int, ...]
    states_NLH: Floats32
    differences_N: Array

    def at(self, layer: int) -> Array:
        """(N, H)."""
        return self.states_NLH[:, self.layers.index(layer)].astype(np.float64)

    def part(self, first: int, stop: int) -> LabelReadings:
        """Pairs first..stop-1."""
        return LabelReadings(self.layers, self.states_NLH[2 * first : 2 * stop], self.differences_N[2 * first : 2 * stop])


def read_labels(
    engine: Engine, model: CausalLM, judge: Judge, adapter_id: str | None, pairs: Sequence[PreferencePair], layers: Sequence[int], progress: Progress
) -> LabelReadings:
    """Every pair in both orders. `model` is the engine's. Raises RuntimeError where the engine fails."""
    prompts, _ = pair_prompts(judge, pairs)
    last = model.config.num_layers
    states_NLH = np.empty((len(prompts), len(layers) + 1, model.config.hidden_size), np.float32)
    for number, event in read_prompts(engine, prompts, HiddenStates((*layers, last)), adapter_id, progress):
        if isinstance(event, HiddenStatesReady):
            states_NLH[number] = event.states
    with torch.inference_mode():
        logits_N2 = model.compute_logits(torch.from_numpy(states_NLH[:, -1].copy()).to(model.device))[:, list(judge.label_ids)].double().cpu().numpy()
    return LabelReadings(tuple(layers), states_NLH[:, :-1], logits_N2[:, 0] - logits_N2[:, 1])
