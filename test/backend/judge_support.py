"""A catalog on disk as a user would write it, over tiny random checkpoints: a chat model, a LoRA on it that judges, and a Qwen3 that judges by itself."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen3Config

from gpu_backend.adapters.content import CONFIG, WEIGHTS
from gpu_backend.models.causal_lm.config import parse_config
from lora_support import content_of, tensors_of
from support import byte_tokenizer_json

CONTROL = ("<|im_start|>", "<|im_end|>", "<think>", "</think>")
CHAT_TEMPLATE = """\
{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
JUDGE_TEMPLATE = """\
{% for m in question %}<|im_start|>{{ m.role }}
{{ m.content | trim }}<|im_end|>
{% endfor %}
<|im_start|>a
{{ a | trim }}<|im_end|>
<|im_start|>b
{{ b | trim }}<|im_end|>
<|im_start|>better{% if criterion %}: {{ criterion | trim }}{% endif +%}

"""
# As the released models are asked: text markers around the answers, and an empty think block before the label. The words are ours.
THINKING_TEMPLATE = """\
<|im_start|>user
Which answer is better?

[Question]
{{ question[-1].content }}

[Answer A begins]
{{ a }}
[Answer A ends]

[Answer B begins]
{{ b }}
[Answer B ends]<|im_end|>
<|im_start|>assistant
<think>

</think>

"""
MARKERS = ["[Question]", "[Answer A begins]", "[Answer A ends]", "[Answer B begins]", "[Answer B ends]"]
SIZES = {
    "vocab_size": 260,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": True,
}


def write_catalog(folder: Path) -> Path:
    """-> models.toml. Every file is as `prepare` or PEFT would leave it."""
    _write_checkpoint(folder / "base", LlamaConfig(**SIZES))
    _write_checkpoint(folder / "qwen3", Qwen3Config(**SIZES, head_dim=8))
    (folder / "qwen3" / "judge.jinja").write_text(THINKING_TEMPLATE)
    write_adapter(folder / "lora")
    (folder / "lora" / "judge.jinja").write_text(JUDGE_TEMPLATE)
    rows = [
        row("tiny", source="folder", path="base", capabilities=["chat"]),
        row("tiny-judge", source="adapter", base="tiny", path="lora", capabilities=["reward"]) + judge_table(JUDGE_TEMPLATE, max_tokens=600),
        row("tiny-qwen3", source="folder", path="qwen3", capabilities=["reward"])
        + judge_table(THINKING_TEMPLATE, max_tokens=600, markers=MARKERS, temperature=2.0),
    ]
    (folder / "models.toml").write_text("\n".join(rows))
    return folder / "models.toml"


def row(name: str, **values: object) -> str:
    facts = {"id": name, **values, "languages": ["en"], "license": "apache-2.0", "owned_by": "tests", "created": 1}
    return "[[models]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in facts.items())


def judge_table(template: str, **values: object) -> str:
    facts = {"template": "judge.jinja", "sha256": hashlib.sha256(template.encode()).hexdigest(), **values}
    return "[models.judge]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in facts.items())


def write_adapter(folder: Path, *, seed: int = 3, size: float = 0.2, **config: object) -> None:
    """PEFT's two files for the chat model."""
    content = content_of(tensors_of(parse_config({"model_type": "llama", **SIZES, "rms_norm_eps": 1e-6, "hidden_act": "silu"}), seed=seed, size=size), **config)
    folder.mkdir(exist_ok=True)
    (folder / WEIGHTS).write_bytes(content.weights)
    (folder / CONFIG).write_bytes(content.config)


def _write_checkpoint(folder: Path, config: LlamaConfig | Qwen3Config) -> None:
    torch.manual_seed(5)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(byte_tokenizer_json(CONTROL))
    (folder / "tokenizer_config.json").write_text("{}")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 257}))
