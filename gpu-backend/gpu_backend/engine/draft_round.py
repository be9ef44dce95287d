"""Self-speculation in one model (LayerSkip, arXiv 2404.16710): lower layers draft, upper layers verify, and both share one cache.

A round computes the newest token of every sequence. Where the plan asks for drafts it goes on in the lower layers, guess by guess; then one pass of the
upper layers takes all rows together. Whatever the lower layers computed is kept, so nothing runs twice. What is left in the cache of a wrong draft lies
beyond the sequence's end, is never looked at, and is written over by the token that comes there. Shapes: N rows, H hidden size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from gpu_backend.decoding.early_exit.draft_length import DraftRule
from gpu_backend.decoding.early_exit.drafter import Drafter
from gpu_backend.engine.batches import Batches
from gpu_backend.engine.rows import DueRow, Stretch
from gpu_backend.engine.sequence import Sequence as RunningSequence
from gpu_backend.layers.batch import ForwardBatch
from gpu_backend.layers.kv_cache import PagedKVCache
from gpu_backend.models.interface import Decoder


@dataclass(slots=True)
class _Drafting:
    """One sequence in a round: its newest token and the drafts after it, at most `most`; their streams at the exit; what the next guess is made from."""

    tokens: list[int]
    most: int
    lower: list[Tensor] = field(default_factory=list)
    deep_H: Tensor | None = None
    num_guesses: int = 0
    chance: float = 1.0

    def wants_a_guess(self, rule: DraftRule) -> bool:
        return self.num_guesses < self.most and (self.num_guesses == 0 or self.chance >= rule.least_to_go_on)

    def take(self, token: int, chance: float, state_H: Tensor, rule: DraftRule) -> bool:
        """Note a guess. -> whether it is kept."""
        self.num_guesses += 1
        self.chance *= chance
        if self.chance < rule.least_kept:
            return False
        self.tokens.append(token)
        self.deep_H = state_H
        return True


class DraftRound:
    """One model with its drafter. Between rounds it keeps the last layer's output where a sequence was last computed, which the first draft is made from."""

    def __init__(self, model: Decoder, cache: PagedKVCache, batches: Batches, drafter: Drafter) -> None:
        self._model = model
        self._cache = cache
        self._batches = batches
        self._drafter = drafter
        self._deep: dict[str, dict[RunningSequence, tuple[int, Tensor]]] = {}

    def note(self, stretch: Stretch, hidden_NH: Tensor) -> None:
        """Keep what the last layer gave at the end of this stretch, for it is due and may be drafted for from now on."""
        self._keep(stretch.sequence, stretch.positions.stop - 1, hidden_NH[stretch.stop - 1 : stretch.stop])

    def forget(self, request_id: str) -> None:
        self._deep.pop(request_id, None)

    def run(self, decodes: Sequence[RunningSequence], num_drafts: Mapping[RunningSequence, int], rule: DraftRule) -> list[DueRow]:
        """One row for each of `decodes`, with at most as many drafts as `num_drafts` says, by the rule. Each sequence has blocks for its newest token and its
        drafts."""
        if len(decodes) == 1 and (row := self._run_alone(decodes[0], num_drafts.get(decodes[0], 0), rule)) is not None:
            return [row]
        drafting = {sequence: _Drafting([sequence.token_ids[-1]], num_drafts.get(sequence, 0)) for sequence in decodes}
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
        drafted = draft_alone(sequence.token_ids[-1], self._deep_before_newest(sequence), replace(rule, most=most), self._cache, rows)
        x_NH = self._run_upper(drafted.lower_TH, rows.first(len(drafted.tokens)))
        self._keep(sequence, first, x_NH)
        first_V, *later = self._model.compute_logits(x_NH).unbind()
        return DueRow(sequence, first_V, drafted=tuple(zip(drafted.tokens[1:], later, strict=True)), num_guesses=drafted.num_guesses)

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
        for sequence in sequences:
            if drafting[sequence].num_guesses == 0:
                drafting[sequence].deep_H = self._deep_before_newest(sequence)
        x_KH, deep_KH = (torch.stack(rows) for rows in zip(*((drafting[it].lower[-1], drafting[it].deep_H) for it in sequences), strict=True))
        guesses = self._drafter.draft(x_KH, deep_KH)
        kept = []
        for sequence, token, chance, state_H in zip(sequences, guesses.tokens, guesses.chances, guesses.states_KH.unbind(), strict=True):
            if drafting[sequence].take(token, chance, state_H, rule):
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
        x_NH = self._run_upper(torch.stack([x_H for sequence in ordered for x_H in drafting[sequence].lower]), batch)
        logits_NV = self._model.compute_logits(x_NH)
        rows: dict[RunningSequence, DueRow] = {}
        for stretch in stretches:
            self._keep(stretch.sequence, stretch.positions.start, x_NH[stretch.start : stretch.stop])
            first_V, *later = logits_NV[stretch.start : stretch.stop].unbind()
            one = drafting[stretch.sequence]
            rows[stretch.sequence] = DueRow(stretch.sequence, first_V, drafted=tuple(zip(one.tokens[1:], later, strict=True)), num_guesses=one.num_guesses)
        return [rows[sequence] for sequence in drafting]

    def _run_upper(self, x_NH: Tensor, batch: ForwardBatch) -> Tensor:
        return self._model.run_layers(x_NH, self._drafter.exit_layer, self._model.config.num_layers, self._cache, batch)

    def _keep(self, sequence: RunningSequence, first: int, rows_KH: Tensor) -> None:
        """Rows of positions from `first` on. Which of them come before the newest token is known when the drafts among them have been judged."""
        self._deep.setdefault(sequence.request.id, {})[sequence] = (first, rows_KH)

    def _deep_before_newest(self, sequence: RunningSequence) -> Tensor:
        """(H,): the row that the newest token was chosen after; zeros where there was none."""
        kept = self._deep.get(sequence.request.id, {}).get(sequence)
        if kept is None:
            return torch.zeros(self._model.config.hidden_size, device=self._model.device)
        return kept[1][len(sequence.token_ids) - 2 - kept[0]]
