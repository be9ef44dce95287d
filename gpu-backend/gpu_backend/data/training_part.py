"""The pairs that the shipped reward model, and every control beside it, learn from."""

from __future__ import annotations

import random
from pathlib import Path

from gpu_backend.data.preference_pairs import PreferencePair, read_finegrained, read_gsm8k_solutions, read_hh_rlhf, read_pandalm
from gpu_backend.data.splits import Part, part_of, without_overlap


def hh_parts(data: Path) -> dict[Part, list[PreferencePair]]:
    """HH's pairs by part, in the order of the files."""
    parts: dict[Part, list[PreferencePair]] = {"train": [], "validation": [], "test": []}
    for pair in read_hh_rlhf(data):
        parts[part_of(pair)].append(pair)
    return parts


def hh_training_pairs(data: Path, seed: int) -> list[PreferencePair]:
    """The training part of HH without anything that overlaps a test set, in random order."""
    parts = hh_parts(data)
    held_out = [*parts["validation"], *parts["test"], *read_pandalm(data), *read_finegrained(data), *read_gsm8k_solutions(data)]
    pairs = without_overlap(parts["train"], held_out)
    random.Random(seed).shuffle(pairs)
    return pairs
