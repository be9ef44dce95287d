"""Exit adapters in training: all of them learn side by side what the base says next, a few guesses ahead of what full depth has seen.

Shapes: K positions of some answers, H hidden size, S tokens in the shortlist.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from gpu_backend.data.judge_rows import TextRow
from gpu_backend.losses import LossOutput
from gpu_backend.models.causal_lm.exit_adapter import NUM_TENTHS, ExitAdapter, ExitAdapterConfig
from gpu_backend.models.causal_lm.model import CausalLM
from gpu_backend.train.exit_states import AnswerStates

# On a CPU a product of a new shape takes long to prepare, so rows are filled up to a multiple of this.
_ROWS_MULTIPLE = 256


def shortlist_of(rows: Iterable[TextRow], size: int, always: Sequence[int] = ()) -> Tensor:
    """(S,): `always`, and the tokens that the rows bring most often, those of lower id first where they come equally often."""
    seen = Counter(token for row in rows for token in row.ids[row.start : row.stop])
    ordered = [*always, *(token for token, _ in sorted(seen.items(), key=lambda item: (-item[1], item[0])) if token not in always)]
    return torch.tensor(ordered[:size])


@dataclass(frozen=True, slots=True)
class Guesses:
    """Of one adapter, after so many guesses before them that full depth has not seen: its logits and the base's own, and the base's next token as a place in
    the shortlist, -1 where it is not in it."""

    logits_KS: Tensor
    base_logits_KS: Tensor
    places_K: Tensor

    @property
    def is_right_K(self) -> Tensor:
        return self.logits_KS.argmax(dim=-1) == self.places_K

    @property
    def prob_K(self) -> Tensor:
        """What the adapter gives the token that it guesses."""
        return self.logits_KS.softmax(dim=-1).amax(dim=-1)


class ExitModel(nn.Module):
    """Nothing of the base is a part of the module: it needs the base's final norm, and its head's rows (S, H) for the shortlist."""

    head_SH: Tensor
    place_V: Tensor
    final_norm_H: Tensor

    def __init__(self, base: CausalLM, adapters: Sequence[ExitAdapter], num_ahead: int) -> None:
        super().__init__()
        self.adapters = nn.ModuleList(adapters)
        self._num_ahead = num_ahead
        self._eps = base.config.rms_norm_eps
        shortlist_S = adapters[0].shortlist_S
        place_V = torch.full((base.config.vocab_size,), -1)
        place_V[shortlist_S] = torch.arange(len(shortlist_S))
        self.register_buffer("head_SH", base.head_rows(shortlist_S.to(base.device)), persistent=False)
        self.register_buffer("final_norm_H", base.final_norm.weight.detach().float(), persistent=False)
        self.register_buffer("place_V", place_V, persistent=False)

    @classmethod
    def fresh(
        cls,
        base: CausalLM,
        exit_layers: Sequence[int],
        inner_layers: Sequence[int],
        shortlist_S: Tensor,
        *,
        width: int,
        num_ahead: int,
        base_revision: str,
        seed: int,
    ) -> ExitModel:
        """Adapters at layers that ascend, which all read the same inner layers. `num_ahead` guesses in a row are learned at each position."""
        config = base.config
        adapters = [
            ExitAdapter.fresh(
                ExitAdapterConfig(
                    base=base_revision,
                    exit_layer=layer,
                    inner_layers=tuple(inner_layers),
                    hidden_size=config.hidden_size,
                    width=width,
                    shortlist_size=len(shortlist_S),
                    rms_norm_eps=config.rms_norm_eps,
                ),
                shortlist_S,
                base.final_norm.weight.float(),
                seed=seed,
            )
            for layer in exit_layers
        ]
        return cls(base, adapters, num_ahead)

    @property
    def exits(self) -> list[ExitAdapter]:
        return [adapter for adapter in self.adapters if isinstance(adapter, ExitAdapter)]

    def forward(self, answers: Sequence[AnswerStates]) -> list[list[Guesses]]:
        """For each adapter its guesses with 0, 1, … guesses before them. Those after a guess begin one position later in each answer."""
        offsets_K = torch.cat([torch.arange(answer.num_tokens) for answer in answers]).to(self.head_SH.device)
        wanted_KH = torch.cat([answer.deep_QRH[1:, -1] for answer in answers]).float()
        deep_KRH = torch.cat([answer.deep_QRH[:-1] for answer in answers])
        places_K = self.place_V[torch.cat([answer.next_P for answer in answers])]
        with torch.no_grad():
            base_logits_KS = self._logits(functional.rms_norm(wanted_KH, wanted_KH.shape[1:], self.final_norm_H, self._eps))
        guesses: list[list[Guesses]] = []
        for index, adapter in enumerate(self.exits):
            x_KH = torch.cat([answer.exits_EPH[index] for answer in answers])
            known_KH = _on_full_shapes(adapter.fuse, deep_KRH)
            guesses.append([])
            for ahead in range(self._num_ahead):
                z_KH = _on_full_shapes(adapter, x_KH, known_KH)
                kept_K = offsets_K >= ahead
                guesses[-1].append(Guesses(self._logits(adapter.read(z_KH))[kept_K], base_logits_KS[kept_K], places_K[kept_K]))
                # Rows of an answer lie behind each other. What its first row is given here belongs to another answer, and is left out from now on.
                known_KH = z_KH.roll(1, dims=0)
        return guesses

    def _logits(self, normed_KH: Tensor) -> Tensor:
        return _padded_product(normed_KH, self.head_SH)


def exit_loss(model: nn.Module, answers: Sequence[AnswerStates]) -> LossOutput:
    """Distillation (Hinton et al. 2015, arXiv 1503.02531) at temperature 1: the cross entropy of the base's distribution over the shortlist against the
    adapter's, the mean over positions, then over guesses ahead and adapters. Metrics: shares of guesses that are the base's next token, 1st, 2nd, …"""
    losses: list[Tensor] = []
    metrics: dict[str, float] = {}
    for index, ahead in enumerate(model(answers)):
        for number, guesses in enumerate(ahead):
            shares_KS = guesses.base_logits_KS.softmax(dim=-1)
            losses.append(-(shares_KS * guesses.logits_KS.log_softmax(dim=-1)).sum(dim=-1).mean())
            metrics[f"right_{index}_{number + 1}"] = guesses.is_right_K.float().mean().item()
    return LossOutput(torch.stack(losses).mean(), metrics)


@dataclass(frozen=True, slots=True)
class ExitShares:
    """How often an adapter's guesses are the base's next token, if those before them were: 1st, 2nd, … ones in a row, and all of them by tenths of the
    probability that the adapter gives them. A tenth without a guess has its middle."""

    by_number: tuple[float, ...]
    by_tenth: tuple[float, ...]


@torch.no_grad()
def exit_shares(model: ExitModel, answers: Sequence[AnswerStates], answers_per_pass: int = 16) -> list[ExitShares]:
    """Of each adapter, over all positions of the answers."""
    found: list[list[list[tuple[Tensor, Tensor]]]] = [[] for _ in model.exits]
    for first in range(0, len(answers), answers_per_pass):
        for passes, ahead in zip(found, model(answers[first : first + answers_per_pass]), strict=True):
            passes.append([(guesses.is_right_K, guesses.prob_K) for guesses in ahead])
    return [
        _shares_of([(torch.cat(right), torch.cat(prob)) for right, prob in (zip(*parts, strict=True) for parts in zip(*passes, strict=True))])
        for passes in found
    ]


def _shares_of(ahead: list[tuple[Tensor, Tensor]]) -> ExitShares:
    """`ahead` has for the 1st, 2nd, … guesses in a row whether they are right and their probabilities."""
    right, prob = (torch.cat(parts) for parts in zip(*ahead, strict=True))
    tenth = (prob * NUM_TENTHS).long().clamp(max=NUM_TENTHS - 1)
    by_tenth = tuple(float(right[tenth == index].float().mean()) if (tenth == index).any() else (index + 0.5) / NUM_TENTHS for index in range(NUM_TENTHS))
    return ExitShares(tuple(float(part.float().mean()) for part, _ in ahead), by_tenth)


def _on_full_shapes(part: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """The part of an adapter on rows (K, …) filled up, without what it makes of the filling."""
    rows = len(inputs[0])
    with torch.autocast(inputs[0].device.type, torch.bfloat16):
        out_KH: Tensor = part(*(functional.pad(x, (0, 0) * (x.dim() - 1) + (0, -rows % _ROWS_MULTIPLE)) for x in inputs))
    return out_KH[:rows]


def _padded_product(x_KH: Tensor, weight_SH: Tensor) -> Tensor:
    """In bfloat16, -> float32."""
    rows = len(x_KH)
    with torch.autocast(x_KH.device.type, torch.bfloat16):
        return (functional.pad(x_KH, (0, 0, 0, -rows % _ROWS_MULTIPLE)) @ weight_SH.T)[:rows].float()
