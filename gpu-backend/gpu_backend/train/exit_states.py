"""What exit adapters learn from: the states of their frozen base over its own answers, computed once and kept in memory.

Shapes: P positions of an answer, E exit layers, R layers that are read one position before, H hidden size.
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

    `exits_EPH` are the residual streams there after each exit layer. `deep_QRH` (Q = P + 1) are those after the inner layers and the last one, from one
    position before on: what is known when a guess is made, and, one place further and of the last layer, what the guess should come to. In bfloat16.
    """

    exits_EPH: Tensor
    deep_QRH: Tensor
    next_P: Tensor

    @property
    def num_tokens(self) -> int:
        return len(self.next_P)


@torch.no_grad()
def answer_states(
    base: CausalLM,
    rows: Sequence[TextRow],
    exit_layers: Sequence[int],
    inner_layers: Sequence[int],
    progress: Callable[[int, int], None] = lambda _done, _num: None,
) -> list[AnswerStates]:
    """In the order of the rows, without those whose answer is a single token. Layers ascend. The base may be computed by the C operators."""
    states: list[AnswerStates] = []
    deep_layers = (*inner_layers, base.config.num_layers)
    layers = sorted({*exit_layers, *deep_layers})
    for first in range(0, len(rows), _TEXTS_PER_PASS):
        group = rows[first : first + _TEXTS_PER_PASS]
        batch, cache = whole_texts(base, [row.ids for row in group])
        noted_NLH = base.run_layers_noting(base.embed(batch.token_ids_N), 0, layers, cache, batch).bfloat16()
        after = dict(zip(layers, noted_NLH.unbind(dim=1), strict=True))
        exits_ENH, deep_NRH = torch.stack([after[layer] for layer in exit_layers]), torch.stack([after[layer] for layer in deep_layers], dim=1)
        for row, span in zip(group, batch.spans, strict=True):
            start, stop = span.start + row.start, span.start + row.stop - 1
            if start < stop:
                next_P = torch.tensor(row.ids[row.start + 1 : row.stop], device=base.device)
                states.append(AnswerStates(exits_ENH[:, start:stop].clone(), deep_NRH[start - 1 : stop].clone(), next_P))
        progress(min(first + _TEXTS_PER_PASS, len(rows)), len(rows))
    return states
