"""`npm run early-exit -- judge`: fits a label exit to a judge, calibrates it, and measures it on other sets of pairs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from gpu_backend.config import DEFAULT_CATALOG, ConfigError, EngineConfig, find_judge
from gpu_backend.data.preference_pairs import PreferencePair
from gpu_backend.data.training_part import hh_training_pairs
from gpu_backend.decoding.early_exit.label_exit import LabelExit, LabelExitConfig, LabelPoint
from gpu_backend.engine.local_engine import engine_around
from gpu_backend.evals.early_exit.label_fit import Reading, calibrate, choose_layer, fit_confidence, fit_reading, gated
from gpu_backend.evals.early_exit.label_readings import LabelReadings, read_labels
from gpu_backend.evals.early_exit.progress import telling
from gpu_backend.evals.engine_judge import read_adapter
from gpu_backend.evals.preference_sets import hh_part, public_sets, sample
from gpu_backend.evals.statistics import Interval, wilson_interval
from gpu_backend.evals.tables import markdown_table
from gpu_backend.models.causal_lm.open_model import open_model
from gpu_backend.models.causal_lm.texts import load_texts
from gpu_backend.models.revision import judge_revision, revision_of
from gpu_backend.models.reward.judge import Judge

# Of the training pairs, where the layer is chosen.
_HELD_OUT = 0.2
_HEADER = ("set", "pairs", "risk", "leave early", "layers saved", "other verdict, both orders", "other verdict, one order", "probability moves by")


@dataclass(frozen=True, slots=True, kw_only=True)
class DepthRow:
    """One operating point on one set. Shares of prompts, of layers, of pairs and of single orders."""

    set: str
    num_pairs: int
    level: float
    early_share: float
    layers_saved: float
    other_verdict: float
    other_verdict_interval: Interval
    other_verdict_alone: float
    mean_move: float


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, help="the folder of data sets (docs/training.md)")
    parser.add_argument("--model", default="gram-smollm2-135m", help="a row of the catalog with the capability reward")
    parser.add_argument("--pairs", type=int, default=2000, help="of HH's training part, to fit the exit on")
    parser.add_argument("--limit", type=int, default=300, help="at most this many pairs of each set that it is measured on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--models-dir", type=Path, required=True, help="where `npm start` keeps the models")
    parser.add_argument("--catalog", type=Path, default=DEFAULT_CATALOG)
    parser.add_argument("--out", type=Path, required=True, help="the folder that label_exit.json and label_exit.safetensors go to")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")


def run(options: argparse.Namespace) -> None:
    """Raises ConfigError, OSError or ValueError where something that was asked for is missing."""
    if options.pairs < 50 or options.limit < 10:
        raise ConfigError("--pairs must be at least 50, and --limit at least 10")
    spec, base = find_judge(options.catalog, options.model)
    assert spec.judge is not None
    folder, base_path = spec.folder(options.models_dir), base.folder(options.models_dir)
    config = EngineConfig()
    model = open_model(base_path, options.models_dir, config)
    tokenizer, _, end_ids = load_texts(base_path)
    judge = Judge.from_folder(folder, tokenizer, spec.judge)
    adapter = read_adapter(folder) if spec.source == "adapter" else None
    engine = engine_around(model, tokenizer, adapter, config, end_ids)
    num_layers, temperature = model.config.num_layers, spec.judge.temperature

    def read(label: str, pairs: Sequence[PreferencePair], layers: Sequence[int]) -> LabelReadings:
        return read_labels(engine, model, judge, None if adapter is None else adapter.id, pairs, layers, telling(label))

    # Conversations that begin alike stay together, so the second part is new to what the first one fits.
    training = sorted(sample(hh_training_pairs(options.data, options.seed), options.pairs, options.seed), key=lambda pair: pair.question[0][1])
    training_readings = read("HH, training part", training, range(num_layers // 2 - 1, num_layers - 2))
    cut = round((1 - _HELD_OUT) * len(training))
    layer, saved = choose_layer(training_readings.part(0, cut), training_readings.part(cut, len(training)), num_layers, temperature)
    reading = fit_reading(training_readings, layer)
    calibration = read("HH, validation part", hh_part(options.data, "validation", None, options.seed), [layer])
    thresholds = calibrate(reading, reading.thresholds(training_readings), calibration, temperature)
    slope, intercept = fit_confidence(reading.of(calibration), calibration.differences_N)
    revisions = [revision_of(base, base_path), *([] if adapter is None else [adapter.id[:12]])]
    points = tuple(LabelPoint(max_risk=level, threshold=threshold) for level, threshold in thresholds.items())
    exit_config = LabelExitConfig(judge=judge_revision(spec.judge, *revisions), layer=layer, slope=slope, intercept=intercept, points=points)
    LabelExit(exit_config, torch.from_numpy(reading.direction_H), reading.bias).save(options.out)
    rows = depth_rows("HH, validation part", calibration, reading, thresholds, num_layers, temperature)
    for one in public_sets(options.data, options.limit, options.seed):
        rows += depth_rows(one.name, read(one.name, one.pairs, [layer]), reading, thresholds, num_layers, temperature)
    settings = {"model": spec.id, "pairs": len(training), "seed": options.seed, "layer": layer, "layers": num_layers, "slope": slope, "intercept": intercept}
    shares = ", ".join(f"{number}: {share:.3f}" for number, share in saved.items())
    print(", ".join(f"{name} {value}" for name, value in settings.items()) + f"\n\nShare of all layers saved, by exit layer: {shares}\n")
    print(markdown_table(_HEADER, map(_cells, rows)))
    if options.json:
        print(json.dumps({"name": "early-exit-judge", "settings": {**settings, "saved_by_layer": saved}, "rows": [asdict(row) for row in rows]}))


def depth_rows(name: str, readings: LabelReadings, reading: Reading, thresholds: dict[float, float], num_layers: int, temperature: float) -> list[DepthRow]:
    """One row for each operating point."""
    rows = []
    read_N = reading.of(readings)
    for level, threshold in thresholds.items():
        outcome = gated(read_N, readings.differences_N, threshold, temperature)
        both_P, alone_P = outcome.losses_2P
        early = float(outcome.leaves_N.mean())
        rows.append(
            DepthRow(
                set=name,
                num_pairs=len(both_P),
                level=level,
                early_share=early,
                layers_saved=early * (num_layers - reading.layer) / num_layers,
                other_verdict=float(both_P.mean()),
                other_verdict_interval=wilson_interval(float(both_P.sum()), len(both_P)),
                other_verdict_alone=float(alone_P.mean()),
                mean_move=float(np.mean(outcome.moved_P)),
            )
        )
    return rows


def _cells(row: DepthRow) -> tuple[str, ...]:
    low, high = row.other_verdict_interval
    shares = (f"{row.early_share:.2f}", f"{row.layers_saved:.2f}", f"{row.other_verdict:.1%} [{low:.1%}, {high:.1%}]", f"{row.other_verdict_alone:.1%}")
    return row.set, str(row.num_pairs), f"{row.level:.0%}", *shares, f"{row.mean_move:.4f}"
