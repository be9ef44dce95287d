"""What turns texts into a decoder's tokens and tells where answers end: tokenizer, chat template and end tokens, of a folder or of one GGUF file."""

from __future__ import annotations

import json
from pathlib import Path

from gpu_backend.chat_template import ChatTemplate, special_names
from gpu_backend.tokenizer import Tokenizer


def load_texts(path: Path) -> tuple[Tokenizer, ChatTemplate | None, list[int]]:
    """Tokenizer, chat template and end tokens of a folder or a GGUF file."""
    return _read_gguf_texts(path) if path.suffix == ".gguf" else _read_folder_texts(path)


def _read_folder_texts(folder: Path) -> tuple[Tokenizer, ChatTemplate | None, list[int]]:
    tokenizer = Tokenizer.from_file(folder / "tokenizer.json")
    ids: list[int] = []
    for name in ("generation_config.json", "config.json"):
        if (folder / name).exists():
            value = json.loads((folder / name).read_text(encoding="utf-8")).get("eos_token_id")
            ids += value if isinstance(value, list) else [value] if value is not None else []
    return tokenizer, ChatTemplate.from_folder(folder, tokenizer), ids


def _read_gguf_texts(path: Path) -> tuple[Tokenizer, ChatTemplate | None, list[int]]:
    # Imported here: a start from a folder needs none of it.
    from gpu_backend.models.causal_lm.gguf_file import GgufFile
    from gpu_backend.models.causal_lm.gguf_tokenizer import build_tokenizer, dump, end_token_ids, tokenizer_config

    file = GgufFile(path)
    tokenizer = Tokenizer(dump(build_tokenizer(file)))
    source = file.field("tokenizer.chat_template")
    template = ChatTemplate(source, tokenizer, special_names(tokenizer_config(file))) if source else None
    return tokenizer, template, end_token_ids(file)
