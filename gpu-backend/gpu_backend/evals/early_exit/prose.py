"""Running prose to read layers on, beside the model's own answers: stretches of a plain text file."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

from gpu_backend.data.judge_rows import TextRow
from gpu_backend.tokenizer import Tokenizer


def prose(path: Path, tokenizer: Tokenizer, num: int, num_tokens: int, seed: int) -> list[TextRow]:
    """Stretches of one plain text file, each read from its own first token. Raises ValueError when the file is too short."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        ids = tokenizer.encode_text(file.read())
    starts = range(0, len(ids) - num_tokens + 1, num_tokens)
    if len(starts) < num:
        raise ValueError(f"{path.name} holds {len(starts)} stretches of {num_tokens} tokens, and {num} are asked for")
    return [TextRow(tuple(ids[start : start + num_tokens]), 1, num_tokens) for start in sorted(random.Random(seed).sample(starts, num))]
