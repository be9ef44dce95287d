"""The recipe of the exit adapter that Attune ships: the base answers questions, adapters at several layers learn what it says, the one that pays most stays."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file

from gpu_backend.config import EngineConfig, load_catalog
from gpu_backend.data.judge_rows import TextRow
from gpu_backend.data.splits import Part
from gpu_backend.decoding.early_exit.draft_length import DraftLengths, expected_speed_up
from gpu_backend.decoding.early_exit.drafter import AdapterDrafter
from gpu_backend.engine.pass_costs import measure_round_costs
from gpu_backend.models.causal_lm.exit_adapter import ExitAdapter
from gpu_backend.models.causal_lm.model import CausalLM
from gpu_backend.models.causal_lm.open_model import open_model
from gpu_backend.models.causal_lm.texts import load_texts
from gpu_backend.models.revision import revision_of
from gpu_backend.recipes.judge_row import RecipeError, needed, print_step
from gpu_backend.train.exit_model import ExitModel, exit_loss, exit_shares, shortlist_of
from gpu_backend.train.exit_states import answer_states
from gpu_backend.train.loop import Run, Training, train
from gpu_backend.train.own_answers import answer_questions, read_questions

BASE = "smollm2-135m-instruct"
DATA = "DIR, the folder of data sets (docs/training.md says what lies where)"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitRecipe:
    """`exit_layers`, which ascend, are tried side by side; all of them read `inner_layers` one position before. Answers are the base's own, greedy, of at most
    `max_tokens`; adapters learn to guess `num_ahead` tokens in a row."""

    base: str = BASE
    exit_layers: tuple[int, ...]
    inner_layers: tuple[int, ...]
    num_ahead: int
    width: int
    shortlist_size: int
    num_answers: int
    num_held_out: int
    max_tokens: int
    training: Training


RECIPES: dict[str, ExitRecipe] = {
    "early_exit_debug": ExitRecipe(
        exit_layers=(6, 12),
        inner_layers=(15,),
        num_ahead=2,
        width=64,
        shortlist_size=512,
        num_answers=32,
        num_held_out=8,
        max_tokens=24,
        training=Training(learning_rate=1e-3, rows_per_step=16, rows_per_microbatch=16, num_epochs=2),
    ),
    "early_exit_embedded": ExitRecipe(
        exit_layers=(1,),
        inner_layers=(15, 25),
        num_ahead=2,
        width=1152,
        shortlist_size=8192,
        num_answers=7000,
        num_held_out=200,
        max_tokens=128,
        training=Training(learning_rate=2e-3, rows_per_step=32, rows_per_microbatch=16, num_epochs=4),
    ),
}


@dataclass(frozen=True, slots=True)
class Candidate:
    """`speed_up` against plain decoding at batch 1, by costs measured on this machine and the acceptance, which is the mean of the held-out shares of right
    guesses: first ones, second ones, and so on."""

    exit_layer: int
    shares: list[float]
    acceptance: float
    num_drafts: int
    speed_up: float


def run_exit_adapter(name: str, options: argparse.Namespace) -> None:
    """Write the adapter to `out`/exit_adapter, and what became of the other layers to `out`/run.json."""
    recipe, seed = RECIPES[name], options.seed
    needed(options, "data", DATA)
    spec = next((spec for spec in load_catalog(options.catalog) if spec.id == recipe.base), None)
    if spec is None or not spec.folder(options.models_dir).exists():
        raise RecipeError(f"{recipe.base} is not there: run `npm start` once, it fetches it")
    started = time.monotonic()
    folder = spec.folder(options.models_dir)
    base = open_model(folder, options.models_dir, EngineConfig())
    learned = _answers(base, folder, recipe, options, "train", recipe.num_answers)
    held_out = _answers(base, folder, recipe, options, "validation", recipe.num_held_out)
    _, _, end_ids = load_texts(folder)
    shortlist_S = shortlist_of(learned, recipe.shortlist_size, end_ids)
    revision = revision_of(spec, folder)
    layers = (recipe.exit_layers, recipe.inner_layers)
    model = ExitModel.fresh(base, *layers, shortlist_S, width=recipe.width, num_ahead=recipe.num_ahead, base_revision=revision, seed=seed)
    states = answer_states(base, learned, *layers, _telling("states"))
    training = replace(recipe.training, seed=seed)
    train(model, Run(rows=states, loss_of=exit_loss, training=training, folder=options.out / "training", report=print_step), Accelerator())
    all_shares = exit_shares(model, answer_states(base, held_out, *layers))
    candidates = [_judge(base, adapter, shares.by_number) for adapter, shares in zip(model.exits, all_shares, strict=True)]
    best = max(range(len(candidates)), key=lambda index: candidates[index].speed_up)
    chosen = model.exits[best]
    calibration = tuple(round(share, 4) for share in all_shares[best].by_tenth)
    chosen.config = replace(chosen.config, acceptance=candidates[best].acceptance, calibration=calibration)
    chosen.save(options.out / "exit_adapter")
    summary = {
        "recipe": name,
        "seed": seed,
        "answers": len(learned),
        "tokens": sum(row.stop - row.start for row in learned),
        "held_out_tokens": sum(row.stop - row.start for row in held_out),
        "candidates": [asdict(candidate) for candidate in candidates],
        "minutes": round((time.monotonic() - started) / 60, 1),
    }
    (options.out / "run.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(summary, indent=2))


def _judge(base: CausalLM, adapter: ExitAdapter, shares: tuple[float, ...]) -> Candidate:
    acceptance = sum(shares) / len(shares)
    lengths = DraftLengths(measure_round_costs(base, AdapterDrafter(base, adapter)), prior=acceptance)
    num_drafts = lengths.best(1, acceptance)
    speed_up = round(expected_speed_up(lengths.costs, acceptance, num_drafts), 3)
    return Candidate(adapter.config.exit_layer, [round(share, 4) for share in shares], round(acceptance, 4), num_drafts, speed_up)


def _answers(base: CausalLM, folder: Path, recipe: ExitRecipe, options: argparse.Namespace, part: Part, num: int) -> list[TextRow]:
    """From `out` where an earlier run left them, since they take the longest."""
    path = options.out / f"answers-{part}.safetensors"
    if not path.exists():
        questions = read_questions(options.data, part, num, options.seed)
        rows = answer_questions(base, folder, questions, max_tokens=recipe.max_tokens, progress=_telling("answers"))
        path.parent.mkdir(parents=True, exist_ok=True)
        lengths = torch.tensor([[row.start, row.stop] for row in rows])
        save_file({"ids": torch.tensor([token for row in rows for token in row.ids], dtype=torch.int32), "start_stop": lengths}, path)
    stored = load_file(path)
    rows, first = [], 0
    for start, stop in stored["start_stop"].tolist():
        rows.append(TextRow(tuple(stored["ids"][first : first + stop].tolist()), start, stop))
        first += stop
    return rows


def _telling(what: str) -> Callable[[int, int], None]:
    def tell(num_done: int, num: int) -> None:
        if num_done % 100 == 0 or num_done == num:
            print(f"{what}: {num_done} of {num}", flush=True)

    return tell
