"""Reads `adapter_config.json` of PEFT's LoRA, and refuses by name every option that would change the numbers and is not computed here."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gpu_backend.core import AdapterError

MAX_RANK = 256
# Matter only to training, to where the file came from, or say again what the tensors' names say.
_IGNORED = {
    "auto_mapping",
    "base_model_name_or_path",
    "corda_config",
    "eva_config",
    "exclude_modules",
    "inference_mode",
    "layers_pattern",
    "layers_to_transform",
    "lora_dropout",
    "lora_ga_config",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "target_modules",
}
# How A and B began, as long as the base model stayed as it is: pissa, olora, loftq and corda change its weights.
_INITS = (True, False, "gaussian", "eva", "orthogonal")
_FIXED: dict[str, tuple[Any, ...]] = {"peft_type": ("LORA",), "task_type": ("CAUSAL_LM", None), "bias": ("none",), "init_lora_weights": _INITS}
_READ = {"r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern"}


@dataclass(frozen=True, slots=True)
class LoraConfig:
    """Rank and alpha of every module, by PEFT's rules: a pattern names a module by its whole dotted name or by the end of it."""

    rank: int
    alpha: float
    is_rank_stabilised: bool
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, float]

    def rank_of(self, module: str) -> int:
        return _match(self.rank_pattern, module, self.rank)

    def scale_of(self, module: str) -> float:
        """alpha / rank, or alpha / sqrt(rank) when rank-stabilised (Kalajdzievski 2023, arXiv 2312.03732)."""
        rank = self.rank_of(module)
        return _match(self.alpha_pattern, module, self.alpha) / (math.sqrt(rank) if self.is_rank_stabilised else rank)


def parse_lora_config(text: bytes) -> LoraConfig:
    """Raises AdapterError with the option's name."""
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError):
        raw = None
    if not isinstance(raw, dict):
        raise AdapterError("adapter_config.json is not a JSON object")
    for name, allowed in _FIXED.items():
        value = raw.get(name, None if name == "peft_type" else allowed[0])
        if not any(type(value) is type(choice) and value == choice for choice in allowed):
            raise AdapterError(f"{name} {_shown(value)} is not supported")
    for name, value in raw.items():
        # An option from a later PEFT is harmless only where it is switched off.
        if name not in _IGNORED and name not in _FIXED and name not in _READ and not _is_off(value):
            raise AdapterError(f"{name[:64]} is set, and is not supported")
    is_rank_stabilised = raw.get("use_rslora", False)
    if not isinstance(is_rank_stabilised, bool):
        raise AdapterError("use_rslora must be true or false")
    return LoraConfig(
        rank=_rank(raw.get("r"), "r"),
        alpha=_alpha(raw.get("lora_alpha"), "lora_alpha"),
        is_rank_stabilised=is_rank_stabilised,
        rank_pattern={key: _rank(value, f"rank_pattern.{key}") for key, value in _pattern(raw, "rank_pattern").items()},
        alpha_pattern={key: _alpha(value, f"alpha_pattern.{key}") for key, value in _pattern(raw, "alpha_pattern").items()},
    )


def _pattern(raw: dict[str, Any], name: str) -> dict[str, Any]:
    """PEFT takes regular expressions here; plain names are what files hold, and the only ones that mean the same to us."""
    pattern = raw.get(name)
    if pattern is None:
        return {}
    if not isinstance(pattern, dict):
        raise AdapterError(f"{name} must be an object")
    for key in pattern:
        if not re.fullmatch(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*", key):
            raise AdapterError(f"{name}: {_shown(key)} is not a plain module name; regular expressions are not supported")
    return pattern


def _rank(value: Any, name: str) -> int:
    if type(value) is not int or not 1 <= value <= MAX_RANK:
        raise AdapterError(f"{name[:80]} must be a whole number between 1 and {MAX_RANK}")
    return value


def _alpha(value: Any, name: str) -> float:
    # Far beyond what anybody trains with, and far from what float32 cannot hold.
    if type(value) not in (int, float) or not abs(value) <= 1e6:
        raise AdapterError(f"{name[:80]} must be a number between -1000000 and 1000000")
    return float(value)


def _match(pattern: Mapping[str, Any], module: str, default: Any) -> Any:
    """The first key that names the module, as in PEFT."""
    return next((value for key, value in pattern.items() if module == key or module.endswith(f".{key}")), default)


def _is_off(value: Any) -> bool:
    return value is None or value is False or value in (0, "", [], {})


def _shown(value: Any) -> str:
    return repr(value)[:64]
