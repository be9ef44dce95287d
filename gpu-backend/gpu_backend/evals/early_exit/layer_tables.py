"""What readings say about layers and the oracle: agreement by layer and kind of token, and the layers at which tokens could have left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gpu_backend.evals.early_exit.cost import CostModel
from gpu_backend.evals.early_exit.exit_layers import Bools, Ints, first_layers, patience_layers, stable_layers
from gpu_backend.evals.early_exit.layer_readings import Readings
from gpu_backend.tokenizer import Tokenizer

WORD_START, WORD_REST, OTHER = "first of a word", "rest of a word", "other"
KINDS = (WORD_START, WORD_REST, OTHER)
PATIENCES = (2, 3, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRow:
    """Shares of positions where this layer's token is the last layer's. `lossless_speed_up` is what drafts from here would bring, memory-bound, with the
    whole head and `num_drafts` at a time; 1 and 0 where they would not pay."""

    layer: int
    agreement: float
    attention_agreement: float
    by_kind: dict[str, float]
    max_prob: float
    lossless_speed_up: float
    num_drafts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OracleRow:
    """Mean exit layers of a rule, over all positions and by kind of the final token; `agreement` with the last layer."""

    rule: str
    mean_layer: float
    by_kind: dict[str, float]
    agreement: float


def kinds_of(tokenizer: Tokenizer, tokens_P: Ints) -> dict[str, Bools]:
    """Which positions bring the first piece of a word (it begins with a space), a later piece (letters without one), or anything else."""
    kind_of: dict[int, str] = {token: _kind(tokenizer.token_text(token)) for token in set(tokens_P.tolist())}
    names_P = np.array([kind_of[token] for token in tokens_P.tolist()])
    return {kind: names_P == kind for kind in KINDS}


def layer_rows(readings: Readings, kinds: dict[str, Bools], cost: CostModel) -> list[LayerRow]:
    agrees_LP = readings.agrees_LP
    attention_LP = readings.attention_tokens_LP == readings.tokens_LP[-1]
    rows = []
    for index, agrees_P in enumerate(agrees_LP):
        speed_up, num_drafts = cost.best_lossless(float(agrees_P.mean()), index + 1, cost.head) if index + 1 < len(agrees_LP) else (1.0, 0)
        rows.append(
            LayerRow(
                layer=index + 1,
                agreement=float(agrees_P.mean()),
                attention_agreement=float(attention_LP[index].mean()),
                by_kind=_means(agrees_P.astype(np.float64), kinds),
                max_prob=float(readings.scores["max_prob"][index].mean()),
                lossless_speed_up=speed_up,
                num_drafts=num_drafts,
            )
        )
    return rows


def oracle_rows(readings: Readings, kinds: dict[str, Bools]) -> list[OracleRow]:
    """The two oracles, and leaving where the token has been the same for a few layers, which is a gate without a threshold."""
    tokens_LP = readings.tokens_LP
    rules = {"first layer that agrees": first_layers(tokens_LP), "first layer that keeps agreeing": stable_layers(tokens_LP)}
    rules |= {f"same token in {patience} layers": patience_layers(tokens_LP, patience) for patience in PATIENCES}
    return [
        OracleRow(
            rule=rule,
            mean_layer=float(layers_P.mean()),
            by_kind=_means(layers_P.astype(np.float64), kinds),
            agreement=float(readings.agrees_LP[layers_P - 1, np.arange(len(layers_P))].mean()),
        )
        for rule, layers_P in rules.items()
    ]


def shares_of_kinds(kinds: dict[str, Bools]) -> dict[str, float]:
    return {kind: float(is_kind_P.mean()) for kind, is_kind_P in kinds.items()}


def _means(values_P: Sequence[float] | np.ndarray, kinds: dict[str, Bools]) -> dict[str, float]:
    """NaN where there is no position of a kind."""
    values = np.asarray(values_P)
    return {kind: float(values[is_kind_P].mean()) if is_kind_P.any() else float("nan") for kind, is_kind_P in kinds.items()}


def _kind(text: str) -> str:
    if text[:1].isspace() and text.strip()[:1].isalpha():
        return WORD_START
    return WORD_REST if text[:1].isalpha() else OTHER
