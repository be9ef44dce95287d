"""Which tokens top_k and top_p leave over, exactly, without sorting the vocabulary: what cannot belong to them is dropped first. On the host, in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Ids = NDArray[np.int64]
# Leaves room for rounding in the bound below; any value under 1 is exact, smaller ones only drop less.
_MARGIN = 0.999
_GOOD_ENOUGH = 0.6
_CHUNK = 128


def keep_best(weights_V: NDArray[np.float32], top_k: int, top_p: float, total: float) -> tuple[Floats, Ids]:
    """The best tokens within top_k (0 means no limit) and within the smallest set that reaches top_p of their sum, best first, equals by their id.

    Weights are probabilities times any factor; `total` is their sum. -> weights and ids.
    """
    size = len(weights_V)
    ids = _no_worse_than_kth(weights_V, top_k) if 0 < top_k < size else _reachable(weights_V, top_p, total)
    ids = _best_first(weights_V[ids], ids)[: top_k or size]
    kept = weights_V[ids]
    if top_p < 1.0:
        cumulative = kept.cumsum(dtype=np.float64)
        # The mass that top_p counts is the mass among the top_k, so that the two limits do not depend on their order of writing.
        goal = top_p * (float(cumulative[-1]) if 0 < top_k < size else total)
        num_kept = int(np.searchsorted(cumulative, goal)) + 1
        kept, ids = kept[:num_kept], ids[:num_kept]
    return kept, ids


def _best_first(kept: NDArray[np.float32], ids: Ids) -> Ids:
    """One sort of whole numbers is several times faster than a stable one by another array: the bits of floats that are not negative order like the floats."""
    return np.sort((-kept.view(np.int32).astype(np.int64) << 32) | ids) & 0xFFFF_FFFF


def _no_worse_than_kth(weights_V: NDArray[np.float32], k: int) -> Ids:
    """Ids of the k best tokens and of what equals the last of them. The kth best of the chunks' best is no better than the kth best of all."""
    best_C = weights_V[: len(weights_V) // _CHUNK * _CHUNK].reshape(-1, _CHUNK).max(axis=1)
    ids = np.flatnonzero(weights_V >= (_kth_best(best_C, k) if k <= len(best_C) else 0.0))
    kept = weights_V[ids]
    return ids[kept >= _kth_best(kept, k)]


def _kth_best(values: NDArray[np.float32], k: int) -> np.float32:
    kth: np.float32 = np.partition(values, len(values) - k)[len(values) - k]
    return kth


def _reachable(weights_V: NDArray[np.float32], top_p: float, total: float) -> Ids:
    """Ids of all tokens that may be in the nucleus, and few others.

    Of n tokens, one below (mass outside the nucleus) / n has less than that mass at and after it, so the nucleus ends before it. What is dropped this
    way counts as outside and makes the bound of the next round higher.
    """
    kept = weights_V
    ids: Ids | None = None
    dropped = 0.0
    while True:
        bound = _MARGIN * ((1 - top_p) * total - dropped) / len(kept)
        above = np.flatnonzero(kept >= np.float32(bound))
        is_enough = len(above) > _GOOD_ENOUGH * len(kept)
        kept = kept[above]
        ids = above if ids is None else ids[above]
        if is_enough:
            return ids
        dropped = total - float(kept.sum(dtype=np.float64))
