"""`npm run eval -- reward`: measures the shipped reward model, or another adapter, on public and own sets, beside its controls."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from gpu_backend.chat_template import ChatTemplate
from gpu_backend.config import DEFAULT_CATALOG, ConfigError, find_judge
from gpu_backend.data.preference_pairs import PreferencePair
from gpu_backend.data.scalar_rows import scalar_rows
from gpu_backend.data.training_part import hh_training_pairs
from gpu_backend.engine.local_engine import open_engine
from gpu_backend.evals.engine_judge import Margins, Progress, judge_pairs, read_adapter
from gpu_backend.evals.preference_sets import PreferenceSet, file_set, hh_part, public_sets
from gpu_backend.evals.reward_controls import HashedWords, longer_wins
from gpu_backend.evals.reward_measures import ControlMeasures, measure_control, measure_set
from gpu_backend.evals.reward_report import RewardReport
from gpu_backend.evals.statistics import NUM_BINS, NUM_RESAMPLES, Array, fit_temperature
from gpu_backend.models.reward.judge import Judge
from gpu_backend.tokenizer import Tokenizer

Control = Callable[[PreferenceSet], Array]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, help="the folder of data sets (docs/training.md); without it only --pairs is measured")
    parser.add_argument("--pairs", type=Path, help="a file of {prompt, chosen, rejected, subset} lines, measured too")
    parser.add_argument("--model", default="gram-smollm2-135m", help="a row of the catalog with the capability reward")
    parser.add_argument("--adapter", type=Path, help="the folder of another adapter for that row")
    parser.add_argument("--scalar", type=Path, help="the folder that the recipe reward_scalar wrote: a control")
    parser.add_argument("--limit", type=int, help="at most this many pairs of each set, a seeded sample")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--models-dir", type=Path, required=True, help="where `npm start` keeps the models")
    parser.add_argument("--catalog", type=Path, default=DEFAULT_CATALOG)
    parser.add_argument("--out", type=Path, default=Path(), help="where reliability.png and reward.md go; the current folder by default")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")


def run(options: argparse.Namespace) -> None:
    """Raises ConfigError, OSError or ValueError where something that was asked for is missing."""
    if options.limit is not None and options.limit < 10:
        raise ConfigError("--limit must be at least 10")
    sets = _sets(options)
    spec, base = find_judge(options.catalog, options.model)
    base_folder = base.folder(options.models_dir)
    assert spec.judge is not None
    tokenizer = Tokenizer.from_file(base_folder / "tokenizer.json")
    judge = Judge.from_folder(spec.folder(options.models_dir), tokenizer, spec.judge)
    folder = options.adapter or (spec.folder(options.models_dir) if spec.source == "adapter" else None)
    adapter = None if folder is None else read_adapter(folder)
    engine = open_engine(base_folder, options.models_dir, adapter)

    def judged(label: str, adapter_id: str | None, pairs: Sequence[PreferencePair]) -> Margins:
        return judge_pairs(engine, judge, adapter_id, pairs, _progress(label))

    own_id = None if adapter is None else adapter.id
    temperature, fitted_on = spec.judge.temperature, "the row's"
    if options.data is not None:
        validation = hh_part(options.data, "validation", options.limit, options.seed)
        temperature = fit_temperature(judged("HH validation", own_id, validation).margins_P2)
        fitted_on = f"fitted on {len(validation)} pairs of HH's validation part"
    controls: dict[str, Control] = {"longer answer": lambda one: longer_wins(one.pairs)[:, None]}
    if own_id is not None:
        controls["untouched base"] = lambda one: judged(f"{one.name}, base", None, one.pairs).margins_P2
    if options.data is not None:
        words = HashedWords(hh_training_pairs(options.data, options.seed), options.seed)
        controls["hashed words"] = lambda one: words.margins(one.pairs)[:, None]
    if options.scalar is not None:
        controls["scalar head"] = _scalar_control(base_folder, tokenizer, options.scalar, spec.judge.max_tokens)
    measured, compared = [], []
    num_tokens = num_cached = 0
    started = time.monotonic()
    for one in sets:
        margins = judged(one.name, own_id, one.pairs)
        num_tokens, num_cached = num_tokens + margins.num_tokens, num_cached + margins.num_cached_tokens
        measured.append(measure_set(one, margins.margins_P2, margins.num_cut, temperature, options.seed))
        compared += _compare(one, margins.margins_P2, controls, options.seed)
    settings = {
        "model": spec.id,
        "adapter": own_id,
        "seed": options.seed,
        "limit": options.limit,
        "temperature": f"{temperature:.4f} ({fitted_on})",
        "average": "probability",
        "calibration_bins": f"{NUM_BINS} of equally many pairs, by confidence",
        "bootstrap": f"{NUM_RESAMPLES} resamples of conversations",
        "prompt_tokens": num_tokens,
        "reused_tokens": num_cached,
        "minutes": round((time.monotonic() - started) / 60, 1),
    }
    _write(RewardReport(settings=settings, sets=measured, controls=compared), options)


def _sets(options: argparse.Namespace) -> list[PreferenceSet]:
    sets = [] if options.data is None else public_sets(options.data, options.limit, options.seed)
    if options.pairs is not None:
        sets.append(file_set(options.pairs, options.limit, options.seed))
    if not sets:
        raise ConfigError("give --data DIR, --pairs FILE or both")
    return sets


def _scalar_control(base_folder: Path, tokenizer: Tokenizer, folder: Path, max_tokens: int) -> Control:
    # Imported here: only this control needs the training packages.
    from gpu_backend.train.scalar_model import ScalarModel
    from gpu_backend.train.train_scalar_reward import scalar_margins

    template = ChatTemplate.from_folder(base_folder, tokenizer)
    if template is None:
        raise ConfigError(f"{base_folder} has no chat template, which the scalar model reads conversations with")
    model = ScalarModel.load(base_folder, folder)

    def margins(one: PreferenceSet) -> Array:
        # One at a time: attention of several long conversations together leaves the cache and takes twice as long.
        margins_P = scalar_margins(model, scalar_rows(template, one.pairs, max_tokens=max_tokens), rows_per_microbatch=1)
        result: Array = margins_P.double().numpy()[:, None]
        return result

    return margins


def _compare(one: PreferenceSet, margins_P2: Array, controls: dict[str, Control], seed: int) -> list[ControlMeasures]:
    found = []
    for name, control in controls.items():
        control_margins = control(one)
        assert np.isfinite(control_margins).all(), name
        found.append(measure_control(name, one, margins_P2, control_margins, seed))
    return found


def _write(report: RewardReport, options: argparse.Namespace) -> None:
    options.out.mkdir(parents=True, exist_ok=True)
    report.draw_reliability(options.out / "reliability.png")
    (options.out / "reward.md").write_text(report.to_markdown(), encoding="utf-8")
    print(report.to_markdown())
    if options.json:
        print(json.dumps(report.to_json()))


def _progress(label: str) -> Progress:
    """A line on standard error now and then."""
    last = time.monotonic()

    def tell(num_done: int, num: int) -> None:
        nonlocal last
        if num_done == num or time.monotonic() - last > 10:
            last = time.monotonic()
            print(f"{label}: {num_done} of {num} pairs", file=sys.stderr, flush=True)

    return tell
