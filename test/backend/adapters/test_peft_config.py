"""adapter_config.json: ranks and scales by hand, and every option that would change the numbers refused by its name."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from gpu_backend.adapters.peft_config import LoraConfig, parse_lora_config
from gpu_backend.core import AdapterError

# What PEFT 0.21 writes for LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM").
AS_WRITTEN: dict[str, Any] = {
    "alora_invocation_tokens": None,
    "alpha_pattern": {},
    "arrow_config": None,
    "auto_mapping": None,
    "base_model_name_or_path": "some/model",
    "bias": "none",
    "corda_config": None,
    "ensure_weight_tying": False,
    "eva_config": None,
    "exclude_modules": None,
    "fan_in_fan_out": False,
    "inference_mode": True,
    "init_lora_weights": True,
    "kasa_config": None,
    "layer_replication": None,
    "layers_pattern": None,
    "layers_to_transform": None,
    "loftq_config": {},
    "lora_alpha": 16,
    "lora_bias": False,
    "lora_dropout": 0.05,
    "megatron_config": None,
    "megatron_core": "megatron.core",
    "modules_to_save": None,
    "monteclora_config": None,
    "peft_type": "LORA",
    "peft_version": "0.21.2",
    "qalora_group_size": 16,
    "r": 8,
    "rank_pattern": {},
    "revision": None,
    "target_modules": ["q_proj", "v_proj"],
    "target_parameters": None,
    "task_type": "CAUSAL_LM",
    "trainable_token_indices": None,
    "use_bdlora": None,
    "use_dora": False,
    "use_qalora": False,
    "use_rslora": False,
    "velora_config": None,
}
Q3 = "model.layers.3.self_attn.q_proj"


def parse(**changes: Any) -> LoraConfig:
    return parse_lora_config(json.dumps({**AS_WRITTEN, **changes}).encode())


def test_scale_is_alpha_over_rank() -> None:
    assert (parse().rank_of(Q3), parse().scale_of(Q3)) == (8, 2.0)


def test_rank_stabilised_scale_is_alpha_over_its_root() -> None:
    assert parse(use_rslora=True).scale_of(Q3) == 16 / math.sqrt(8)


def test_patterns_name_modules_by_the_end_of_their_name() -> None:
    config = parse(rank_pattern={"layers.3.self_attn.q_proj": 2, "q_proj": 4, "v_pro": 100}, alpha_pattern={Q3: 10.0})
    assert [config.rank_of(f"model.layers.{place}") for place in ("3.self_attn.q_proj", "13.self_attn.q_proj", "3.self_attn.v_proj")] == [2, 4, 8]
    assert config.scale_of(Q3) == 5.0 and config.scale_of("model.layers.1.self_attn.q_proj") == 4.0


@pytest.mark.parametrize(
    "changes",
    [
        {"peft_type": "LOHA"},
        {"task_type": "SEQ_CLS"},
        {"bias": "lora_only"},
        {"init_lora_weights": "pissa"},
        {"init_lora_weights": 1},
        {"use_dora": True},
        {"fan_in_fan_out": True},
        {"modules_to_save": ["lm_head"]},
        {"lora_bias": True},
        {"layer_replication": [[0, 4], [2, 5]]},
        {"trainable_token_indices": [1]},
        {"target_parameters": ["experts"]},
        {"alora_invocation_tokens": [1]},
        {"use_qalora": True},
        {"megatron_config": {"a": 1}},
        {"loftq_config": {"bits": 4}},
        {"invented_later": "x"},
        {"use_rslora": "yes"},
        {"r": 0},
        {"r": 257},
        {"r": 8.0},
        {"r": True},
        {"r": None},
        {"lora_alpha": "16"},
        {"lora_alpha": float("nan")},
        {"lora_alpha": float("inf")},
        {"rank_pattern": {"q_proj": 300}},
        {"rank_pattern": ["q_proj"]},
        {"rank_pattern": {"(a+)+$": 4}},
        {"alpha_pattern": {"q_proj": None}},
        {"alpha_pattern": {".*q_proj": 1}},
    ],
)
def test_what_would_change_the_numbers_is_refused_by_name(changes: dict[str, Any]) -> None:
    parse()
    with pytest.raises(AdapterError, match=next(iter(changes))):
        parse(**changes)


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"\xff", b"[" * 60_000, b'{"r": ' + b"9" * 5000 + b"}"])
def test_what_is_no_json_object_is_refused(text: bytes) -> None:
    with pytest.raises(AdapterError):
        parse_lora_config(text)


def test_a_file_without_its_kind_is_refused() -> None:
    with pytest.raises(AdapterError, match="peft_type"):
        parse_lora_config(b'{"r": 8, "lora_alpha": 16}')
