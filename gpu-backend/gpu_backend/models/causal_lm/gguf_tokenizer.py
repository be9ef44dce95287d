"""Builds a `tokenizer.json` from the vocabulary and merges inside a GGUF file (byte-level BPE tokenizers only)."""

from __future__ import annotations

import json
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

from gpu_backend.models.causal_lm.config import UnsupportedModelError
from gpu_backend.models.causal_lm.gguf_file import GgufFile

_CONTROL, _USER_DEFINED = 3, 4
# How text is cut before merging, by llama.cpp's name. The patterns are those of the models' own tokenizer.json files.
_LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_QWEN2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def build_tokenizer(file: GgufFile) -> Tokenizer:
    """Raises UnsupportedModelError for tokenizers that are not byte-level BPE."""
    kind = file.field("tokenizer.ggml.model")
    if kind != "gpt2":
        raise UnsupportedModelError(f"GGUF tokenizer {kind!r} is not byte-level BPE: put a tokenizer.json beside the weights instead")
    tokens: list[str] = file.field("tokenizer.ggml.tokens")
    types: list[int] = file.field("tokenizer.ggml.token_type")
    merges = [tuple(merge.split(" ", 1)) for merge in file.field("tokenizer.ggml.merges")]
    tokenizer = Tokenizer(BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = _pre_tokenizer(file.field("tokenizer.ggml.pre", "default"))
    tokenizer.decoder = decoders.ByteLevel()
    for token, token_type in zip(tokens, types, strict=True):
        if token_type in (_CONTROL, _USER_DEFINED):
            added = AddedToken(token, normalized=False, special=token_type == _CONTROL)
            (tokenizer.add_special_tokens if token_type == _CONTROL else tokenizer.add_tokens)([added])
    return tokenizer


def _pre_tokenizer(name: str) -> Any:
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    if name in ("default", "gpt-2"):
        return byte_level
    if name == "smollm":
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
    if name in ("llama-bpe", "qwen2"):
        split = pre_tokenizers.Split(Regex(_QWEN2 if name == "qwen2" else _LLAMA3), behavior="isolated")
        return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    raise UnsupportedModelError(f"GGUF pre-tokenizer {name!r} is not known: put a tokenizer.json beside the weights instead")


def tokenizer_config(file: GgufFile) -> dict[str, Any]:
    """The part of `tokenizer_config.json` that a chat template reads."""
    tokens = file.field("tokenizer.ggml.tokens")

    def named(key: str) -> str | None:
        index = file.field(f"tokenizer.ggml.{key}_token_id")
        return None if index is None else tokens[index]

    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": named("bos"),
        "eos_token": named("eos"),
        "pad_token": named("padding"),
        "model_max_length": file.config()["max_position_embeddings"],
        "clean_up_tokenization_spaces": False,
    }


def end_token_ids(file: GgufFile) -> list[int]:
    """Tokens that end a turn: the file's own, and the common end-of-text token where it is a control token."""
    tokens, types = file.field("tokenizer.ggml.tokens"), file.field("tokenizer.ggml.token_type")
    ids = [file.field(f"tokenizer.ggml.{key}_token_id") for key in ("eos", "eot", "eom")]
    ids += [index for index, token in enumerate(tokens) if token == "<|endoftext|>" and types[index] == _CONTROL]
    return list(dict.fromkeys(index for index in ids if index is not None))


def dump(tokenizer: Tokenizer) -> str:
    """Readable `tokenizer.json` text."""
    return json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False)
