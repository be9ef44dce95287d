"""top_k and top_p without a sort of the vocabulary keep exactly what the plain full sort keeps, in the same order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gpu_backend.decoding.truncation import keep_best

Row = NDArray[np.float32]


def plain(weights_V: Row, top_k: int, top_p: float, total: float) -> list[int]:
    """The slow twin: sort everything, cut at top_k, go on while the mass before a token is below the goal."""
    ids = sorted(range(len(weights_V)), key=lambda token: (-weights_V[token], token))[: top_k or len(weights_V)]
    mass = [0.0]
    for token in ids:
        mass.append(mass[-1] + float(weights_V[token]))
    goal = top_p * (mass[-1] if 0 < top_k < len(weights_V) else total)
    return [token for token, before in zip(ids, mass[:-1], strict=True) if before < goal or before == 0 or top_p >= 1.0]


def rows(size: int) -> dict[str, Row]:
    source = np.random.default_rng(size)
    logits = {
        "random": source.normal(size=size) * 3,
        "nearly flat": source.normal(size=size) * 0.01,
        "flat": np.zeros(size),
        "peaked": source.normal(size=size) + 60.0 * (np.arange(size) == size // 2),
        "tied": source.integers(0, 4, size).astype(float),
        "two of equal weight, the rest nearly nothing": np.where(np.arange(size) % (size // 2) == 1, 0.0, -80.0),
        "half of it forbidden": np.where(np.arange(size) % 2 == 0, source.normal(size=size), -np.inf),
    }
    return {name: np.exp((values - values.max()).astype(np.float32)) for name, values in logits.items()}


@pytest.mark.parametrize("size", [97, 1000, 20_000])
@pytest.mark.parametrize(
    ("top_k", "top_p"), [(0, 0.01), (0, 0.5), (0, 0.9), (0, 0.999), (0, 0.99999999), (1, 1.0), (40, 1.0), (40, 0.9), (900, 0.3), (30_000, 0.9)]
)
def test_the_same_as_a_full_sort(size: int, top_k: int, top_p: float) -> None:
    for name, weights_V in rows(size).items():
        total = float(weights_V.sum(dtype=np.float64))
        kept, ids = keep_best(weights_V, top_k, top_p, total)
        assert ids.tolist() == plain(weights_V, top_k, top_p, total), name
        assert np.array_equal(kept, weights_V[ids])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=300), st.integers(0, 50), st.floats(1e-3, 1.0))
def test_the_same_as_a_full_sort_with_many_ties(levels: list[int], top_k: int, top_p: float) -> None:
    weights_V = np.exp(-np.array(levels, dtype=np.float32))
    total = float(weights_V.sum(dtype=np.float64))
    assert keep_best(weights_V, top_k, top_p, total)[1].tolist() == plain(weights_V, top_k, top_p, total)


def test_by_hand() -> None:
    """Of (4, 1, 2, 1) eighths, half is reached by the first alone; any more needs the 2, and past 6/8 the first of the two equals."""
    weights_V = np.array([4, 1, 2, 1], dtype=np.float32)
    assert [keep_best(weights_V, 0, top_p, 8.0)[1].tolist() for top_p in (0.5, 0.51, 0.75, 0.76, 0.9)] == [[0], [0, 2], [0, 2], [0, 2, 1], [0, 2, 1, 3]]
    assert keep_best(weights_V, 3, 1.0, 8.0)[1].tolist() == [0, 2, 1]


def test_few_tokens_are_left_to_sort(monkeypatch: pytest.MonkeyPatch) -> None:
    """Why it is fast: of 20,000 tokens with a long tail only a few more than the nucleus are sorted."""
    sizes: list[int] = []
    sort = np.sort
    monkeypatch.setattr(np, "sort", lambda values: sizes.append(len(values)) or sort(values))
    weights_V = rows(20_000)["random"]
    kept, _ = keep_best(weights_V, 0, 0.9, float(weights_V.sum(dtype=np.float64)))
    assert len(kept) <= sizes[0] < 3 * len(kept) < 10_000
