"""From a step's rows to what their readers get: a token's text where the task is to generate, else the one answer of the task.

A task that answers once is a record in core.py, an event beside it, and a line in `_ANSWERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from gpu_backend.core import Event, GrammarError, HiddenStates, HiddenStatesReady, LabelScores, LabelScoresReady, TokenLogprob
from gpu_backend.decoding.output import ChoiceOutput
from gpu_backend.decoding.sampling import sample
from gpu_backend.engine.rows import DueRow
from gpu_backend.engine.sequence import Sequence


@dataclass(frozen=True, slots=True)
class Reading:
    """What one row brings: news, if any; the tokens the sequence goes on with, if any; whether its choice ends here, or why it cannot go on. All tokens but
    the last were drafted, after `num_guesses` guesses; `min_confidence` is the least chance of those that stand unverified. With `left_early` the upper layers
    have not seen all of the sequence."""

    sequence: Sequence
    events: tuple[Event, ...]
    is_last: bool
    token_ids: tuple[int, ...] = ()
    error: GrammarError | None = None
    num_guesses: int = 0
    min_confidence: float = 1.0
    left_early: bool = False


def read(rows: list[DueRow], outputs: Mapping[Sequence, ChoiceOutput]) -> list[Reading]:
    """One reading per row, generating rows first; they are those that have an output."""
    generating = [row for row in rows if row.sequence in outputs]
    answered = [row for row in rows if row.sequence not in outputs]
    return _read_tokens(generating, outputs) + [_read_answer(row) for row in answered]


def _read_answer(row: DueRow) -> Reading:
    event = _ANSWERS[type(row.sequence.request.task)](row)
    return Reading(row.sequence, (event,), is_last=True, left_early=row.label_difference is not None)


def _read_tokens(rows: list[DueRow], outputs: Mapping[Sequence, ChoiceOutput]) -> list[Reading]:
    """One call samples the first tokens of all of them, but where a draft stands."""
    chosen = [row for row in rows if row.logits_V is not None]
    tokens = sample([row.logits_V for row in chosen if row.logits_V is not None], [outputs[row.sequence].sampler for row in chosen]) if chosen else []
    first = {row.sequence: token for row, token in zip(chosen, tokens, strict=True)}
    return [_read_row(row, outputs[row.sequence], first.get(row.sequence)) for row in rows]


def _read_row(row: DueRow, output: ChoiceOutput, token: TokenLogprob | GrammarError | None) -> Reading:
    """Go on with the logits after a draft as long as the draft is the very token that was chosen, by the sampler, penalties, grammar and random numbers that
    would have chosen it without drafts. So drafts change no distribution, and no seeded answer either; but for those that stand, where there are no logits
    (`token` is None for the first)."""
    events: list[Event] = []
    token_ids: list[int] = []
    min_confidence, is_last = 1.0, False
    for draft in (*row.drafted, None):
        if token is None:
            assert draft is not None, "only a draft can stand"
            token, min_confidence = TokenLogprob(draft.token_id, 0.0), min(min_confidence, draft.chance)
        if isinstance(token, GrammarError):
            break
        token_ids.append(token.token_id)
        delta = output.push(token, row.sequence.num_generated + len(token_ids))
        events += [] if delta is None else [delta]
        is_last = delta is not None and delta.finish_reason is not None
        if is_last or draft is None or draft.token_id != token.token_id:
            break
        token = None if draft.logits_V is None else sample([draft.logits_V], [output.sampler])[0]
    error = token if isinstance(token, GrammarError) else None
    return Reading(row.sequence, tuple(events), is_last, tuple(token_ids), error, row.num_guesses, min_confidence)


def _label_scores(row: DueRow) -> LabelScoresReady:
    task, logits_V = row.sequence.request.task, row.logits_V
    assert isinstance(task, LabelScores)
    if row.label_difference is not None and task.gate is not None:
        logits_2 = torch.tensor([row.label_difference / 2, -row.label_difference / 2], dtype=torch.float64)
        first, second = functional.logsigmoid(2 * logits_2).tolist()
        return LabelScoresReady((logits_2[0].item(), logits_2[1].item()), (first, second), task.gate.layer)
    assert logits_V is not None
    label_ids = torch.tensor(task.label_ids, device=logits_V.device)
    scores = torch.stack((logits_V, torch.log_softmax(logits_V, dim=-1)))[:, label_ids].tolist()
    return LabelScoresReady(tuple(scores[0]), tuple(scores[1]))


def _hidden_states(row: DueRow) -> HiddenStatesReady:
    assert row.states_LH is not None
    return HiddenStatesReady(tuple(map(tuple, row.states_LH.tolist())))


_ANSWERS: dict[type[Any], Callable[[DueRow], Event]] = {LabelScores: _label_scores, HiddenStates: _hidden_states}
