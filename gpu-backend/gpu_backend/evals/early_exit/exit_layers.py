"""At which layer a token could have left: the paper's oracle, and the stricter layer from which the prediction no longer changes.

Layers are numbered 1..L; row l-1 of an array is layer l. Shapes: L layers, P positions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


def first_layers(tokens_LP: Ints) -> Ints:
    """(P,): the first layer whose token is that of the last one. It may be a lucky hit that later layers leave again."""
    result: Ints = (tokens_LP == tokens_LP[-1]).argmax(axis=0) + 1
    return result


def stable_layers(tokens_LP: Ints) -> Ints:
    """(P,): the first layer from which all tokens are that of the last one; what a gate without hindsight could at best rely on."""
    agrees_LP = tokens_LP == tokens_LP[-1]
    result: Ints = len(tokens_LP) - np.logical_and.accumulate(agrees_LP[::-1], axis=0).sum(axis=0) + 1
    return result


def patience_layers(tokens_LP: Ints, patience: int) -> Ints:
    """(P,): the first layer whose token was also that of the `patience` - 1 layers before it; the last layer where there is none."""
    num_layers = len(tokens_LP)
    equal_LP = np.ones_like(tokens_LP, dtype=bool)
    for back in range(1, patience):
        equal_LP[back:] &= tokens_LP[back:] == tokens_LP[:-back]
        equal_LP[:back] = False
    equal_LP[num_layers - 1] = True
    result: Ints = equal_LP.argmax(axis=0) + 1
    return result


def gated_layers(scores_LP: Floats, threshold: float, checked_L: Bools) -> Ints:
    """(P,): the first checked layer whose score reaches the threshold, else the last layer."""
    leaves_LP = (scores_LP >= threshold) & checked_L[:, None]
    leaves_LP[-1] = True
    result: Ints = leaves_LP.argmax(axis=0) + 1
    return result
