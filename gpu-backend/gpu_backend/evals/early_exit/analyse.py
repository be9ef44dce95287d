"""`npm run early-exit -- analyse`: the paper's analysis on one model, from texts to tables and a picture."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from gpu_backend.config import DEFAULT_CATALOG, ConfigError, EngineConfig
from gpu_backend.data.judge_rows import TextRow
from gpu_backend.decoding.early_exit.gates import GATES
from gpu_backend.evals.early_exit.chat_row import chat_row
from gpu_backend.evals.early_exit.cost import CostModel
from gpu_backend.evals.early_exit.layer_readings import Readings, read_layers
from gpu_backend.evals.early_exit.layer_tables import kinds_of, layer_rows, oracle_rows, shares_of_kinds
from gpu_backend.evals.early_exit.operating_points import gate_rows, point_rows
from gpu_backend.evals.early_exit.progress import telling
from gpu_backend.evals.early_exit.prose import prose
from gpu_backend.evals.early_exit.report import ExitReport, SourceTables
from gpu_backend.models.causal_lm.config import CausalLMConfig
from gpu_backend.models.causal_lm.model import CausalLM
from gpu_backend.models.causal_lm.open_model import open_model
from gpu_backend.models.causal_lm.texts import load_texts
from gpu_backend.models.causal_lm.weights import load_causal_lm
from gpu_backend.tokenizer import Tokenizer
from gpu_backend.train.own_answers import answer_questions, read_questions

_PROSE = "lm_text/wikitext2.valid.txt.gz"
_PROSE_TOKENS = 128


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, help="the folder of data sets (docs/training.md)")
    parser.add_argument("--model", default="smollm2-135m-instruct", help="a row of the catalog with the capability chat")
    parser.add_argument("--answers", type=int, default=100, help="questions that the model answers, for the tables of layers and gates")
    parser.add_argument("--points", type=int, default=1150, help="other questions, for operating points; to show that a small risk holds takes many")
    parser.add_argument("--prose", type=int, default=64, help=f"stretches of {_PROSE_TOKENS} tokens of {_PROSE}")
    parser.add_argument("--max-tokens", type=int, default=128, help="of an answer")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--models-dir", type=Path, required=True, help="where `npm start` keeps the models")
    parser.add_argument("--catalog", type=Path, default=DEFAULT_CATALOG)
    parser.add_argument("--out", type=Path, default=Path(), help="where early-exit.md and early-exit.png go; the current folder by default")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")


def run(options: argparse.Namespace) -> None:
    """Raises ConfigError, OSError or ValueError where something that was asked for is missing."""
    if options.answers < 1 or options.points < 9 or options.prose < 1 or options.max_tokens < 2:
        raise ConfigError("give at least 1 --answers, 9 --points, 1 --prose and 2 --max-tokens")
    folder = chat_row(options.catalog, options.model).folder(options.models_dir)
    tokenizer, _, _ = load_texts(folder)
    started = time.monotonic()
    questions = read_questions(options.data, "train", options.answers + options.points, options.seed)
    served = open_model(folder, options.models_dir, EngineConfig())
    answers = answer_questions(served, folder, questions, max_tokens=options.max_tokens, progress=telling("answers"))
    del served
    stretches = prose(options.data / _PROSE, tokenizer, options.prose, _PROSE_TOKENS, options.seed)
    # Float32 and torch operators: close calls between two tokens are then the model's own, not rounding's.
    model = load_causal_lm(folder, dtype=torch.float32, device=torch.device("cpu"))
    cost = cost_models(model.config)
    looked_at, calibrated = answers[: options.answers], answers[options.answers :]
    sources = [_tables_of(name, texts, model, tokenizer, cost) for name, texts in (("own answers", looked_at), ("prose", stretches))]
    first_layer = max(1, model.config.num_layers // 3)
    points = point_rows(read_layers(model, calibrated, telling("operating points"), first_layer=first_layer, with_attention=False), cost, options.seed)
    settings = {
        "model": options.model,
        "layers": model.config.num_layers,
        "head in layer units": f"{cost[GATES[0]].head:.2f}",
        "answers up to": f"{options.max_tokens} tokens",
        "operating points from": f"{len(calibrated)} other answers, layers from {first_layer} on",
        "seed": options.seed,
        "numbers": "float32",
        "minutes": round((time.monotonic() - started) / 60, 1),
    }
    _write(ExitReport(settings=settings, sources=sources, points=points), options)


def cost_models(config: CausalLMConfig) -> dict[str, CostModel]:
    """By gate. The head's cost in layer units is its number of weights over a layer's; the cosine calls no head."""
    attention = config.hidden_size * (2 * config.q_size + 2 * config.kv_size)
    head = config.vocab_size * config.hidden_size / (attention + 3 * config.hidden_size * config.intermediate_size)
    return {gate: CostModel(config.num_layers, head, 0.0 if gate == "cosine" else head) for gate in GATES}


def source_tables(name: str, num_texts: int, readings: Readings, tokenizer: Tokenizer, cost: dict[str, CostModel]) -> SourceTables:
    kinds = kinds_of(tokenizer, readings.tokens_LP[-1])
    return SourceTables(
        source=name,
        num_texts=num_texts,
        num_positions=len(readings.text_P),
        shares_of_kinds=shares_of_kinds(kinds),
        layers=layer_rows(readings, kinds, cost[GATES[0]]),
        oracles=oracle_rows(readings, kinds),
        gates=gate_rows(readings, cost),
    )


def _tables_of(name: str, texts: Sequence[TextRow], model: CausalLM, tokenizer: Tokenizer, cost: dict[str, CostModel]) -> SourceTables:
    return source_tables(name, len(texts), read_layers(model, texts, telling(name)), tokenizer, cost)


def _write(report: ExitReport, options: argparse.Namespace) -> None:
    options.out.mkdir(parents=True, exist_ok=True)
    report.draw(options.out / "early-exit.png")
    (options.out / "early-exit.md").write_text(report.to_markdown(), encoding="utf-8")
    print(report.to_markdown())
    if options.json:
        print(json.dumps(report.to_json()))
