"""What label smoothing, stage 1 and the generative form of GRAM do for the shipped judge: small runs with and without each of them, on several seeds."""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator

from gpu_backend.chat_template import ChatTemplate
from gpu_backend.data.judge_rows import JudgedRow, TextRow, judged_pairs, judged_rows, text_rows
from gpu_backend.data.obvious_pairs import make_obvious_pairs
from gpu_backend.data.preference_pairs import PreferencePair, read_gsm8k_train
from gpu_backend.data.scalar_rows import ScalarRow, scalar_rows
from gpu_backend.data.training_part import hh_parts, hh_training_pairs
from gpu_backend.losses.generative_reward import winner_margins
from gpu_backend.recipes.judge_row import JudgeRow, RecipeError, needed, open_judge_row, print_step
from gpu_backend.recipes.reward import DATA, RECIPES, RewardRecipe
from gpu_backend.train.lora_model import LoraModel
from gpu_backend.train.scalar_model import ScalarModel
from gpu_backend.train.train_reward import judge_rows, train_reward
from gpu_backend.train.train_scalar_reward import scalar_margins, train_scalar_reward

NUM_SEEDS = 3
NUM_PAIRS = 600
NUM_HELD_OUT = 150


@dataclass(frozen=True, slots=True)
class Variant:
    smooths_labels: bool = True
    has_stage_1: bool = True


SCALAR = "scalar head"
VARIANTS = {"as shipped": Variant(), "no label smoothing": Variant(smooths_labels=False), "no stage 1": Variant(has_stage_1=False)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """Of held-out pairs, over both orders without a temperature. `log_loss` of a constant 1/2 is 0.693."""

    accuracy: float
    consistency: float
    log_loss: float


@dataclass(frozen=True, slots=True)
class Study:
    """What all runs have in common. `held_out` pairs are the same for all seeds."""

    recipe: RewardRecipe
    row: JudgeRow
    template: ChatTemplate
    accelerator: Accelerator
    held_out: dict[str, list[PreferencePair]]

    def generative(self, variant: Variant, texts: Sequence[TextRow], made: Sequence[PreferencePair], seed: int, folder: Path, own: Path) -> dict[str, Measures]:
        """Stage 1 runs once for all variants of a seed: the second finds the first one's checkpoint."""
        recipe, judge = self.recipe, self.row.judge
        model = LoraModel.from_folder(self.row.base_folder, recipe.lora, seed=seed)
        if variant.has_stage_1:
            train_reward(model, texts, judge.label_ids, replace(recipe.stage_1, seed=seed), folder / "stage_1", print_step, self.accelerator)
        loss = recipe.obvious.loss if variant.smooths_labels else replace(recipe.obvious.loss, epsilon=0.0)
        rows = self._judged(made)
        train_reward(model, rows, judge.label_ids, replace(recipe.obvious, seed=seed, loss=loss), own, print_step, self.accelerator)
        return {kind: measure(model, self._judged(pairs), judge.label_ids) for kind, pairs in self.held_out.items()}

    def scalar(self, made: Sequence[PreferencePair], seed: int, own: Path) -> dict[str, Measures]:
        """The discriminative model: as many pairs, steps and parameters, one answer at a time. Stage 1 generates, which a scalar head has no part in."""
        model = ScalarModel(LoraModel.from_folder(self.row.base_folder, self.recipe.lora, seed=seed))
        train_scalar_reward(model, self._conversations(made), replace(self.recipe.obvious, seed=seed), own, print_step, self.accelerator)
        return {kind: measure_scalar(model, self._conversations(pairs)) for kind, pairs in self.held_out.items()}

    def _judged(self, pairs: Sequence[PreferencePair]) -> list[JudgedRow]:
        return judged_rows(self.row.judge, pairs, max_tokens=self.recipe.max_tokens)

    def _conversations(self, pairs: Sequence[PreferencePair]) -> list[ScalarRow]:
        return scalar_rows(self.template, pairs, max_tokens=self.row.spec.max_tokens)


def run_study(options: argparse.Namespace) -> None:
    """Each variant with each seed: stage 1 on 160 pairs, then 600 pairs made by rule; and a scalar head on the same 600. Measured on made pairs and on
    people's, of conversations that no training saw. Tables and `study.json` go to `out`, where a study that was stopped goes on."""
    recipe = RECIPES["reward_embedded"]
    row = open_judge_row(recipe.judge, options)
    template = ChatTemplate.from_folder(row.base_folder, row.tokenizer)
    if template is None:
        raise RecipeError(f"{row.base_folder} has no chat template, which the scalar model reads conversations with")
    data = needed(options, "data", DATA)
    study = Study(recipe, row, template, Accelerator(mixed_precision="bf16"), held_out_pairs(row, data, recipe))
    found: dict[str, dict[str, list[Measures]]] = {}
    for seed in range(options.seed, options.seed + NUM_SEEDS):
        pairs, folder = hh_training_pairs(data, seed), options.out / f"seed-{seed}"
        texts = text_rows(row.judge, pairs, max_tokens=recipe.stage_1_max_tokens, seed=seed)[: recipe.stage_1_pairs]
        made = judged_pairs(row.judge, make_obvious_pairs(pairs, read_gsm8k_train(data), 2 * NUM_PAIRS, seed), max_tokens=recipe.obvious_max_tokens)[:NUM_PAIRS]
        runs: dict[str, Callable[[Path], dict[str, Measures]]] = {
            name: partial(study.generative, variant, texts, made, seed, folder) for name, variant in VARIANTS.items()
        }
        runs[SCALAR] = partial(study.scalar, made, seed)
        for name, run in runs.items():
            for kind, measures in known_or(run, folder / name.replace(" ", "_")).items():
                found.setdefault(kind, {}).setdefault(name, []).append(measures)
    (options.out / "study.json").write_text(json.dumps(_as_json(found), indent=2) + "\n", encoding="utf-8")
    print(table_of(found))


def known_or(run: Callable[[Path], dict[str, Measures]], folder: Path) -> dict[str, Measures]:
    """What a run with this folder found before, or finds now."""
    path = folder / "measures.json"
    if not path.exists():
        found = run(folder)
        path.write_text(json.dumps({kind: asdict(one) for kind, one in found.items()}, indent=2) + "\n", encoding="utf-8")
    return {kind: Measures(**one) for kind, one in json.loads(path.read_text(encoding="utf-8")).items()}


def held_out_pairs(row: JudgeRow, data: Path, recipe: RewardRecipe) -> dict[str, list[PreferencePair]]:
    """The same for all seeds: made from the validation part, and people's own verdicts there."""
    pairs = hh_parts(data)["validation"]
    made = make_obvious_pairs(pairs, read_gsm8k_train(data), 2 * NUM_HELD_OUT, seed=0)
    return {
        "made by rule": judged_pairs(row.judge, made, max_tokens=recipe.obvious_max_tokens)[:NUM_HELD_OUT],
        "people's": judged_pairs(row.judge, pairs[:: max(1, len(pairs) // (2 * NUM_HELD_OUT))], max_tokens=recipe.max_tokens)[:NUM_HELD_OUT],
    }


def measure(model: LoraModel, rows: Sequence[JudgedRow], label_ids: tuple[int, int]) -> Measures:
    margins_P2 = winner_margins(judge_rows(model, rows, label_ids)).double()
    probability_P = torch.sigmoid(margins_P2).mean(dim=1)
    return Measures(
        accuracy=(probability_P > 0.5).double().mean().item(),
        consistency=((margins_P2[:, 0] > 0) == (margins_P2[:, 1] > 0)).double().mean().item(),
        log_loss=-probability_P.log().mean().item(),
    )


def measure_scalar(model: ScalarModel, rows: Sequence[ScalarRow]) -> Measures:
    """It knows no order, so it always agrees with itself."""
    margins_P = scalar_margins(model, rows).double()
    return Measures(accuracy=(margins_P > 0).double().mean().item(), consistency=1.0, log_loss=-torch.nn.functional.logsigmoid(margins_P).mean().item())


def table_of(found: dict[str, dict[str, list[Measures]]]) -> str:
    """Means over seeds, and the mean difference to the shipped variant of the same seed with its 95 % interval (Student's t)."""
    header = ("pairs", "variant", "accuracy", "orders agree", "log-loss", "accuracy, less as shipped", "log-loss, less as shipped")
    lines: list[tuple[str, ...]] = [header, ("---",) * len(header)]
    for kind, by_variant in found.items():
        for name, measures in by_variant.items():
            means = (f"{statistics.fmean(column):.3f}" for column in _columns(measures))
            pairs = zip(_columns(measures), _columns(by_variant["as shipped"]), strict=True)
            less = ["" if name == "as shipped" else difference(column, base) for column, base in pairs]
            lines.append((kind, name, *means, less[0], less[2]))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _columns(measures: Sequence[Measures]) -> list[list[float]]:
    """Accuracy, consistency and log-loss by seed."""
    return [[one.accuracy for one in measures], [one.consistency for one in measures], [one.log_loss for one in measures]]


def difference(values: Sequence[float], base: Sequence[float]) -> str:
    """The mean of paired differences and its interval; for three seeds Student's t with two degrees of freedom."""
    differences = [value - other for value, other in zip(values, base, strict=True)]
    assert len(differences) == NUM_SEEDS
    half = 4.303 * statistics.stdev(differences) / math.sqrt(NUM_SEEDS)
    mean = statistics.fmean(differences)
    return f"{mean:+.3f} [{mean - half:+.3f}, {mean + half:+.3f}]"


def _as_json(found: dict[str, dict[str, list[Measures]]]) -> dict[str, dict[str, list[dict[str, float]]]]:
    return {kind: {name: [asdict(one) for one in measures] for name, measures in by_variant.items()} for kind, by_variant in found.items()}
