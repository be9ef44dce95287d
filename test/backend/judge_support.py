"""A catalog on disk as a user would write it, over tiny random checkpoints: a chat model, a LoRA on it that judges, and a Qwen3 that judges by itself."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from gpu_backend.adapters.content import CONFIG, WEIGHTS
from gpu_backend.models.causal_lm.config import parse_config
from lora_support import content_of, tensors_of
from support import TINY, byte_tokenizer_json, tiny_model

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
# As the released models are asked: text markers around the answers, and an empty think block before the label. The words are ours. Jinja drops one line
# break at the end of a file, so a prompt that ends with two needs three.
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
# Of a shape that the C operators take, whose rows are the same bit for bit in any company.
BASE = {
    **TINY,
    "vocab_size": 260,
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 1024,
}
# The layout of the released checkpoints: Qwen3 with norms of queries and keys, heads of a width of their own, tied embeddings.
QWEN3 = {**BASE, "model_type": "qwen3", "head_dim": 64, "attention_bias": False}


def write_catalog(folder: Path) -> Path:
    """-> models.toml. Every file is as `prepare` or PEFT would leave it."""
    _write_checkpoint(folder / "base", BASE)
    _write_checkpoint(folder / "qwen3", QWEN3)
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
    content = content_of(tensors_of(parse_config(BASE), seed=seed, size=size), **config)
    folder.mkdir(exist_ok=True)
    (folder / WEIGHTS).write_bytes(content.weights)
    (folder / CONFIG).write_bytes(content.config)


def spoiled(folder: Path, tmp_path: Path, file: str, change: dict[str, object]) -> Path:
    """A copy of a catalog with other values in one of its JSON files."""
    root = Path(shutil.copytree(folder, tmp_path / "catalog", copy_function=shutil.copy2))
    config = json.loads((root / file).read_text())
    (root / file).write_text(json.dumps({**config, **change}))
    return root


def _write_checkpoint(folder: Path, config: dict[str, Any]) -> None:
    folder.mkdir()
    weights: dict[str, torch.Tensor] = {}
    tiny_model(5, recorded=weights, **config)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(byte_tokenizer_json(CONTROL))
    (folder / "tokenizer_config.json").write_text("{}")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 257}))
