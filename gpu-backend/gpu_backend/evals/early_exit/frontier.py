"""`npm run early-exit -- frontier`: what is gained within a risk where sure tokens leave unverified, against drafts that are all verified."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from gpu_backend.config import DEFAULT_CATALOG, ConfigError, EngineConfig
from gpu_backend.data.judge_rows import TextRow
from gpu_backend.decoding.early_exit.draft_length import DraftLengths, RoundCosts
from gpu_backend.decoding.early_exit.drafter import AdapterDrafter
from gpu_backend.engine.draft_round import VERIFY_ALL
from gpu_backend.engine.pass_costs import measure_round_costs
from gpu_backend.evals.early_exit.chat_row import chat_row
from gpu_backend.evals.early_exit.guess_runs import Taken, TextGuesses, drafted
from gpu_backend.evals.early_exit.learn_then_test import fixed_sequence
from gpu_backend.evals.early_exit.operating_points import LEVELS, THRESHOLDS
from gpu_backend.evals.early_exit.progress import telling
from gpu_backend.evals.statistics import Interval, bootstrap_interval
from gpu_backend.evals.tables import markdown_table
from gpu_backend.models.causal_lm.exit_adapter import ExitAdapter, ExitPoint
from gpu_backend.models.causal_lm.model import CausalLM
from gpu_backend.models.causal_lm.open_model import open_model
from gpu_backend.train.exit_model import ExitModel
from gpu_backend.train.exit_states import answer_states
from gpu_backend.train.own_answers import answer_questions, read_questions

_DELTA = 0.05
# A point that gains less against lossless drafts is not worth its risk.
_LEAST_GAIN = 1.02
_ANSWERS_PER_PASS = 16
_HEADER = ("risk", "least probability", "leave early", "other token than full depth", "speed-up, gated", "speed-up, lossless")


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontierRow:
    """Thresholds by Learn-then-Test on half of the texts; all other figures from the other half. `threshold` is None where none could be shown to hold."""

    level: float
    threshold: float | None
    early_share: float
    disagreement: float
    disagreement_interval: Interval
    gated_speed_up: float
    lossless_speed_up: float

    @property
    def is_offered(self) -> bool:
        return self.threshold is not None and self.gated_speed_up >= _LEAST_GAIN * self.lossless_speed_up


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, help="the folder of data sets (docs/training.md)")
    parser.add_argument("--model", default="smollm2-135m-instruct", help="a row of the catalog with the capability chat")
    parser.add_argument("--exit-adapter", type=Path, help="the folder of one; the model's own by default")
    parser.add_argument("--answers", type=int, default=1200, help="questions of the test part that the model answers")
    parser.add_argument("--max-tokens", type=int, default=128, help="of an answer")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--models-dir", type=Path, required=True, help="where `npm start` keeps the models")
    parser.add_argument("--catalog", type=Path, default=DEFAULT_CATALOG)
    parser.add_argument("--out", type=Path, help="a folder for the adapter with the operating points that are faster than lossless drafts")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")


def run(options: argparse.Namespace) -> None:
    """Raises ConfigError, OSError or ValueError where something that was asked for is missing."""
    spec = chat_row(options.catalog, options.model)
    adapter_folder = options.exit_adapter or spec.exit_adapter_folder
    if adapter_folder is None or options.answers < 2:
        raise ConfigError(f"{options.model} has no exit adapter: give --exit-adapter DIR; and at least 2 --answers")
    adapter, folder = ExitAdapter.load(adapter_folder), spec.folder(options.models_dir)
    base = open_model(folder, options.models_dir, EngineConfig())
    questions = read_questions(options.data, "test", options.answers, options.seed)
    rows = answer_questions(base, folder, questions, max_tokens=options.max_tokens, progress=telling("answers"))
    lengths = DraftLengths(measure_round_costs(base, AdapterDrafter(base, adapter)), prior=adapter.config.acceptance)
    model = ExitModel(base, [adapter], num_ahead=lengths.most)
    texts = [text for first in range(0, len(rows), _ANSWERS_PER_PASS) for text in _guesses(model, base, rows[first : first + _ANSWERS_PER_PASS])]
    table = frontier_rows(texts, lengths, adapter.config.calibration, options.seed)
    num_tokens = sum(text.num_positions for text in texts)
    settings = {"model": options.model, "exit_layer": adapter.config.exit_layer, "answers": len(texts), "tokens": num_tokens, "seed": options.seed}
    costs = {"round_costs_ms": repr(lengths.costs)}
    print(", ".join(f"{name} {value}" for name, value in {**settings, **costs}.items()) + "\n\n" + markdown_table(_HEADER, map(_cells, table)))
    if options.out is not None:
        points = tuple(ExitPoint(max_risk=row.level, least_prob=round(row.threshold, 6)) for row in table if row.threshold is not None and row.is_offered)
        adapter.config = replace(adapter.config, points=points)
        adapter.save(options.out)
    if options.json:
        print(json.dumps({"name": "early-exit-frontier", "settings": {**settings, **costs}, "rows": [asdict(row) for row in table]}))


def frontier_rows(texts: Sequence[TextGuesses], lengths: DraftLengths, calibration: tuple[float, ...], seed: int) -> list[FrontierRow]:
    """One row for each level of risk: the mean over texts of the share of tokens that leave early and are others than full depth's."""
    order = np.random.default_rng(seed).permutation(len(texts))
    chosen_from, tested = ([texts[index] for index in half] for half in np.array_split(order, 2))
    rule = lengths.choose([lengths.prior])
    lossless_speed_up = _speed_up(_sum([drafted(text, lengths.costs, calibration, rule) for text in tested]), lengths.costs)
    losses = [(float(it), np.array([_loss(drafted(text, lengths.costs, calibration, rule, it)) for text in chosen_from])) for it in THRESHOLDS]
    rows = []
    for level in LEVELS:
        threshold = fixed_sequence(losses, level, _DELTA)
        each = [drafted(text, lengths.costs, calibration, rule, VERIFY_ALL if threshold is None else threshold) for text in tested]
        taken = _sum(each)
        rows.append(
            FrontierRow(
                level=level,
                threshold=threshold,
                early_share=taken.num_early / taken.num_tokens,
                disagreement=taken.num_wrong / taken.num_tokens,
                disagreement_interval=bootstrap_interval(np.array([_loss(one) for one in each]), [str(number) for number in range(len(each))], seed),
                gated_speed_up=_speed_up(taken, lengths.costs),
                lossless_speed_up=lossless_speed_up,
            )
        )
    return rows


def _guesses(model: ExitModel, base: CausalLM, rows: Sequence[TextRow]) -> list[TextGuesses]:
    """Answers of one token have nothing to guess."""
    config = model.exits[0].config
    states = answer_states(base, rows, [config.exit_layer], config.inner_layers)
    if not states:
        return []
    lengths = [state.num_tokens for state in states]
    with torch.no_grad():
        (ahead,) = model(states)
    right_AN, prob_AN = torch.zeros(len(ahead), sum(lengths), dtype=torch.bool), torch.zeros(len(ahead), sum(lengths))
    offsets_N = torch.cat([torch.arange(length) for length in lengths])
    for number, guesses in enumerate(ahead):
        right_AN[number, offsets_N >= number] = guesses.is_right_K
        prob_AN[number, offsets_N >= number] = guesses.prob_K
    parts = zip(torch.split(right_AN, lengths, dim=1), torch.split(prob_AN.double(), lengths, dim=1), strict=True)
    return [TextGuesses(right_AP.numpy(), prob_AP.numpy()) for right_AP, prob_AP in parts]


def _sum(parts: Sequence[Taken]) -> Taken:
    total = Taken()
    for part in parts:
        total.add(part)
    return total


def _loss(taken: Taken) -> float:
    return taken.num_wrong / taken.num_tokens


def _speed_up(taken: Taken, costs: RoundCosts) -> float:
    return taken.num_tokens * costs.round(1, 0) / taken.cost


def _cells(row: FrontierRow) -> tuple[str, ...]:
    low, high = row.disagreement_interval
    threshold = "none holds" if row.threshold is None else f"{row.threshold:.4f}"
    shares = (f"{row.early_share:.1%}", f"{row.disagreement:.2%} [{low:.2%}, {high:.2%}]")
    return f"{row.level:.1%}", threshold, *shares, f"{row.gated_speed_up:.2f}", f"{row.lossless_speed_up:.2f}"
