"""Drafters: what guesses a next token from an inner layer, so that the layers above can verify several guesses in one pass.

Shapes: K rows, R layers that are read one position before a guess, H hidden size.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from gpu_backend.decoding.early_exit.draft_length import DraftRule
from gpu_backend.kernels import structs
from gpu_backend.kernels.native import PackedMatrix
from gpu_backend.kernels.packing import pack_int4
from gpu_backend.layers.batch import ForwardBatch
from gpu_backend.layers.kv_cache import PagedKVCache
from gpu_backend.layers.linear import AnyLinear, Linear, PackedLinear
from gpu_backend.layers.mlp import SwiGLU
from gpu_backend.layers.norm import RMSNorm
from gpu_backend.models.causal_lm.exit_adapter import ExitAdapter, ExitAdapterConfig, calibrated
from gpu_backend.models.causal_lm.model import CausalLM


@dataclass(frozen=True, slots=True)
class Guesses:
    """For each of K rows a token, the probability that the inner layer gives it, the chance that it is right, and the state that stands in for full depth when
    the token after it is guessed."""

    tokens: list[int]
    probs: list[float]
    chances: list[float]
    states_KH: Tensor


@dataclass(frozen=True, slots=True)
class Drafted:
    """The newest token of a sequence and the drafts after it, probabilities and chances of these, the residual stream at the exit after each token (T, H), and
    how many guesses were made."""

    tokens: list[int]
    probs: list[float]
    chances: list[float]
    lower_TH: Tensor
    num_guesses: int


# All drafts of one sequence in one go, by the rule: its newest token and each draft through the layers below the exit, and the guess after it. Takes the
# token, the streams after the deep layers one position before it (R, H), the probability from which on a guess stands unverified, and the places of the token
# and of as many drafts as the rule allows.
DraftAlone = Callable[[int, Tensor, DraftRule, float, PagedKVCache, ForwardBatch], Drafted]


class Drafter(Protocol):
    """`exit_layer` is the number of layers below the guess, `inner_layers` are read one position before it, beside the last one. Guesses may be wrong; they
    cost time then, never a token. `draft_alone` is None where only `draft`, layer by layer, can make them."""

    exit_layer: int
    inner_layers: tuple[int, ...]
    draft_alone: DraftAlone | None

    def fuse(self, deep_KRH: Tensor) -> Tensor:
        """(K, H): what is known of positions where full depth has been, from the residual stream there after the inner layers and the last one; zeros where a
        layer's is not at hand."""

    def draft(self, x_KH: Tensor, known_KH: Tensor) -> Guesses:
        """What comes after each row of the residual stream after `exit_layer` layers. `known_KH` is what is known one position before, or, where full depth has
        not been yet, the state beside the guess before."""


class HeadDrafter:
    """The model's own final norm and head, as they are: no parameters of its own, and the price of the whole head for each guess. It takes itself to be
    right."""

    def __init__(self, model: CausalLM, exit_layer: int) -> None:
        if not 1 <= exit_layer < model.config.num_layers:
            raise ValueError(f"exit_layer must be between 1 and {model.config.num_layers - 1}, got {exit_layer}")
        self.exit_layer = exit_layer
        self.inner_layers: tuple[int, ...] = ()
        self.draft_alone: DraftAlone | None = None
        self._model = model

    def fuse(self, deep_KRH: Tensor) -> Tensor:
        return deep_KRH[:, -1]

    def draft(self, x_KH: Tensor, known_KH: Tensor) -> Guesses:
        logits_KV = self._model.compute_logits(x_KH)
        probs_K = logits_KV.softmax(dim=-1).amax(dim=-1)
        return Guesses(logits_KV.argmax(dim=-1).tolist(), probs_K.tolist(), [1.0] * len(x_KH), known_KH)


class AdapterDrafter:
    """A trained adapter at an inner layer: a feed-forward block, and a head over few tokens. With the C operators its weights are rounded to 4 bits: a
    few more guesses are wrong, and each takes less time; and all guesses of a step are one call, or, for a sequence alone, all drafts of a round."""

    def __init__(self, model: CausalLM, adapter: ExitAdapter) -> None:
        config, native = adapter.config, model.final_norm.native
        layers = [0, config.exit_layer, *config.inner_layers, model.config.num_layers]
        if config.hidden_size != model.config.hidden_size or any(lower >= upper for lower, upper in pairwise(layers)):
            raise ValueError(f"the exit adapter is for layers {layers[1:-1]} of width {config.hidden_size}, which this model does not have in this order")

        def linear(weight: Tensor) -> AnyLinear:
            return Linear(weight.to(model.device, model.dtype)) if native is None else PackedLinear(PackedMatrix(pack_int4(weight), len(weight)), native)

        def norm(weight: Tensor) -> RMSNorm:
            return RMSNorm(weight.detach().to(model.device, model.dtype), config.rms_norm_eps, native)

        self.exit_layer, self.inner_layers = config.exit_layer, config.inner_layers
        # Rows of one tensor, so that the C operators find them behind each other.
        weights_RH = adapter.deep_norms.detach().to(model.device, model.dtype).contiguous()
        self._deep_norms = [RMSNorm(weight_H, config.rms_norm_eps, native) for weight_H in weights_RH.unbind()]
        self._fuse = linear(adapter.fuse_deep.detach())
        self._exit_norm, self._known_norm = norm(adapter.exit_norm), norm(adapter.known_norm)
        self._mix = linear(adapter.mix.detach())
        self._norm = norm(adapter.norm)
        self._mlp = SwiGLU(linear(adapter.gate_up.detach()), linear(adapter.down.detach()), native)
        self._out_norm = norm(adapter.out_norm)
        self._head = linear(model.head_rows(adapter.shortlist_S.to(model.device)))
        self._shortlist_S = adapter.shortlist_S.to(model.device)
        self._calibration = config.calibration
        self._calibration_10 = torch.tensor(config.calibration, dtype=torch.float64)
        self._native = native
        self._block = None if native is None else self._as_struct(config)
        self.draft_alone: DraftAlone | None = self._all_in_one_call(model)

    def fuse(self, deep_KRH: Tensor) -> Tensor:
        if self._native is not None and self._block is not None:
            return self._native.fuse(deep_KRH, self._block)
        normed = [norm(deep_KH.contiguous()) for norm, deep_KH in zip(self._deep_norms, deep_KRH.unbind(dim=1), strict=True)]
        return self._fuse(torch.cat(normed, dim=-1)).float()

    def draft(self, x_KH: Tensor, known_KH: Tensor) -> Guesses:
        places_K, probs_K, states_KH = self._guess(x_KH, known_KH)
        probs = probs_K.tolist()
        return Guesses(self._shortlist_S[places_K].tolist(), probs, self._chances(probs), states_KH)

    def _chances(self, probs: Sequence[float]) -> list[float]:
        return [calibrated(prob, self._calibration) for prob in probs]

    def _guess(self, x_KH: Tensor, known_KH: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """-> places in the shortlist (K,), their probabilities (K,), states."""
        if self._native is not None and self._block is not None:
            return self._native.guess(x_KH, known_KH, self._block)
        u_KH = self._mix(torch.cat((self._exit_norm(x_KH), self._known_norm(known_KH)), dim=-1)).float()
        z_KH = u_KH + self._mlp(self._norm(u_KH))
        best_K, places_K = self._head(self._out_norm(z_KH)).float().softmax(dim=-1).max(dim=-1)
        return places_K, best_K, z_KH

    def _as_struct(self, config: ExitAdapterConfig) -> structs.ExitBlock:
        norms = (self._deep_norms[0], self._exit_norm, self._known_norm, self._norm, self._out_norm)
        matrices = (self._fuse, self._mix, self._mlp.gate_up, self._mlp.down, self._head)
        packed = [linear.matrix.struct for linear in matrices if isinstance(linear, PackedLinear)]
        sizes = (config.num_deep_layers, config.hidden_size, config.width)
        return structs.ExitBlock(*(norm.weight.data_ptr() for norm in norms), *packed, *sizes, config.rms_norm_eps)

    def _all_in_one_call(self, model: CausalLM) -> DraftAlone | None:
        """None for a model whose embeddings or layers the C operators do not read."""
        native, block, fused = self._native, self._block, model.fused
        if native is None or block is None or fused is None or model.embedding is not None or not isinstance(model.head, PackedLinear):
            return None
        numbers = (self._shortlist_S.data_ptr(), self._calibration_10.data_ptr(), model.config.hidden_size, self.exit_layer)
        parts = structs.DraftParts(*map(ctypes.pointer, (model.head.matrix.struct, fused.decoder, block)), *numbers)

        def draft_alone(token: int, deep_RH: Tensor, rule: DraftRule, least_to_stand: float, cache: PagedKVCache, rows: ForwardBatch) -> Drafted:
            as_struct = structs.DraftRule(rule.most, rule.least_kept, rule.least_to_go_on, least_to_stand)
            shape = fused.head_shape(cache)
            tokens, probs, lower_TH, num_guesses = native.draft(token, deep_RH, parts, as_struct, cache.pointers, rows.paged_rows, shape)
            return Drafted(tokens, probs, self._chances(probs), lower_TH, num_guesses)

        return draft_alone
