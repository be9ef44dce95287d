"""Self-speculation in one model (LayerSkip, arXiv 2404.16710): lower layers draft, upper layers verify, and both share one cache.

A round computes the newest token of every sequence. Where the plan asks for drafts it goes on in the lower layers, guess by guess; then one pass of the
upper layers takes all rows together. Whatever the lower layers computed is kept, so nothing runs twice. What is left in the cache of a wrong draft lies
beyond the sequence's end, is never looked at, and is written over by the token that comes there. Shapes: N rows, H hidden size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from gpu_backend.decoding.early_exit.draft_length import DraftRule
from gpu_backend.decoding.early_exit.drafter import Drafter
from gpu_backend.engine.batches import Batches
from gpu_backend.engine.rows import DueRow, Stretch
from gpu_backend.engine.sequence import Sequence as RunningSequence
from gpu_backend.layers.kv_cache import PagedKVCache
from gpu_backend.models.interface import Decoder


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
        tokens = {sequence: [sequence.token_ids[-1]] for sequence in decodes}
        lower: dict[RunningSequence, list[Tensor]] = {sequence: [] for sequence in decodes}
        running = list(decodes)
        num_guesses = dict.fromkeys(decodes, 0)
        chances = dict.fromkeys(decodes, 1.0)
        deep: dict[RunningSequence, Tensor] = {}
        for step in range(max(num_drafts.values()) + 1):
            x_NH = self._run_lower(running, [tokens[sequence][step] for sequence in running], step)
            for sequence, x_H in zip(running, x_NH.unbind(), strict=True):
                lower[sequence].append(x_H)
            running = [it for it in running if num_drafts.get(it, 0) > step and (step == 0 or chances[it] >= rule.least_to_go_on)]
            if not running:
                break
            if step == 0:
                deep = {sequence: self._deep_before_newest(sequence, lower[sequence][0]) for sequence in running}
            guesses = self._drafter.draft(torch.stack([lower[it][step] for it in running]), torch.stack([deep[it] for it in running]))
            for sequence, token, chance, state_H in zip(running, guesses.tokens, guesses.chances, guesses.states_KH.unbind(), strict=True):
                num_guesses[sequence] += 1
                chances[sequence] *= chance
                if chances[sequence] >= rule.least_kept:
                    tokens[sequence].append(token)
                    deep[sequence] = state_H
            running = [sequence for sequence in running if len(tokens[sequence]) > step + 1]
            if not running:
                break
        return self._verify(tokens, lower, num_guesses)

    def _run_lower(self, sequences: list[RunningSequence], token_ids: list[int], step: int) -> Tensor:
        """The residual stream at the exit of one token per sequence, `step` positions after its newest one."""
        positions = [len(sequence.token_ids) - 1 + step for sequence in sequences]
        stretches = [Stretch(sequence, range(at, at + 1), row) for row, (sequence, at) in enumerate(zip(sequences, positions, strict=True))]
        batch = self._batches.of(stretches, len(stretches), token_ids)
        return self._model.run_layers(self._model.embed(batch.token_ids_N), 0, self._drafter.exit_layer, self._cache, batch)

    def _verify(
        self, tokens: dict[RunningSequence, list[int]], lower: dict[RunningSequence, list[Tensor]], num_guesses: dict[RunningSequence, int]
    ) -> list[DueRow]:
        """All rows through the upper layers; those without drafts come first, as decoding rows do."""
        ordered = sorted(tokens, key=lambda sequence: len(tokens[sequence]) > 1)
        stretches: list[Stretch] = []
        for sequence in ordered:
            first, start = len(sequence.token_ids) - 1, stretches[-1].stop if stretches else 0
            stretches.append(Stretch(sequence, range(first, first + len(tokens[sequence])), start))
        num_decodes = sum(len(tokens[sequence]) == 1 for sequence in ordered)
        batch = self._batches.of(stretches, num_decodes, [token for sequence in ordered for token in tokens[sequence]])
        x_NH = torch.stack([x_H for sequence in ordered for x_H in lower[sequence]])
        x_NH = self._model.run_layers(x_NH, self._drafter.exit_layer, self._model.config.num_layers, self._cache, batch)
        logits_NV = self._model.compute_logits(x_NH)
        for stretch in stretches:
            self._keep(stretch.sequence, stretch.positions.start, x_NH[stretch.start : stretch.stop])
        rows: dict[RunningSequence, DueRow] = {}
        for stretch in stretches:
            first_V, *later = logits_NV[stretch.start : stretch.stop].unbind()
            drafted = tuple(zip(tokens[stretch.sequence][1:], later, strict=True))
            rows[stretch.sequence] = DueRow(stretch.sequence, first_V, drafted=drafted, num_guesses=num_guesses[stretch.sequence])
        return [rows[sequence] for sequence in tokens]

    def _keep(self, sequence: RunningSequence, first: int, rows_KH: Tensor) -> None:
        """Rows of positions from `first` on. Which of them come before the newest token is known when the drafts among them have been judged."""
        self._deep.setdefault(sequence.request.id, {})[sequence] = (first, rows_KH)

    def _deep_before_newest(self, sequence: RunningSequence, like_H: Tensor) -> Tensor:
        """(H,): the row that the newest token was chosen after; zeros where there was none."""
        kept = self._deep.get(sequence.request.id, {}).get(sequence)
        return torch.zeros_like(like_H) if kept is None else kept[1][len(sequence.token_ids) - 2 - kept[0]]
