"""A model's own greedy answers to people's questions: what it decodes when it serves, and so what its early exits must be right about."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

from gpu_backend.chat_template import ChatTemplate
from gpu_backend.config import ConfigError, EngineConfig
from gpu_backend.core import Delta, Failed, FinishReason, Request, SamplingParams
from gpu_backend.data.judge_rows import TextRow
from gpu_backend.data.preference_pairs import read_gsm8k_train
from gpu_backend.data.splits import Part
from gpu_backend.data.training_part import hh_parts
from gpu_backend.engine.engine import Engine
from gpu_backend.engine.local_engine import engine_around
from gpu_backend.models.causal_lm.model import CausalLM
from gpu_backend.models.causal_lm.texts import load_texts

_MAX_AT_ONCE = 16
_PLACES: dict[Part, range] = {"train": range(8), "validation": range(8, 9), "test": range(9, 10)}
Prompt = tuple[int, ...]


def read_questions(data: Path, part: Part, num: int, seed: int) -> list[str]:
    """First turns of HH's helpful conversations and GSM8K problems, half and half as far as they last, in random order, none twice. The problems are dealt
    out to the parts by their alphabetical place. Raises ValueError where there are not so many."""
    rng = random.Random(seed)
    helpful = sorted({pair.question[0][1] for pair in hh_parts(data)[part] if pair.criterion == "helpfulness"})
    problems = sorted({problem for problem, _ in read_gsm8k_train(data)})
    dealt = [problem for index, problem in enumerate(problems) if index % 10 in _PLACES[part]]
    rng.shuffle(helpful)
    rng.shuffle(dealt)
    chosen = helpful[: max(num - num // 2, num - len(dealt))] + dealt[: max(num // 2, num - len(helpful))]
    if len(chosen) < num:
        raise ValueError(f"there are {len(chosen)} questions in the {part} part, and {num} are asked for")
    chosen = chosen[:num]
    rng.shuffle(chosen)
    return chosen


def prompts_of(template: ChatTemplate, questions: Sequence[str]) -> list[Prompt]:
    return [tuple(template.encode([{"role": "user", "content": question}])) for question in questions]


def answer_questions(
    base: CausalLM, folder: Path, questions: Sequence[str], *, max_tokens: int, progress: Callable[[int, int], None] = lambda _done, _num: None
) -> list[TextRow]:
    """`own_answers` of the model in `folder`, opened as `base`. Raises ConfigError for one that cannot chat."""
    tokenizer, template, end_ids = load_texts(folder)
    if template is None or not end_ids:
        raise ConfigError(f"{folder.name} has no chat template or no end token, so it answers no questions")
    engine = engine_around(base, tokenizer, None, EngineConfig(), end_ids)
    return own_answers(engine, prompts_of(template, questions), max_tokens=max_tokens, end_id=end_ids[0], progress=progress)


def own_answers(
    engine: Engine, prompts: Sequence[Prompt], *, max_tokens: int, end_id: int, progress: Callable[[int, int], None] = lambda _done, _num: None
) -> list[TextRow]:
    """Greedy answers of the served engine, in the order of the prompts, with the end token where the model ended by itself. Raises RuntimeError."""
    answers: list[list[int]] = [[] for _ in prompts]
    waiting, live = list(range(len(prompts)))[::-1], 0
    task = SamplingParams(max_tokens=max_tokens, temperature=0.0, logprobs=True)
    while waiting or live:
        while waiting and live < _MAX_AT_ONCE:
            number = waiting.pop()
            engine.add(Request(id=str(number), prompt_ids=prompts[number], task=task))
            live += 1
        for name, event in engine.step():
            if isinstance(event, Failed):
                raise RuntimeError(f"the engine could not answer question {name}: {event.message}")
            if isinstance(event, Delta):
                answers[int(name)] += [token.token_id for token in event.logprobs]
                if event.finish_reason is not None:
                    live -= 1
                    answers[int(name)] += [end_id] if event.finish_reason is FinishReason.STOP else []
                    progress(len(prompts) - len(waiting) - live, len(prompts))
    return [TextRow((*prompt, *answer), len(prompt), len(prompt) + len(answer)) for prompt, answer in zip(prompts, answers, strict=True)]
