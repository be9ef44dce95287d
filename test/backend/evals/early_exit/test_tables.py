"""Tables from readings that are made by hand: layers, oracles, gates, and operating points whose risk is known."""

from __future__ import annotations

import json

import numpy as np
import pytest

from gpu_backend.decoding.early_exit.gates import GATES
from gpu_backend.evals.early_exit.analyse import cost_models, source_tables
from gpu_backend.evals.early_exit.cost import CostModel
from gpu_backend.evals.early_exit.layer_readings import Readings, read_layers
from gpu_backend.evals.early_exit.layer_tables import OTHER, WORD_REST, WORD_START, kinds_of, layer_rows, oracle_rows
from gpu_backend.evals.early_exit.operating_points import LEVELS, gate_rows, point_rows
from gpu_backend.evals.early_exit.report import ExitReport
from gpu_backend.train.own_answers import own_answers
from support import byte_tokenizer, tiny_engine, tiny_model

# A head that costs half a layer, so that leaving early can pay.
COST = dict.fromkeys(GATES, CostModel(num_layers=4, head=0.5, gate_head=0.5))


def readings_of(tokens_LP: np.ndarray, score_LP: np.ndarray, text_P: np.ndarray) -> Readings:
    return Readings(tokens_LP=tokens_LP, attention_tokens_LP=tokens_LP, scores=dict.fromkeys(GATES, score_LP), text_P=text_P)


def made_readings(num_texts: int, num_wrong: int, seed: int = 0) -> Readings:
    """50 positions a text; layer 2 is sure of all, and wrong at `num_wrong` of each text; layer 1 knows nothing, layer 3 is right and unsure."""
    num = 50 * num_texts
    tokens_LP = np.ones((4, num), dtype=np.int64)
    tokens_LP[0] = 0
    wrong_P = np.concatenate([np.random.default_rng(seed + text).permutation(50) < num_wrong for text in range(num_texts)])
    tokens_LP[1, wrong_P] = 2
    score_LP = np.repeat([[0.01], [0.99], [0.5], [1.0]], num, axis=1)
    return readings_of(tokens_LP, score_LP, np.repeat(np.arange(num_texts), 50))


def test_kinds_of_tokens() -> None:
    tokenizer = byte_tokenizer(merges=(("Ġ", "a"), ("Ġ", "1")))
    kinds = kinds_of(tokenizer, np.array([256, ord("b"), ord("."), 257, ord(" "), 258]))
    assert {kind: is_kind.tolist() for kind, is_kind in kinds.items()} == {
        WORD_START: [True, False, False, False, False, False],
        WORD_REST: [False, True, False, False, False, False],
        OTHER: [False, False, True, True, True, True],
    }


def test_rows_of_layers_and_oracles_by_hand() -> None:
    tokens_LP = np.array([[5, 1, 3], [7, 1, 2], [9, 1, 3], [9, 1, 2]])
    readings = readings_of(tokens_LP, np.full((4, 3), 0.25), np.zeros(3, dtype=np.int64))
    kinds = {WORD_START: np.array([True, False, True]), WORD_REST: np.array([False, True, False]), OTHER: np.zeros(3, dtype=bool)}
    rows = layer_rows(readings, kinds, COST["max_prob"])
    assert [row.agreement for row in rows] == pytest.approx([1 / 3, 2 / 3, 2 / 3, 1])
    assert [row.by_kind[WORD_START] for row in rows] == pytest.approx([0, 0.5, 0.5, 1])
    assert (rows[-1].lossless_speed_up, rows[-1].num_drafts) == (1.0, 0)
    first, stable, twice, *_ = oracle_rows(readings, kinds)
    assert first.mean_layer == pytest.approx((3 + 1 + 2) / 3) and first.agreement == 1.0
    assert stable.mean_layer == pytest.approx((3 + 1 + 4) / 3) and stable.agreement == 1.0
    assert twice.mean_layer == pytest.approx((4 + 2 + 4) / 3)
    assert np.isnan(first.by_kind[OTHER])


def test_a_gate_at_every_layer_stays_within_its_level() -> None:
    rows = {(row.gate, row.level): row for row in gate_rows(made_readings(30, num_wrong=1), COST)}
    # 2 % are wrong at layer 2, so only the levels from 2 % on may leave there.
    assert rows["margin", 0.01].mean_layer == 4.0 and rows["margin", 0.01].speed_up < 1
    assert rows["margin", 0.02].mean_layer == 2.0 and rows["margin", 0.02].disagreement == pytest.approx(0.02)
    # Layers 1 and 2 are checked: 2 layers and 2 calls of the head, against 4 and one.
    assert rows["margin", 0.02].speed_up == pytest.approx(4.5 / 3.0)


def test_points_hold_on_texts_that_chose_nothing() -> None:
    rows = {row.level: row for row in point_rows(made_readings(1200, num_wrong=1), COST, seed=0)}
    assert list(rows) == list(LEVELS)
    for level in (0.005, 0.01, 0.02):
        # At 2 % wrong, layer 2 cannot be shown to hold; layer 3 is always right.
        assert rows[level].layer == 3 and rows[level].disagreement == 0.0
        assert rows[level].speed_up == pytest.approx(4.5 / 3.5)
    assert rows[0.05].layer == 2 and rows[0.05].exit_share == 1.0
    assert rows[0.05].disagreement == pytest.approx(0.02) and rows[0.05].num_positions == 336 * 50
    assert rows[0.05].speed_up == pytest.approx(4.5 / 2.5)


def test_no_point_where_nothing_is_faster_or_nothing_can_be_shown() -> None:
    slow = dict.fromkeys(GATES, CostModel(num_layers=4, head=8.0, gate_head=30.0))
    assert all(row.gate is None and row.speed_up == 1.0 for row in point_rows(made_readings(900, num_wrong=1), slow, seed=0))
    # Three texts prove no risk below 5 %.
    assert all(row.gate is None for row in point_rows(made_readings(9, num_wrong=0), COST, seed=0))


def test_a_report_of_a_tiny_model_from_its_own_answers() -> None:
    model = tiny_model(num_hidden_layers=4)
    prompts = [(1, 2, 3), (9, 8), (40, 41, 42, 43), (7,)] * 3
    texts = own_answers(tiny_engine(model, end_token_ids=(96,)), prompts, max_tokens=6, end_id=96)
    assert [text.ids[: text.start] for text in texts] == prompts
    assert all(1 <= text.stop - text.start <= 6 and text.stop == len(text.ids) for text in texts)
    assert texts[0].ids == texts[4].ids
    readings = read_layers(model, texts)
    # They are greedy answers of the very model that reads them.
    assert readings.tokens_LP[-1].tolist() == [token for text in texts for token in text.ids[text.start :]]
    cost = cost_models(model.config)
    tables = source_tables("own answers", len(texts), readings, byte_tokenizer(), cost)
    report = ExitReport(settings={"seed": 0}, sources=[tables], points=point_rows(readings, cost, seed=0))
    assert json.loads(json.dumps(report.to_json()))["sources"][0]["layers"][-1]["agreement"] == 1.0
    assert report.to_markdown().count("\n| ") > 20
