"""Our decoder against transformers on the same random weights: Llama, Qwen2 and Qwen3 with their variants, from safetensors and from GGUF."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config, Qwen3Config

from gpu_backend.decoding.reference import full_logits
from gpu_backend.models.causal_lm.config import UnsupportedModelError, parse_config
from gpu_backend.models.causal_lm.weights import load_causal_lm

SMALL: dict[str, Any] = {
    "vocab_size": 131,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
LLAMA3 = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 64}
VARIANTS = {
    "llama": LlamaConfig(**SMALL, tie_word_embeddings=True),
    "llama-untied-biased": LlamaConfig(**SMALL, attention_bias=True, mlp_bias=True),
    "llama-wide-heads": LlamaConfig(**SMALL, head_dim=16),
    "llama-all-heads": LlamaConfig(**{**SMALL, "num_key_value_heads": 6}),
    "llama-linear": LlamaConfig(**SMALL, rope_parameters={"rope_type": "linear", "rope_theta": 5000.0, "factor": 3.0}),
    "llama-llama3": LlamaConfig(**SMALL, rope_parameters=LLAMA3),
    "qwen2": Qwen2Config(**SMALL, tie_word_embeddings=True),
    "qwen2-yarn": Qwen2Config(**SMALL, rope_parameters=YARN),
    "qwen3": Qwen3Config(**SMALL, head_dim=8),
    "qwen3-tied-biased": Qwen3Config(**SMALL, head_dim=12, attention_bias=True, tie_word_embeddings=True),
}
CPU = torch.device("cpu")


def theirs(config: Any) -> torch.nn.Module:
    torch.manual_seed(7)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # Biases and norms start at 0 and 1, where a forgotten one would not be noticed.
            parameter.add_(0.3 * torch.randn_like(parameter) if name.endswith("bias") or "norm" in name else 0.05 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("name", VARIANTS)
def test_logits_equal_transformers(name: str, tmp_path: Path) -> None:
    reference = theirs(VARIANTS[name])
    reference.save_pretrained(tmp_path)
    ours = load_causal_lm(tmp_path, dtype=torch.float32, device=CPU)
    ids = torch.randint(0, 131, (200,), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = reference(ids.unsqueeze(0)).logits[0]
    assert (full_logits(ours, ids.tolist()) - expected).abs().max() <= 1e-4


def test_sharded_weights_equal_one_file(tmp_path: Path) -> None:
    reference = theirs(VARIANTS["llama"])
    reference.save_pretrained(tmp_path, max_shard_size="60KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    ours = load_causal_lm(tmp_path, dtype=torch.float32, device=CPU)
    ids = list(range(20))
    with torch.inference_mode():
        expected = reference(torch.tensor([ids])).logits[0]
    assert (full_logits(ours, ids) - expected).abs().max() <= 1e-4


def _write_gguf(path: Path, model: torch.nn.Module, config: Any) -> None:
    """The way llama.cpp's converter writes it: other names, and for the llama architecture rotary halves interleaved."""
    writer = gguf.GGUFWriter(path, config.model_type)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(config.vocab_size)
    if getattr(config, "head_dim", None):
        writer.add_key_length(config.head_dim)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[config.model_type.upper()], config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        array = tensor.numpy()
        if config.model_type == "llama" and (".q_proj." in name or ".k_proj." in name):
            heads = config.num_attention_heads if ".q_proj." in name else config.num_key_value_heads
            array = array.reshape(heads, 2, array.shape[0] // heads // 2, *array.shape[1:]).swapaxes(1, 2).reshape(array.shape)
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight", ".bias")), np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize("name", ["llama", "llama-untied-biased", "qwen2", "qwen3"])
def test_gguf_equals_transformers(name: str, tmp_path: Path) -> None:
    config = copy.deepcopy(VARIANTS[name])
    config.mlp_bias = False  # GGUF's llama architecture has no feed-forward biases
    reference = theirs(config)
    _write_gguf(tmp_path / "model.gguf", reference, config)
    ours = load_causal_lm(tmp_path / "model.gguf", dtype=torch.float32, device=CPU)
    ids = list(range(3, 60))
    with torch.inference_mode():
        expected = reference(torch.tensor([ids])).logits[0]
    assert (full_logits(ours, ids) - expected).abs().max() <= 1e-4


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"model_type": "gpt2"}, "gpt2"),
        ({"hidden_act": "gelu"}, "gelu"),
        ({"use_sliding_window": True}, "sliding"),
        ({"layer_types": ["sliding_attention"]}, "sliding"),
        ({"num_key_value_heads": 4}, "share"),
    ],
)
def test_unsupported_models_are_refused_by_name(change: dict[str, Any], word: str) -> None:
    raw = {**SMALL, "model_type": "llama", "hidden_act": "silu", "rms_norm_eps": 1e-5}
    parse_config(raw)
    with pytest.raises(UnsupportedModelError, match=word):
        parse_config({**raw, **change})


def test_unknown_rope_type_is_refused() -> None:
    raw = {**SMALL, "model_type": "llama", "rms_norm_eps": 1e-5, "rope_scaling": {"rope_type": "longrope"}}
    with pytest.raises(ValueError, match="longrope"):
        parse_config(raw)


def test_missing_tensor_is_named(tmp_path: Path) -> None:
    reference = theirs(VARIANTS["llama"])
    reference.save_pretrained(tmp_path)
    raw = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**raw, "num_hidden_layers": 4}))
    with pytest.raises(UnsupportedModelError, match=r"model\.layers\.3"):
        load_causal_lm(tmp_path, dtype=torch.float32, device=CPU)


def test_missing_weights_say_what_to_run(tmp_path: Path) -> None:
    VARIANTS["llama"].save_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"gpu_backend\.prepare"):
        load_causal_lm(tmp_path, dtype=torch.float32, device=CPU)
