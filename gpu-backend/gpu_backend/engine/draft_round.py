"""Self-speculation in one model (LayerSkip, arXiv 2404.16710): lower layers draft, upper layers verify, and both share one cache.

A round computes the newest token of every sequence. Where the plan asks for drafts it goes on in the lower layers, guess by guess; then one pass of the
upper layers takes all rows together. Whatever the lower layers computed is kept, so nothing runs twice. What is left in the cache of a wrong draft lies
beyond the sequence's end, is never looked at, and is written over by the token that comes there. Shapes: N rows, H hidden size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from gpu_backend.decoding.early_exit.drafter import Drafter
from gpu_backend.engine.batches import Batches
from gpu_backend.engine.rows import DueRow, Stretch
from gpu_backend.engine.sequence import Sequence as RunningSequence
from gpu_backend.layers.kv_cache import PagedKVCache
from gpu_backend.models.interface import Decoder


class DraftRound:
    """One model with its drafter; it keeps nothing between rounds."""

    def __init__(self, model: Decoder, cache: PagedKVCache, batches: Batches, drafter: Drafter) -> None:
        self._model = model
        self._cache = cache
        self._batches = batches
        self._drafter = drafter

    def run(self, decodes: Sequence[RunningSequence], num_drafts: Mapping[RunningSequence, int]) -> list[DueRow]:
        """One row for each of `decodes`, with as many drafts as `num_drafts` says. Each sequence has blocks for its newest token and its drafts."""
        tokens = {sequence: [sequence.token_ids[-1]] for sequence in decodes}
        lower: dict[RunningSequence, list[Tensor]] = {sequence: [] for sequence in decodes}
        running = list(decodes)
        for step in range(max(num_drafts.values()) + 1):
            x_NH = self._run_lower(running, [tokens[sequence][step] for sequence in running], step)
            for sequence, x_H in zip(running, x_NH.unbind(), strict=True):
                lower[sequence].append(x_H)
            is_drafting = [num_drafts.get(sequence, 0) > step for sequence in running]
            running = [sequence for sequence, drafts in zip(running, is_drafting, strict=True) if drafts]
            if not running:
                break
            for sequence, token in zip(running, self._drafter.draft(x_NH[torch.tensor(is_drafting, device=x_NH.device)]), strict=True):
                tokens[sequence].append(token)
        return self._verify(tokens, lower)

    def _run_lower(self, sequences: list[RunningSequence], token_ids: list[int], step: int) -> Tensor:
        """The residual stream at the exit of one token per sequence, `step` positions after its newest one."""
        positions = [len(sequence.token_ids) - 1 + step for sequence in sequences]
        stretches = [Stretch(sequence, range(at, at + 1), row) for row, (sequence, at) in enumerate(zip(sequences, positions, strict=True))]
        batch = self._batches.of(stretches, len(stretches), token_ids)
        return self._model.run_layers(self._model.embed(batch.token_ids_N), 0, self._drafter.exit_layer, self._cache, batch)

    def _verify(self, tokens: dict[RunningSequence, list[int]], lower: dict[RunningSequence, list[Tensor]]) -> list[DueRow]:
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
        rows: dict[RunningSequence, DueRow] = {}
        for stretch in stretches:
            first_V, *later = logits_NV[stretch.start : stretch.stop].unbind()
            rows[stretch.sequence] = DueRow(stretch.sequence, first_V, drafted=tuple(zip(tokens[stretch.sequence][1:], later, strict=True)))
        return [rows[sequence] for sequence in tokens]
