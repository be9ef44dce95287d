"""What an adapter updates (LoRA, Hu et al. 2021, arXiv 2106.09685): the linear layers of a decoder layer, and the update of one projection in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

Site = Literal["qkv", "output", "gate_up", "down"]
# The linear layers of a decoder layer, and the projections that each fuses, in the order of its output columns.
PROJECTIONS: dict[Site, tuple[str, ...]] = {
    "qkv": ("q_proj", "k_proj", "v_proj"),
    "output": ("o_proj",),
    "gate_up": ("gate_proj", "up_proj"),
    "down": ("down_proj",),
}


@dataclass(frozen=True, slots=True)
class LowRank:
    """The update of one projection: A (rank, in) and B (out, rank), which enters multiplied by `scale`."""

    a_RI: Tensor
    b_OR: Tensor
    scale: float
