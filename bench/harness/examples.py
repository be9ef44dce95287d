"""The pairs of `examples/`, and conversations made of them, for benches of judges."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

_PAIRS = Path(__file__).resolve().parents[2] / "examples" / "obvious-pairs.jsonl"
Example = dict[str, str]


def read_examples() -> list[Example]:
    """{prompt, chosen, rejected} each."""
    return [json.loads(line) for line in _PAIRS.read_text(encoding="utf-8").splitlines()]


def exchanges(examples: Iterable[Example]) -> list[tuple[str, str]]:
    """Their questions with their better answers, as (role, text) turns of one conversation."""
    return [turn for example in examples for turn in (("user", example["prompt"]), ("assistant", example["chosen"]))]
