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
from harness.examples import exchanges, read_examples
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
NUM_EARLIER = 8
BATCHES = (1, 4, 8, 16, 32)
TRIED_PROMPTS = 48
Prompts = list[tuple[int, ...]]


def main() -> None:
    options = _parse()
    settings = settings_of(
        model=options.model,
        answers=options.answers,
        questions="words: 24 tokens, answers of 48, all at random; conversation: 8 exchanges and a question of examples/, answers to it and to others",
        rounds=options.rounds,
        taken="best round, all ways in turns; nothing of a round is in the cache of the next",
        timed="from the texts to the ranking; one by one and transformers: from the token ids to the label scores",
        transformers_batch=f"the fastest of {', '.join(map(str, BATCHES))} for {TRIED_PROMPTS} of a question's prompts, then all of them in every round",
        dtypes="attune 4 and 8 bits as in the file with the adapter beside them; transformers the bfloat16 copy with the adapter merged",
    )
    specs = {spec.id: spec for spec in load_catalog(options.catalog)}
    reusing, computing = (load_judge(specs, options.model, reuses_prefixes=reuses) for reuses in (True, False))
    theirs = _merged(specs, options.model)
    rows: list[dict[str, Any]] = []
    ratios: dict[str, float] = {}
    for workload, body_of in {"words": _of_words, "conversation": _of_conversation}.items():
        seconds: dict[str, list[float]] = {}
        winners: list[set[int | None]] = []
        batch = _best_batch(theirs, _prompts(computing, body_of(computing, options.model, options.answers, 0)), computing)
        rival = f"transformers {batch}"
        for index in range(options.rounds):
            body = body_of(reusing, options.model, options.answers, index)
            asked, salt = _prompts(computing, body), f"{workload}/{index}"
            ways: dict[str, Callable[[], int | None]] = {
                "attune batched": lambda body=body, salt=salt: _rank(reusing, body, "round_robin", f"all/{salt}").best_index,
                "attune adaptive": lambda body=body, salt=salt: _rank(reusing, body, "adaptive", f"some/{salt}").best_index,
                "attune one by one": lambda asked=asked: _one_by_one(computing, asked),
                rival: lambda asked=asked, batch=batch: _by_transformers(theirs, asked, batch, computing),
            }
            wait_until_quiet()
            best: dict[str, int | None] = {}
            for name, way in ways.items():
                started = time.perf_counter()
                best[name] = way()
                seconds.setdefault(name, []).append(time.perf_counter() - started)
            winners.append({best["attune batched"], best["attune adaptive"]})
        rows += _rows(workload, seconds, options.answers * (options.answers - 1) // 2)
        ratios |= {f"{workload}_{name}": ratio for name, ratio in _ratios(seconds, rival, winners).items()}
    report("rank", settings, rows, ratios)


def _rows(workload: str, seconds: dict[str, list[float]], num_pairs: int) -> list[dict[str, Any]]:
    return [
        {
            "question": workload,
            "way": name,
            "seconds": round(min(values), 3),
            "rounds": [round(value, 3) for value in values],
            "pairs_per_second": round(num_pairs / min(values), 1),
        }
        for name, values in seconds.items()
    ]


def _ratios(seconds: dict[str, list[float]], rival: str, winners: list[set[int | None]]) -> dict[str, float]:
    batched, one_by_one = min(seconds["attune batched"]), min(seconds["attune one by one"])
    return {
        "batched_vs_one_by_one": round(one_by_one / batched, 2),
        "adaptive_vs_one_by_one": round(one_by_one / min(seconds["attune adaptive"]), 2),
        "batched_vs_transformers": round(min(seconds[rival]) / batched, 2),
        "same_winner": round(sum(len(found) == 1 for found in winners) / len(winners), 2),
    }


def _of_words(model: ServedModel, name: str, num_answers: int, index: int) -> RankRequest:
    """A short question, of which nothing is worth keeping, and answers without a sense: the least that reuse can do, and no best answer."""
    source = random.Random(f"rank/{index}")
    question, *answers = (
        model.tokenizer.decode(prompts.words(model.tokenizer, source, num_tokens)) for num_tokens in (QUESTION_TOKENS, *[ANSWER_TOKENS] * num_answers)
    )
    return RankRequest(model=name, input=[Turn(role="user", content=question)], responses=answers)


def _of_conversation(_model: ServedModel, name: str, num_answers: int, index: int) -> RankRequest:
    """The last question of a conversation, with a good answer to it among answers to other questions, good and bad ones."""
    examples = read_examples()
    source = random.Random(f"rank/{index}")
    source.shuffle(examples)
    asked, *others = examples
    turns = [Turn(role=role, content=text) for role, text in exchanges(others[:NUM_EARLIER])]
    wrong = [other[kind] for other in others[NUM_EARLIER:] for kind in ("chosen", "rejected")]
    answers = [asked["chosen"], *source.sample(wrong, num_answers - 1)]
    source.shuffle(answers)
    return RankRequest(model=name, input=[*turns, Turn(role="user", content=asked["prompt"])], responses=answers)


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


def _best_batch(theirs: Any, asked: Prompts, model: ServedModel) -> int:
    """Over prompts of all lengths; each size is tried after a first pass, which prepares its shapes."""
    tried = random.Random("rank").sample(asked, min(TRIED_PROMPTS, len(asked)))

    def seconds_in(batch: int) -> float:
        _by_transformers(theirs, tried, batch, model)
        started = time.perf_counter()
        _by_transformers(theirs, tried, batch, model)
        return time.perf_counter() - started

    wait_until_quiet()
    return min(BATCHES, key=seconds_in)


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
