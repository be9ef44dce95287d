"""A request between `add` and its terminal event: its sequences, which of its choices are still open, and what its usage and its times will be."""

from __future__ import annotations

from dataclasses import dataclass, field

from gpu_backend.core import Request
from gpu_backend.decoding.output import ChoiceOutput
from gpu_backend.engine.sequence import Sequence


@dataclass(slots=True)
class LiveRequest:
    """`request` is as its caller wrote it. `outputs` has those of its sequences that generate. Times are seconds on the engine's clock."""

    request: Request
    added_s: float
    sequences: list[Sequence]
    outputs: dict[Sequence, ChoiceOutput]
    num_completion_tokens: int = 0
    num_accepted_drafts: int = 0
    min_confidence: float = 1.0
    open_choices: set[int] = field(default_factory=set)
    _first_token_s: dict[int, float] = field(default_factory=dict)
    _generating_s: float = 0.0

    def __post_init__(self) -> None:
        self.open_choices.update(range(self.request.num_choices))

    @property
    def has_first_token(self) -> bool:
        return bool(self._first_token_s)

    @property
    def open_sequences(self) -> list[Sequence]:
        return [sequence for sequence in self.sequences if sequence.choice in self.open_choices]

    @property
    def num_cached(self) -> int:
        """Prompt tokens that were not computed anew. The first choice tells what the cache saved; the others find what the first has just computed."""
        return min(max(0, (sequence.num_cached or 0) - sequence.num_given) for sequence in self.sequences)

    @property
    def seconds_per_token(self) -> float | None:
        """Mean time between the tokens of a choice; None where no choice has two."""
        num_intervals = self.num_completion_tokens - len(self.sequences)
        return self._generating_s / num_intervals if num_intervals > 0 else None

    def note_token(self, choice: int, now: float) -> None:
        self.num_completion_tokens += 1
        self._first_token_s.setdefault(choice, now)

    def close(self, choice: int, now: float) -> None:
        self.open_choices.discard(choice)
        self._generating_s += now - self._first_token_s.get(choice, now)
