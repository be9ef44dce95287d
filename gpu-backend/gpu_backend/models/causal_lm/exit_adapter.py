"""An exit adapter: a small trained block that turns an inner layer's output into guesses of the next token, over the model's most frequent tokens.

Beside the inner layer's output it reads what the last layer said one position before (as EAGLE does, arXiv 2401.15077), and some layers between, fused into
one state (EAGLE-3, arXiv 2503.01840): full depth has been there. For a guess after a guess, which full depth has not reached yet, the block's own state stands
in for the fused one. The base stays as it is.
Shapes: K rows, R layers that are read one position before, H hidden size, F width of the block, S tokens in the shortlist.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

NUM_TENTHS = 10
WEIGHTS, CONFIG = "exit_adapter.safetensors", "exit_adapter.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitPoint:
    """Guesses of at least `least_prob` may stand unverified: with the stated confidence no more than `max_risk` of the tokens are others than full depth's."""

    max_risk: float
    least_prob: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitAdapterConfig:
    """`base` names the weights that the adapter was trained on: the revision of the base's row. `inner_layers`, which ascend, are read one position before,
    beside the last layer. `acceptance` is the share of its guesses that were right on held-out answers of the base, where all before them were. `calibration`
    has this share for the guesses of each tenth of probability, from those that the adapter gave less than 0.1. `points`, from the safest to the boldest, are
    those at which tokens may leave unverified, faster than verified ones."""

    base: str
    exit_layer: int
    inner_layers: tuple[int, ...]
    hidden_size: int
    width: int
    shortlist_size: int
    rms_norm_eps: float
    acceptance: float = 0.0
    calibration: tuple[float, ...] = (1.0,) * NUM_TENTHS
    points: tuple[ExitPoint, ...] = ()

    @property
    def num_deep_layers(self) -> int:
        return len(self.inner_layers) + 1


def calibrated(prob: float, calibration: Sequence[float]) -> float:
    """How often guesses of about this probability were right."""
    return calibration[min(NUM_TENTHS - 1, int(prob * NUM_TENTHS))]


class ExitAdapter(nn.Module):
    """`known = fuse [norm(inner), …, norm(last)]`, `u = mix [norm(x), norm(known)]`, `z = u + down(silu(gate(n)) * up(n))` with `n = norm(u)`; then a norm of
    its own, and the rows of the base's head that the shortlist names. `z` is the state that takes the place of `known` for the next guess."""

    shortlist_S: Tensor

    def __init__(self, config: ExitAdapterConfig, shortlist_S: Tensor) -> None:
        super().__init__()
        if shortlist_S.shape != (config.shortlist_size,):
            raise ValueError(f"the shortlist has {tuple(shortlist_S.shape)} tokens, its configuration says {config.shortlist_size}")
        self.config = config
        self.deep_norms = nn.Parameter(torch.ones(config.num_deep_layers, config.hidden_size))
        self.fuse_deep = nn.Parameter(torch.empty(config.hidden_size, config.num_deep_layers * config.hidden_size))
        self.exit_norm = nn.Parameter(torch.ones(config.hidden_size))
        self.known_norm = nn.Parameter(torch.ones(config.hidden_size))
        self.mix = nn.Parameter(torch.empty(config.hidden_size, 2 * config.hidden_size))
        self.norm = nn.Parameter(torch.ones(config.hidden_size))
        self.gate_up = nn.Parameter(torch.empty(2 * config.width, config.hidden_size))
        self.down = nn.Parameter(torch.zeros(config.hidden_size, config.width))
        self.out_norm = nn.Parameter(torch.ones(config.hidden_size))
        self.register_buffer("shortlist_S", shortlist_S.long())

    @classmethod
    def fresh(cls, config: ExitAdapterConfig, shortlist_S: Tensor, final_norm_H: Tensor, *, seed: int) -> ExitAdapter:
        """Before training it adds nothing, looks at the exit only, and reads it as the model's own final norm and head would; of the layers one position before
        the last one alone is known."""
        adapter = cls(config, shortlist_S)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            adapter.fuse_deep.zero_()
            adapter.fuse_deep[:, -config.hidden_size :].copy_(torch.eye(config.hidden_size))
            adapter.mix.copy_(torch.eye(config.hidden_size, 2 * config.hidden_size))
            adapter.gate_up.copy_(torch.randn(adapter.gate_up.shape, generator=generator) * config.hidden_size**-0.5)
            adapter.out_norm.copy_(final_norm_H)
        return adapter

    def fuse(self, deep_KRH: Tensor) -> Tensor:
        """(K, H) in float32: what is known of one position, after the residual stream there after the inner layers and the last one."""
        return (self._normed(deep_KRH, self.deep_norms).flatten(1) @ self.fuse_deep.T).float()

    def forward(self, x_KH: Tensor, known_KH: Tensor) -> Tensor:
        """The state z (K, H) in float32, after the residual stream at the exit and what is known, or the state, one position before."""
        both_K2H = torch.cat((self._normed(x_KH, self.exit_norm), self._normed(known_KH, self.known_norm)), dim=-1)
        u_KH = (both_K2H @ self.mix.T).float()
        gate_KF, up_KF = (self._normed(u_KH, self.norm) @ self.gate_up.T).chunk(2, dim=-1)
        return u_KH + ((functional.silu(gate_KF) * up_KF) @ self.down.T).float()

    def read(self, z_KH: Tensor) -> Tensor:
        """(K, H) in float32: what the head's rows are multiplied with."""
        return self._normed(z_KH, self.out_norm)

    def _normed(self, x_KH: Tensor, weight_H: Tensor) -> Tensor:
        return functional.rms_norm(x_KH.float(), (self.config.hidden_size,), None, self.config.rms_norm_eps) * weight_H.float()

    def save(self, folder: Path, dtype: torch.dtype = torch.bfloat16) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        state = {name: value.to(dtype) if value.is_floating_point() else value.to(torch.int32) for name, value in self.state_dict().items()}
        save_file({name: value.contiguous() for name, value in state.items()}, folder / WEIGHTS)
        (folder / CONFIG).write_text(json.dumps(asdict(self.config), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> ExitAdapter:
        """Raises OSError where a file is missing, ValueError where one is not of this kind."""
        try:
            raw = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
            points = tuple(ExitPoint(**point) for point in raw["points"])
            config = ExitAdapterConfig(**{**raw, "inner_layers": tuple(raw["inner_layers"]), "calibration": tuple(raw["calibration"]), "points": points})
            if len(config.calibration) != NUM_TENTHS:
                raise ValueError(f"calibration has {len(config.calibration)} shares, not {NUM_TENTHS}")
            if [point.least_prob for point in points] != sorted((point.least_prob for point in points), reverse=True):
                raise ValueError("a bolder point has a lower threshold")
            state = load_file(folder / WEIGHTS)
            adapter = cls(config, state["shortlist_S"])
            adapter.load_state_dict({name: value.float() if value.is_floating_point() else value.long() for name, value in state.items()})
        except (TypeError, KeyError, RuntimeError) as error:
            raise ValueError(f"{folder} does not hold an exit adapter: {error}") from error
        return adapter.eval().requires_grad_(False)
