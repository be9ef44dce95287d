"""From a step's rows to what their readers get: a token's text where the task is to generate, else the one answer of the task.

A task that answers once is a record in core.py, an event beside it, and a line in `_ANSWERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from gpu_backend.core import Event, GrammarError, HiddenStates, HiddenStatesReady, LabelScores, LabelScoresReady
from gpu_backend.decoding.output import ChoiceOutput
from gpu_backend.decoding.sampling import sample
from gpu_backend.engine.rows import DueRow
from gpu_backend.engine.sequence import Sequence


@dataclass(frozen=True, slots=True)
class Reading:
    """What one row brings: news, if any; the token the sequence goes on with, if any; whether its choice ends here, or why it cannot go on."""

    sequence: Sequence
    event: Event | None
    is_last: bool
    token_id: int | None = None
    error: GrammarError | None = None


def read(rows: list[DueRow], outputs: Mapping[Sequence, ChoiceOutput]) -> list[Reading]:
    """One reading per row, generating rows first; they are those that have an output."""
    generating = [row for row in rows if row.sequence in outputs]
    answered = [row for row in rows if row.sequence not in outputs]
    return _read_tokens(generating, outputs) + [Reading(row.sequence, _ANSWERS[type(row.sequence.request.task)](row), is_last=True) for row in answered]


def _read_tokens(rows: list[DueRow], outputs: Mapping[Sequence, ChoiceOutput]) -> list[Reading]:
    """One call samples for all of them."""
    if not rows:
        return []
    logits = [row.logits_V for row in rows if row.logits_V is not None]
    readings: list[Reading] = []
    for row, token in zip(rows, sample(logits, [outputs[row.sequence].sampler for row in rows]), strict=True):
        if isinstance(token, GrammarError):
            readings.append(Reading(row.sequence, None, is_last=False, error=token))
        else:
            delta = outputs[row.sequence].push(token, row.sequence.num_generated + 1)
            readings.append(Reading(row.sequence, delta, is_last=delta is not None and delta.finish_reason is not None, token_id=token.token_id))
    return readings


def _label_scores(row: DueRow) -> LabelScoresReady:
    task, logits_V = row.sequence.request.task, row.logits_V
    assert isinstance(task, LabelScores) and logits_V is not None
    label_ids = torch.tensor(task.label_ids, device=logits_V.device)
    scores = torch.stack((logits_V, torch.log_softmax(logits_V, dim=-1)))[:, label_ids].tolist()
    return LabelScoresReady(*map(tuple, scores))


def _hidden_states(row: DueRow) -> HiddenStatesReady:
    assert row.states_LH is not None
    return HiddenStatesReady(tuple(map(tuple, row.states_LH.tolist())))


_ANSWERS: dict[type[Any], Callable[[DueRow], Event]] = {LabelScores: _label_scores, HiddenStates: _hidden_states}
