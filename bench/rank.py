"""Ranking 16 answers by a judge: all 240 orders batched with prefix reuse, one by one, by tournament, and by `transformers` with the same weights."""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from harness import prompts
from harness.engines import checked, load_judge, models_dir
from harness.quiet import wait_until_quiet
from harness.report import report, settings_of
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from gpu_backend.adapters.content import CONFIG, WEIGHTS
from gpu_backend.adapters.peft_config import parse_lora_config
from gpu_backend.config import DEFAULT_CATALOG, ModelSpec, load_catalog
from gpu_backend.core import LabelScores, Request
from gpu_backend.engine.async_engine import AsyncEngine
from gpu_backend.server.label_scores import Caller, reading
from gpu_backend.server.rewards import verdicts
from gpu_backend.server.rewards.comparisons import Comparisons
from gpu_backend.server.rewards.schemas import RankedAnswers, RankRequest, Turn
from gpu_backend.server.served_model import ServedModel

QUESTION_TOKENS, ANSWER_TOKENS = 24, 48
BATCHES = (1, 4, 8, 16, 32)
Prompts = list[tuple[int, ...]]


def main() -> None:
    options = _parse()
    settings = settings_of(
        model=options.model,
        answers=options.answers,
        answer_tokens=ANSWER_TOKENS,
        rounds=options.rounds,
        taken="best round, all ways in turns; nothing of a round is in the cache of the next",
        timed="from the texts to the ranking; one by one and transformers: from the token ids to the label scores",
        dtypes="attune 4 and 8 bits as in the file with the adapter beside them; transformers the bfloat16 copy with the adapter merged",
    )
    specs = {spec.id: spec for spec in load_catalog(options.catalog)}
    reusing, computing = (load_judge(specs, options.model, reuses_prefixes=reuses) for reuses in (True, False))
    theirs = _merged(specs, options.model)
    seconds: dict[str, list[float]] = {}
    winners: dict[str, set[int]] = {}
    for index in range(options.rounds):
        body = _body(reusing, options.model, options.answers, index)
        asked = _prompts(computing, body)
        ways: dict[str, Callable[[], int | None]] = {
            "attune batched": lambda body=body, index=index: _rank(reusing, body, "round_robin", f"all/{index}").best_index,
            "attune adaptive": lambda body=body, index=index: _rank(reusing, body, "adaptive", f"some/{index}").best_index,
            "attune one by one": lambda asked=asked: _one_by_one(computing, asked),
            **{f"transformers {batch}": lambda asked=asked, batch=batch: _by_transformers(theirs, asked, batch, computing) for batch in BATCHES},
        }
        wait_until_quiet()
        best: dict[str, int | None] = {}
        for name, way in ways.items():
            started = time.perf_counter()
            best[name] = way()
            seconds.setdefault(name, []).append(time.perf_counter() - started)
        winners[str(index)] = {winner for winner in best.values() if winner is not None}
    num_pairs = options.answers * (options.answers - 1) // 2
    rows: list[dict[str, Any]] = [
        {"way": name, "seconds": round(min(values), 3), "rounds": [round(value, 3) for value in values], "pairs_per_second": round(num_pairs / min(values), 1)}
        for name, values in seconds.items()
    ]
    batched, rival = min(seconds["attune batched"]), min(min(seconds[f"transformers {batch}"]) for batch in BATCHES)
    ratios = {
        "batched_vs_one_by_one": round(min(seconds["attune one by one"]) / batched, 2),
        "adaptive_vs_one_by_one": round(min(seconds["attune one by one"]) / min(seconds["attune adaptive"]), 2),
        "batched_vs_transformers": round(rival / batched, 2),
        "same_winner": sum(len(found) == 1 for found in winners.values()) / len(winners),
    }
    report("rank", settings, rows, ratios)


def _body(model: ServedModel, name: str, num_answers: int, index: int) -> RankRequest:
    source = random.Random(f"rank/{index}")
    question, *answers = (
        model.tokenizer.decode(prompts.words(model.tokenizer, source, num_tokens)) for num_tokens in (QUESTION_TOKENS, *[ANSWER_TOKENS] * num_answers)
    )
    return RankRequest(model=name, input=[Turn(role="user", content=question)], responses=answers)


def _prompts(model: ServedModel, body: RankRequest) -> Prompts:
    assert model.judge is not None
    question = [turn.model_dump() for turn in body.input]
    return [tuple(model.judge.encode(question, a, b)) for a in body.responses for b in body.responses if a != b]


def _rank(model: ServedModel, body: RankRequest, method: str, salt: str) -> RankedAnswers:
    """As the server does it."""

    async def run() -> RankedAnswers:
        engine = AsyncEngine(model.engine)
        caller = Caller(deadline_s=None, tenant="", priority=0, cache_salt=salt.encode(), adapter=model.adapter)
        assert model.judge is not None
        async with reading(engine, caller) as reader:
            named = {f"responses[{index}]": text for index, text in enumerate(body.responses)}
            comparisons = await Comparisons.prepare(model.judge, reader, body, named)
            ranked = await verdicts.rank(comparisons, reader, body.model_copy(update={"method": method}))
        engine.close()
        return ranked

    return asyncio.run(run())


def _one_by_one(model: ServedModel, asked: Prompts) -> None:
    assert model.judge is not None
    for ids in asked:
        model.engine.add(Request(id="one", prompt_ids=ids, task=LabelScores(model.judge.label_ids), adapter=model.adapter))
        while model.engine.has_work:
            checked(model.engine.step())


@torch.inference_mode()
def _by_transformers(theirs: Any, asked: Prompts, batch: int, model: ServedModel) -> None:
    """Batches of prompts of like length, padded on the left."""
    assert model.judge is not None
    ordered = sorted(asked, key=len)
    for start in range(0, len(ordered), batch):
        part = ordered[start : start + batch]
        width = max(map(len, part))
        input_ids = torch.tensor([[0] * (width - len(ids)) + list(ids) for ids in part])
        mask = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in part])
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        logits = theirs(input_ids=input_ids, attention_mask=mask, position_ids=positions, logits_to_keep=1, use_cache=False).logits
        logits[:, -1].float().log_softmax(-1)[:, list(model.judge.label_ids)].tolist()


def _merged(specs: dict[str, ModelSpec], name: str) -> Any:
    """The base in bfloat16 with the adapter's update added to its weights."""
    spec = specs[name]
    base = spec if spec.base is None else specs[spec.base]
    theirs = AutoModelForCausalLM.from_pretrained(base.folder(models_dir()), dtype=torch.bfloat16).eval()
    if spec.base is not None:
        _merge(theirs, spec.folder(models_dir()))
    return theirs


def _merge(theirs: Any, folder: Path) -> None:
    config, tensors = parse_lora_config((folder / CONFIG).read_bytes()), load_file(folder / WEIGHTS)
    weights = dict(theirs.named_parameters())
    for name in (name for name in tensors if name.endswith(".lora_A.weight")):
        module = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
        update = config.scale_of(module) * (tensors[name.replace("lora_A", "lora_B")].float() @ tensors[name].float())
        weight = weights[f"{module}.weight"]
        with torch.no_grad():
            weight.copy_(weight.float() + update)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="npm run bench -- rank")
    parser.add_argument("--model", default="gram-smollm2-135m")
    parser.add_argument("--catalog", type=Path, default=DEFAULT_CATALOG)
    parser.add_argument("--answers", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
