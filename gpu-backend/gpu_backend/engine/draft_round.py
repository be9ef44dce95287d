"""Self-speculation in one model (LayerSkip, arXiv 2404.16710): lower layers draft, upper layers verify, and both share one cache.

A round computes the newest token of every sequence. Where the plan asks for drafts it goes on in the lower layers, guess by guess; then one pass of the
upper layers takes all rows together. Whatever the lower layers computed is kept, so nothing runs twice. What is left in the cache of a wrong draft lies
beyond the sequence's end, is never looked at, and is written over by the token that comes there.

A guess that a request's gate lets through stands whatever the upper layers would say: the pass that follows brings them its keys and values (deferred until
then), and the head is not asked. Shapes: N rows, R layers that are read one position before a guess, H hidden size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from gpu_backend.core import SamplingParams, TokenGate
from gpu_backend.decoding.early_exit.draft_length import DraftRule
from gpu_backend.decoding.early_exit.drafter import Drafter
from gpu_backend.engine.batches import Batches
from gpu_backend.engine.rows import Draft, DueRow, Stretch
from gpu_backend.engine.sequence import Sequence as RunningSequence
from gpu_backend.layers.batch import ForwardBatch
from gpu_backend.layers.kv_cache import PagedKVCache
from gpu_backend.models.interface import Decoder

# No probability is as large.
VERIFY_ALL = 2.0
_NO_GATE = TokenGate(VERIFY_ALL)


@dataclass(slots=True)
class _Drafting:
    """One sequence in a round: its newest token and the drafts after it, at most `most`, with their probabilities and chances; their streams at the exit; what
    the next guess is made from."""

    tokens: list[int]
    most: int
    gate: TokenGate
    probs: list[float] = field(default_factory=list)
    chances: list[float] = field(default_factory=list)
    lower: list[Tensor] = field(default_factory=list)
    known_H: Tensor | None = None
    num_guesses: int = 0
    chance: float = 1.0

    def wants_a_guess(self, rule: DraftRule) -> bool:
        return self.num_guesses < self.most and (self.num_guesses == 0 or self.chance >= rule.least_to_go_on)

    def take(self, token: int, prob: float, chance: float, state_H: Tensor, rule: DraftRule) -> bool:
        """Note a guess. -> whether it is kept."""
        self.num_guesses += 1
        if prob < self.gate.least_prob:
            self.chance *= chance
        if self.chance < rule.least_kept:
            return False
        self.tokens.append(token)
        self.probs.append(prob)
        self.chances.append(chance)
        self.known_H = state_H
        return True


class DraftRound:
    """One model with its drafter. Between rounds it keeps what the layers gave where a sequence was last computed, which the first draft is made from."""

    def __init__(self, model: Decoder, cache: PagedKVCache, batches: Batches, drafter: Drafter) -> None:
        self._model = model
        self._cache = cache
        self._batches = batches
        self._drafter = drafter
        self._deep: dict[str, dict[RunningSequence, tuple[int, Tensor]]] = {}

    def note(self, stretch: Stretch, hidden_NH: Tensor) -> None:
        """Keep what the last layer gave at the end of this stretch, for it is due and may be drafted for from now on; what inner layers gave is gone."""
        deep_RH = self._nothing()
        deep_RH[-1] = hidden_NH[stretch.stop - 1]
        self._keep(stretch.sequence, stretch.positions.stop - 1, deep_RH[None])

    def forget(self, request_id: str) -> None:
        self._deep.pop(request_id, None)

    def run(self, decodes: Sequence[RunningSequence], num_drafts: Mapping[RunningSequence, int], rule: DraftRule) -> list[DueRow]:
        """One row for each of `decodes`, with at most as many drafts as `num_drafts` says, by the rule. Each sequence has blocks for its newest token and its
        drafts."""
        if len(decodes) == 1 and (row := self._run_alone(decodes[0], num_drafts.get(decodes[0], 0), rule)) is not None:
            return [row]
        drafting = {sequence: _Drafting([sequence.token_ids[-1]], num_drafts.get(sequence, 0), _gate_of(sequence)) for sequence in decodes}
        running = list(decodes)
        while running:
            self._run_lower(running, drafting)
            running = self._guess([sequence for sequence in running if drafting[sequence].wants_a_guess(rule)], drafting, rule)
        return self._verify(drafting)

    def _run_alone(self, sequence: RunningSequence, most: int, rule: DraftRule) -> DueRow | None:
        """The same for one sequence, whose drafts are one call where the drafter can make them so; None where it cannot."""
        draft_alone = self._drafter.draft_alone
        if draft_alone is None or sequence.request.adapter is not None:
            return None
        first = len(sequence.token_ids) - 1
        rows = self._batches.ahead(sequence, range(first, first + most + 1))
        gate, deep_RH = _gate_of(sequence), self._deep_before_newest(sequence)
        drafted = draft_alone(sequence.token_ids[-1], deep_RH, replace(rule, most=most), gate.least_prob, self._cache, rows)
        x_NH, deep_NRH = self._run_upper(drafted.lower_TH, rows.first(len(drafted.tokens)))
        self._keep(sequence, first, deep_NRH)
        logits = self._logits(x_NH, _is_asked(gate, drafted.tokens[1:], drafted.probs))
        return _due_row(sequence, logits, drafted.tokens, drafted.chances, drafted.num_guesses)

    def _run_lower(self, sequences: list[RunningSequence], drafting: Mapping[RunningSequence, _Drafting]) -> None:
        """The last of each sequence's tokens through the layers below the exit."""
        stretches: list[Stretch] = []
        for sequence in sequences:
            at = len(sequence.token_ids) + len(drafting[sequence].lower) - 1
            stretches.append(Stretch(sequence, range(at, at + 1), len(stretches)))
        batch = self._batches.of(stretches, len(stretches), [drafting[sequence].tokens[-1] for sequence in sequences])
        x_NH = self._model.run_layers(self._model.embed(batch.token_ids_N), 0, self._drafter.exit_layer, self._cache, batch)
        for sequence, x_H in zip(sequences, x_NH.unbind(), strict=True):
            drafting[sequence].lower.append(x_H)

    def _guess(self, sequences: list[RunningSequence], drafting: Mapping[RunningSequence, _Drafting], rule: DraftRule) -> list[RunningSequence]:
        """-> the sequences whose guess is kept as a draft."""
        if not sequences:
            return []
        first = [sequence for sequence in sequences if drafting[sequence].num_guesses == 0]
        if first:
            known_KH = self._drafter.fuse(torch.stack([self._deep_before_newest(sequence) for sequence in first]))
            for sequence, known_H in zip(first, known_KH.unbind(), strict=True):
                drafting[sequence].known_H = known_H
        x_KH, known_KH = (torch.stack(rows) for rows in zip(*((drafting[it].lower[-1], drafting[it].known_H) for it in sequences), strict=True))
        guesses = self._drafter.draft(x_KH, known_KH)
        kept = []
        each = zip(sequences, guesses.tokens, guesses.probs, guesses.chances, guesses.states_KH.unbind(), strict=True)
        for sequence, token, prob, chance, state_H in each:
            if drafting[sequence].take(token, prob, chance, state_H, rule):
                kept.append(sequence)
        return kept

    def _verify(self, drafting: Mapping[RunningSequence, _Drafting]) -> list[DueRow]:
        """All rows through the upper layers; those without drafts come first, as decoding rows do."""
        ordered = sorted(drafting, key=lambda sequence: len(drafting[sequence].tokens) > 1)
        stretches: list[Stretch] = []
        for sequence in ordered:
            first, start = len(sequence.token_ids) - 1, stretches[-1].stop if stretches else 0
            stretches.append(Stretch(sequence, range(first, first + len(drafting[sequence].tokens)), start))
        num_decodes = sum(len(one.tokens) == 1 for one in drafting.values())
        batch = self._batches.of(stretches, num_decodes, [token for sequence in ordered for token in drafting[sequence].tokens])
        x_NH, deep_NRH = self._run_upper(torch.stack([x_H for sequence in ordered for x_H in drafting[sequence].lower]), batch)
        is_asked = [it for one in map(drafting.__getitem__, ordered) for it in _is_asked(one.gate, one.tokens[1:], one.probs)]
        logits = self._logits(x_NH, is_asked)
        rows: dict[RunningSequence, DueRow] = {}
        for stretch in stretches:
            self._keep(stretch.sequence, stretch.positions.start, deep_NRH[stretch.start : stretch.stop])
            one = drafting[stretch.sequence]
            rows[stretch.sequence] = _due_row(stretch.sequence, logits[stretch.start : stretch.stop], one.tokens, one.chances, one.num_guesses)
        return [rows[sequence] for sequence in drafting]

    def _run_upper(self, x_NH: Tensor, batch: ForwardBatch) -> tuple[Tensor, Tensor]:
        """-> the residual stream after the last layer, and (N, R, H) after the inner layers and the last one."""
        return run_upper(self._model, self._drafter, x_NH, self._cache, batch)

    def _logits(self, x_NH: Tensor, is_asked: list[bool]) -> list[Tensor | None]:
        """(V,) after each row that is asked about."""
        if all(is_asked):
            return list(self._model.compute_logits(x_NH).unbind())
        found = iter(self._model.compute_logits(x_NH[torch.tensor(is_asked, device=x_NH.device)]).unbind())
        return [next(found) if it else None for it in is_asked]

    def _keep(self, sequence: RunningSequence, first: int, deep_KRH: Tensor) -> None:
        """Rows of positions from `first` on. Which of them come before the newest token is known when the drafts among them have been judged."""
        self._deep.setdefault(sequence.request.id, {})[sequence] = (first, deep_KRH)

    def _deep_before_newest(self, sequence: RunningSequence) -> Tensor:
        """(R, H): the row that the newest token was chosen after; zeros where there was none."""
        kept = self._deep.get(sequence.request.id, {}).get(sequence)
        return self._nothing() if kept is None else kept[1][len(sequence.token_ids) - 2 - kept[0]]

    def _nothing(self) -> Tensor:
        return torch.zeros(len(self._drafter.inner_layers) + 1, self._model.config.hidden_size, device=self._model.device)


def _due_row(sequence: RunningSequence, logits: list[Tensor | None], tokens: list[int], chances: list[float], num_guesses: int) -> DueRow:
    """`logits` after each of the tokens, the newest one and its drafts."""
    drafted = tuple(Draft(token, chance, after_V) for token, chance, after_V in zip(tokens[1:], chances, logits[1:], strict=True))
    return DueRow(sequence, logits[0], drafted=drafted, num_guesses=num_guesses)


def _gate_of(sequence: RunningSequence) -> TokenGate:
    task = sequence.request.task
    return (task.open_gate if isinstance(task, SamplingParams) else None) or _NO_GATE


def _is_asked(gate: TokenGate, drafts: list[int], probs: list[float]) -> list[bool]:
    """Whether the head is asked what comes after the newest token and each draft: not where the draft that follows stands."""
    return [*(not gate.lets_through(token, prob) for token, prob in zip(drafts, probs, strict=True)), True]


def run_upper(model: Decoder, drafter: Drafter, x_NH: Tensor, cache: PagedKVCache, batch: ForwardBatch) -> tuple[Tensor, Tensor]:
    """The layers above the exit: -> the residual stream after the last one, and (N, R, H) after the drafter's inner layers and the last one."""
    deep_NRH = model.run_layers_noting(x_NH, drafter.exit_layer, (*drafter.inner_layers, model.config.num_layers), cache, batch)
    return deep_NRH[:, -1].contiguous(), deep_NRH
