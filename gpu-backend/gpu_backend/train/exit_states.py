"""What exit adapters learn from: the states of their frozen base over its own answers, computed once and kept in memory.

Shapes: P positions of an answer, E exit layers, H hidden size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gpu_backend.data.judge_rows import TextRow
from gpu_backend.decoding.reference import whole_texts
from gpu_backend.models.causal_lm.model import CausalLM

_TEXTS_PER_PASS = 16


@dataclass(frozen=True, slots=True)
class AnswerStates:
    """The positions from an answer's first token to the last but one, at each of which the next token, `next_P`, is to be guessed.

    `exits_EPH` are the residual streams there after each exit layer. `deep_QH` (Q = P + 1) are those after the last layer, from one position before on: what
    is known when a guess is made, and, one place further, what the guess should come to. Both in bfloat16.
    """

    exits_EPH: Tensor
    deep_QH: Tensor
    next_P: Tensor

    @property
    def length(self) -> int:
        return len(self.next_P)


@torch.no_grad()
def answer_states(
    base: CausalLM, rows: Sequence[TextRow], exit_layers: Sequence[int], progress: Callable[[int, int], None] = lambda _done, _num: None
) -> list[AnswerStates]:
    """In the order of the rows, without those whose answer is a single token. `exit_layers` ascend. The base may be computed by the C operators."""
    states: list[AnswerStates] = []
    for first in range(0, len(rows), _TEXTS_PER_PASS):
        group = rows[first : first + _TEXTS_PER_PASS]
        batch, cache = whole_texts(base, [row.ids for row in group])
        x_NH, done, exits = base.embed(batch.token_ids_N), 0, []
        for layer in exit_layers:
            x_NH, done = base.run_layers(x_NH, done, layer, cache, batch), layer
            exits.append(x_NH.bfloat16())
        deep_NH = base.run_layers(x_NH, done, base.config.num_layers, cache, batch).bfloat16()
        exits_ENH = torch.stack(exits)
        for row, span in zip(group, batch.spans, strict=True):
            start, stop = span.start + row.start, span.start + row.stop - 1
            if start < stop:
                next_P = torch.tensor(row.ids[row.start + 1 : row.stop], device=base.device)
                states.append(AnswerStates(exits_ENH[:, start:stop].clone(), deep_NH[start - 1 : stop].clone(), next_P))
        progress(min(first + _TEXTS_PER_PASS, len(rows)), len(rows))
    return states
