"""Preference pairs as rows of token ids: judged prompts in both orders, and texts to generate; and which rows a training step takes, in microbatches."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from gpu_backend.data.branched import branched_length
from gpu_backend.data.preference_pairs import PreferencePair
from gpu_backend.models.reward.judge import Judge, common_prefix


class TrainingRow(Protocol):
    """What a step needs to know of a row: the tokens of its sequence."""

    @property
    def num_tokens(self) -> int: ...


@dataclass(frozen=True, slots=True)
class JudgedRow:
    """The prompts of one pair: the better answer in slot A, and in slot B. The label follows each. One of them may be None, where a pair is to be seen in one
    order only. `epsilon` is the rate at which this pair's label is taken to be flipped, where more is known of it than what holds for all."""

    better_first: tuple[int, ...] | None
    better_second: tuple[int, ...] | None
    epsilon: float | None = None

    @property
    def prompts(self) -> list[tuple[int, ...]]:
        return [prompt for prompt in (self.better_first, self.better_second) if prompt is not None]

    @property
    def num_tokens(self) -> int:
        return branched_length(self.prompts)


@dataclass(frozen=True, slots=True)
class TextRow:
    """A text of which the tokens from `start` up to `stop` are to be learned."""

    ids: tuple[int, ...]
    start: int
    stop: int

    @property
    def num_tokens(self) -> int:
        return len(self.ids)


RowT = TypeVar("RowT", bound=TrainingRow)


def judged_rows(judge: Judge, pairs: Sequence[PreferencePair], *, max_tokens: int, criterion_rate: float = 0.0, seed: int = 0) -> list[JudgedRow]:
    """Rows of all pairs that take at most `max_tokens` without the oldest turns of their question, the answers uncut, in both orders. A pair's criterion is
    named in this share of rows: the judge must do without it, too."""
    return [row for _, row in _judged(judge, pairs, max_tokens, criterion_rate, seed)]


def in_one_order(rows: Sequence[JudgedRow], seed: int) -> list[JudgedRow]:
    """Each row in the order that a coin decides: twice as many pairs for the same work."""
    rng = random.Random(f"{seed}/order")
    return [replace(row, better_second=None) if rng.random() < 0.5 else replace(row, better_first=None) for row in rows]


def judged_pairs(judge: Judge, pairs: Sequence[PreferencePair], *, max_tokens: int, criterion_rate: float = 0.0, seed: int = 0) -> list[PreferencePair]:
    """The pairs behind the rows of `judged_rows`, for a rival that must learn from the same ones."""
    return [pair for pair, _ in _judged(judge, pairs, max_tokens, criterion_rate, seed)]


def _judged(judge: Judge, pairs: Sequence[PreferencePair], max_tokens: int, criterion_rate: float, seed: int) -> Iterator[tuple[PreferencePair, JudgedRow]]:
    judge.require_read(pair.messages for pair in pairs)
    rng = random.Random(seed)
    for pair in pairs:
        criterion = pair.criterion if pair.criterion and rng.random() < criterion_rate else ""
        for first in range(len(pair.question)):
            kept = replace(pair, question=pair.question[first:])
            row = _judged_row(judge, kept, criterion)
            if max(map(len, row.prompts)) <= max_tokens:
                yield kept, row
                break


def _judged_row(judge: Judge, pair: PreferencePair, criterion: str) -> JudgedRow:
    orders = ((pair.chosen, pair.rejected), (pair.rejected, pair.chosen))
    better_first, better_second = (tuple(judge.encode(pair.messages, a, b, criterion)) for a, b in orders)
    return JudgedRow(better_first, better_second)


def text_rows(judge: Judge, pairs: Sequence[PreferencePair], *, max_tokens: int, seed: int = 0) -> list[TextRow]:
    """Stage 1: both answers, in random order, are learned after the question; which is better plays no part. The frame between them is learned too."""
    judge.require_read(pair.messages for pair in pairs)
    rng = random.Random(seed)
    rows = []
    for pair in pairs:
        a, b = rng.sample((pair.chosen, pair.rejected), 2)
        ids = judge.encode(pair.messages, a, b)
        empty = judge.encode(pair.messages, "", "")
        start = common_prefix(ids, empty)
        stop = len(ids) - common_prefix(ids[::-1], empty[::-1])
        if len(ids) <= max_tokens and start < stop:
            rows.append(TextRow(tuple(ids), start, stop))
    return rows


def step_indices(num_rows: int, rows_per_step: int, num_epochs: int, seed: int) -> list[list[int]]:
    """Which rows each step takes: every epoch in an order of its own, the last few of an epoch left out when they fill no step."""
    steps = []
    for epoch in range(num_epochs):
        order = list(range(num_rows))
        random.Random(f"{seed}/{epoch}").shuffle(order)
        steps += [order[first : first + rows_per_step] for first in range(0, num_rows - rows_per_step + 1, rows_per_step)]
    return steps


def microbatches(rows: Sequence[RowT], num_rows: int) -> list[list[RowT]]:
    """Groups of so many rows of similar length, the last one with what is left."""
    ordered = sorted(rows, key=lambda row: row.num_tokens, reverse=True)
    return [ordered[first : first + num_rows] for first in range(0, len(ordered), num_rows)]
