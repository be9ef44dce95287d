"""The sets that reward models are measured with: pairs that no training saw, in samples that a seed draws."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gpu_backend.data.preference_pairs import PreferencePair, read_finegrained, read_gsm8k_solutions, read_pair_file, read_pandalm
from gpu_backend.data.splits import Part
from gpu_backend.data.training_part import hh_parts

FINEGRAINED_PAIRS = 400


@dataclass(frozen=True, slots=True)
class PreferenceSet:
    """`num_available` counts the pairs before a sample was drawn."""

    name: str
    pairs: list[PreferencePair]
    num_available: int

    @property
    def groups(self) -> list[str]:
        """What belongs together when pairs are resampled: conversations that begin alike."""
        return [pair.question[0][1] for pair in self.pairs]


def public_sets(data: Path, limit: int | None, seed: int) -> list[PreferenceSet]:
    """The four sets that every reward model is measured with."""
    read = {"hh": hh_parts(data)["test"], "pandalm": read_pandalm(data), "finegrained_rlhf": read_finegrained(data), "gsm8k": read_gsm8k_solutions(data)}
    most = {"finegrained_rlhf": FINEGRAINED_PAIRS}
    drawn = {name: sample(pairs, most.get(name), seed) for name, pairs in read.items()}
    return [PreferenceSet(name, sample(drawn[name], limit, seed), len(pairs)) for name, pairs in read.items()]


def hh_part(data: Path, part: Part, limit: int | None, seed: int) -> list[PreferencePair]:
    return sample(hh_parts(data)[part], limit, seed)


def file_set(path: Path, limit: int | None, seed: int) -> PreferenceSet:
    """A file of one's own, or one shaped like RewardBench. Raises ValueError."""
    pairs = read_pair_file(path)
    if not pairs:
        raise ValueError(f"{path.name} holds no pair")
    return PreferenceSet(path.name.split(".")[0], sample(pairs, limit, seed), len(pairs))


def sample(pairs: Sequence[PreferencePair], limit: int | None, seed: int) -> list[PreferencePair]:
    """At most `limit` pairs, in their order."""
    if limit is None or len(pairs) <= limit:
        return list(pairs)
    return [pairs[index] for index in sorted(random.Random(seed).sample(range(len(pairs)), limit))]
