"""Checkpoints that a killed run goes on from with the same numbers: weights and optimizer state as safetensors, the place in the run as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

_TENSORS, _STATE = "checkpoint.safetensors", "checkpoint.json"


def save_checkpoint(folder: Path, parameters: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Written whole or not at all: the state is renamed into place last and names its tensors file."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {}
    for name, parameter in parameters.items():
        tensors[f"parameter/{name}"] = parameter.detach().contiguous()
        for key, value in optimizer.state[parameter].items():
            tensors[f"optimizer/{key}/{name}"] = value.detach().contiguous()
    file = f"{state['step']}-{_TENSORS}"
    save_file(tensors, folder / file)
    waiting = folder / f".{_STATE}"
    waiting.write_text(json.dumps({**state, "tensors": file}), encoding="utf-8")
    waiting.replace(folder / _STATE)
    for old in folder.glob(f"*-{_TENSORS}"):
        if old.name != file:
            old.unlink()


def load_checkpoint(folder: Path, parameters: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> dict[str, Any] | None:
    """Put everything back. -> the state that was saved, or None where there is no checkpoint."""
    path = folder / _STATE
    if not path.exists():
        return None
    state: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    tensors = load_file(folder / state["tensors"])
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[f"parameter/{name}"])
            prefix, suffix = "optimizer/", f"/{name}"
            entries = {key[len(prefix) : -len(suffix)]: value for key, value in tensors.items() if key.startswith(prefix) and key.endswith(suffix)}
            if entries:
                optimizer.state[parameter] = entries
    return state
