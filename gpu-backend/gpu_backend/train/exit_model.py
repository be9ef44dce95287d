"""A frozen served model below some exits, with a trainable adapter at each: all of them learn from one pass through the lower layers.

Shapes: N rows of a batch of texts, K of them that predict a token to be learned, S tokens in the shortlist.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from gpu_backend.data.judge_rows import TextRow
from gpu_backend.decoding.reference import whole_texts
from gpu_backend.losses import LossOutput
from gpu_backend.losses.language_modeling import language_modeling_loss
from gpu_backend.models.causal_lm.exit_adapter import ExitAdapter, ExitAdapterConfig
from gpu_backend.models.causal_lm.model import CausalLM

# On a CPU a product of a new shape takes long to prepare, so rows are filled up to a multiple of this.
_ROWS_MULTIPLE = 256


def shortlist_of(rows: Iterable[TextRow], size: int, always: Sequence[int] = ()) -> Tensor:
    """(S,): `always`, and the tokens that the rows bring most often, those of lower id first where they come equally often."""
    seen = Counter(token for row in rows for token in row.ids[row.start : row.stop])
    ordered = [*always, *(token for token, _ in sorted(seen.items(), key=lambda item: (-item[1], item[0])) if token not in always)]
    return torch.tensor(ordered[:size])


class ExitModel(nn.Module):
    """`base` is not a part of the module: nothing of it is trained, saved or moved. It may be computed by the C operators, as it is when it serves."""

    head_SH: Tensor
    place_V: Tensor

    def __init__(self, base: CausalLM, adapters: Sequence[ExitAdapter], head_SH: Tensor) -> None:
        super().__init__()
        self._base = [base]
        self.adapters = nn.ModuleList(adapters)
        self.register_buffer("head_SH", head_SH, persistent=False)
        place_V = torch.full((base.config.vocab_size,), -1)
        place_V[adapters[0].shortlist_S] = torch.arange(len(head_SH))
        self.register_buffer("place_V", place_V, persistent=False)

    @classmethod
    def fresh(cls, base: CausalLM, exit_layers: Sequence[int], shortlist_S: Tensor, *, width: int, base_revision: str, seed: int) -> ExitModel:
        config = base.config
        adapters = [
            ExitAdapter.fresh(
                ExitAdapterConfig(
                    base=base_revision,
                    exit_layer=layer,
                    hidden_size=config.hidden_size,
                    width=width,
                    shortlist_size=len(shortlist_S),
                    rms_norm_eps=config.rms_norm_eps,
                ),
                shortlist_S,
                base.final_norm.weight.float(),
                seed=seed,
            )
            for layer in sorted(exit_layers)
        ]
        return cls(base, adapters, base.head_rows(shortlist_S))

    @property
    def exits(self) -> list[ExitAdapter]:
        """The adapters, lowest layer first."""
        return [adapter for adapter in self.adapters if isinstance(adapter, ExitAdapter)]

    def forward(self, rows: Sequence[TextRow]) -> tuple[list[Tensor], Tensor]:
        """-> logits (K, S) of each adapter, and the place in the shortlist of what comes next, (K,): -1 where it is not in it."""
        base = self._base[0]
        batch, cache = whole_texts(base, [row.ids for row in rows])
        at = [span.start + index - 1 for row, span in zip(rows, batch.spans, strict=True) for index in range(row.start, row.stop)]
        num_rows = len(at)
        at += [0] * (-num_rows % _ROWS_MULTIPLE)
        targets_K = self.place_V[torch.tensor([token for row in rows for token in row.ids[row.start : row.stop]], device=base.device)]
        logits: list[Tensor] = []
        with torch.no_grad():
            x, done = base.embed(batch.token_ids_N), 0
        for adapter in self.exits:
            with torch.no_grad():
                x, done = base.run_layers(x, done, adapter.config.exit_layer, cache, batch), adapter.config.exit_layer
            with torch.autocast(base.device.type, torch.bfloat16):
                logits.append((adapter(x[at]) @ self.head_SH.T)[:num_rows].float())
        return logits, targets_K


def exit_loss(model: nn.Module, rows: Sequence[TextRow]) -> LossOutput:
    """The mean over adapters of the cross entropy of next tokens that the shortlist has; metrics are shares of all next tokens, so of those it lacks, too."""
    logits, targets_K = model(rows)
    has_K = targets_K >= 0
    losses = [language_modeling_loss(logits_KS[has_K], targets_K[has_K]).loss for logits_KS in logits]
    right = {f"right_{index}": (logits_KS.argmax(dim=-1) == targets_K).float().mean().item() for index, logits_KS in enumerate(logits)}
    return LossOutput(torch.stack(losses).mean(), {**right, "in_shortlist": has_K.float().mean().item()})


@torch.no_grad()
def exit_shares(model: ExitModel, rows: Sequence[TextRow], rows_per_pass: int = 16) -> list[float]:
    """Of each adapter: the share of next tokens that it guesses, over all tokens of the rows."""
    right = [0] * len(model.exits)
    num = 0
    for first in range(0, len(rows), rows_per_pass):
        logits, targets_K = model(rows[first : first + rows_per_pass])
        num += len(targets_K)
        for index, logits_KS in enumerate(logits):
            right[index] += int((logits_KS.argmax(dim=-1) == targets_K).sum())
    return [count / num for count in right]
