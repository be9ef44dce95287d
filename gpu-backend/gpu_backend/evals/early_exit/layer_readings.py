"""Reads a decoder layer by layer along given texts: at every position, what each layer would say next and how sure its gates are.

Teacher-forced with exact keys and values, so it shows the decision to leave, not what wrong keys would do to later tokens.
Shapes: L layers, P positions, K rows of one text, H hidden size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gpu_backend.data.judge_rows import TextRow
from gpu_backend.decoding.early_exit.gates import GATES, cosine, gate_scores
from gpu_backend.decoding.reference import whole_texts
from gpu_backend.evals.early_exit.exit_layers import Bools, Floats, Ints
from gpu_backend.models.causal_lm.model import CausalLM, DecoderLayer

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """`tokens_LP` after each layer, `attention_tokens_LP` after its attention (before its feed-forward block); row L-1 is the whole model.
    `scores` holds each gate's (L, P). `text_P` numbers the texts. Where nothing was read, tokens and scores are -1."""

    tokens_LP: Ints
    attention_tokens_LP: Ints
    scores: dict[str, Floats]
    text_P: Ints

    @property
    def num_layers(self) -> int:
        return len(self.tokens_LP)

    @property
    def agrees_LP(self) -> Bools:
        result: Bools = self.tokens_LP == self.tokens_LP[-1]
        return result

    def of_texts(self, numbers: Sequence[int]) -> Readings:
        """The same of these texts only."""
        kept_P = np.isin(self.text_P, numbers)
        return Readings(
            tokens_LP=self.tokens_LP[:, kept_P],
            attention_tokens_LP=self.attention_tokens_LP[:, kept_P],
            scores={gate: scores_LP[:, kept_P] for gate, scores_LP in self.scores.items()},
            text_P=self.text_P[kept_P],
        )


@torch.inference_mode()
def read_layers(
    model: CausalLM, texts: Sequence[TextRow], progress: Progress = lambda _done, _num: None, *, first_layer: int = 1, with_attention: bool = True
) -> Readings:
    """Layers below `first_layer`, and on demand the places after attention, are left unread: most of the time goes to the head.

    `model` must be built of torch operators: the C operators compute whole layers and show nothing in between.
    """
    if model.fused is not None:
        raise ValueError("layers can be read apart only where the model is built of torch operators")
    columns: list[dict[str, Tensor]] = []
    for number, text in enumerate(texts):
        columns.append(_read_text(model, text, first_layer, with_attention))
        progress(number + 1, len(texts))
    joined = {name: torch.cat([column[name] for column in columns], dim=1).numpy() for name in columns[0]}
    counts = [text.stop - text.start for text in texts]
    return Readings(
        tokens_LP=joined["tokens"],
        attention_tokens_LP=joined["attention_tokens"],
        scores={gate: joined[gate].astype(np.float64) for gate in GATES},
        text_P=np.repeat(np.arange(len(texts)), counts),
    )


def _read_text(model: CausalLM, text: TextRow, first_layer: int, with_attention: bool) -> dict[str, Tensor]:
    """(L, K) of each reading."""
    batch, cache = whole_texts(model, [text.ids])
    rows = slice(text.start - 1, text.stop - 1)
    num_layers, num_rows = len(model.blocks), text.stop - text.start
    found = {name: torch.full((num_layers, num_rows), -1.0) for name in GATES}
    found |= {name: torch.full((num_layers, num_rows), -1) for name in ("tokens", "attention_tokens")}
    x = model.embed(batch.token_ids_N)
    for index, block in enumerate(model.blocks):
        assert isinstance(block, DecoderLayer)
        middle = block.attend(x, cache, index, batch)
        after = middle + block.mlp(block.mlp_norm(middle), None)
        if index + 1 >= first_layer:
            scores = gate_scores(model.compute_logits(after[rows]))
            found["tokens"][index] = scores.tokens_K
            found["max_prob"][index] = scores.max_prob_K
            found["margin"][index] = scores.margin_K
            found["entropy"][index] = scores.entropy_K
            found["cosine"][index] = cosine(after[rows], x[rows])
            if with_attention:
                found["attention_tokens"][index] = model.compute_logits(middle[rows]).argmax(dim=-1)
        x = after
    return found
