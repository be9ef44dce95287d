"""Builders for tests of training: tiny random bases, pairs of tokens that are easy to learn, and what a run leaves behind."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from gpu_backend.data.judge_rows import JudgedRow
from gpu_backend.train.lora_model import LoraModel, LoraSettings
from support import TINY, byte_tokenizer_json

LABELS = (1, 2)


def write_base(folder: Path, **overrides: int) -> Path:
    """A random Llama of `support.TINY`'s shape in a folder, as transformers writes it; its weights are large enough for logits that differ."""
    torch.manual_seed(0)
    shape = {name: value for name, value in TINY.items() if name != "model_type"}
    AutoModelForCausalLM.from_config(LlamaConfig(**{**shape, "initializer_range": 0.2, **overrides})).save_pretrained(folder)
    return folder


def tiny_lora(folder: Path, *, rank: int = 4, seed: int = 0) -> LoraModel:
    return LoraModel.from_folder(folder, LoraSettings(rank, 2 * rank), seed=seed, dtype=torch.float32)


def easy_rows(num: int, seed: int = 0) -> list[JudgedRow]:
    """The better answer is the one that begins with token 10, the other begins with 20; lengths differ."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for _ in range(num):
        question = tuple(torch.randint(30, 90, (int(torch.randint(2, 9, (1,), generator=generator)),), generator=generator).tolist())
        rows.append(JudgedRow((*question, 10, 3, 20, 4), (*question, 20, 3, 10, 4)))
    return rows


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


_TEMPLATE = "{% for turn in question %}{{ turn.content }} {% endfor %}<|start|>{{ a }}<|start|>{{ b }}<|end|>"


def write_judge_catalog(folder: Path) -> Path:
    """-> models.toml: a base of 300 tokens, bytes and two control tokens among them, and an adapter row on it with the name of the shipped judge."""
    base = write_base(folder / "base", vocab_size=300)
    (base / "tokenizer.json").write_text(byte_tokenizer_json(("<|start|>", "<|end|>"), ()))
    tiny_lora(base).save_adapter(folder / "judge")
    (folder / "judge" / "judge.jinja").write_text(_TEMPLATE)
    common = 'languages = ["en"]\nlicense = "none"\nowned_by = "test"\ncreated = 0\n'
    rows = f'[[models]]\nid = "base"\nsource = "folder"\npath = "base"\ncapabilities = ["chat"]\n{common}'
    rows += f'[[models]]\nid = "gram-smollm2-135m"\nsource = "adapter"\nbase = "base"\npath = "judge"\ncapabilities = ["reward"]\n{common}'
    rows += f'[models.judge]\ntemplate = "judge.jinja"\nmax_tokens = 128\nsha256 = "{hashlib.sha256(_TEMPLATE.encode()).hexdigest()}"\n'
    (folder / "models.toml").write_text(rows)
    return folder / "models.toml"
