"""The texts that layers are read on: the model's own greedy answers to people's questions, which is what it decodes when it serves, and running prose."""

from __future__ import annotations

import gzip
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gpu_backend.chat_template import ChatTemplate
from gpu_backend.core import Delta, Failed, FinishReason, Request, SamplingParams
from gpu_backend.data.preference_pairs import read_gsm8k_train, read_hh_rlhf
from gpu_backend.engine.engine import Engine
from gpu_backend.tokenizer import Tokenizer

_MAX_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Text:
    """Token ids; those from `start` on are predicted and looked at."""

    ids: tuple[int, ...]
    start: int
    source: str

    @property
    def num_positions(self) -> int:
        return len(self.ids) - self.start


@dataclass(frozen=True, slots=True)
class Question:
    text: str
    source: str


def read_questions(data: Path, num: int, seed: int) -> list[Question]:
    """First turns of HH's helpful conversations and GSM8K problems, half and half, in random order, none twice."""
    rng = random.Random(seed)
    helpful = sorted({pair.question[0][1] for pair in read_hh_rlhf(data) if pair.criterion == "helpfulness"})
    problems = sorted({problem for problem, _ in read_gsm8k_train(data)})
    chosen = [Question(text, "hh") for text in rng.sample(helpful, num - num // 2)] + [Question(text, "gsm8k") for text in rng.sample(problems, num // 2)]
    rng.shuffle(chosen)
    return chosen


def prompts_of(template: ChatTemplate, questions: Sequence[Question]) -> list[tuple[int, ...]]:
    return [tuple(template.encode([{"role": "user", "content": question.text}])) for question in questions]


def own_answers(engine: Engine, prompts: Sequence[tuple[int, ...]], sources: Sequence[str], *, max_tokens: int, end_id: int) -> list[Text]:
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
    return [Text((*prompt, *answer), len(prompt), source) for prompt, answer, source in zip(prompts, answers, sources, strict=True)]


def prose(path: Path, tokenizer: Tokenizer, num: int, num_tokens: int, seed: int) -> list[Text]:
    """Stretches of one plain text file, each read from its own first token. Raises ValueError when the file is too short."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        ids = tokenizer.encode_text(file.read())
    starts = range(0, len(ids) - num_tokens + 1, num_tokens)
    if len(starts) < num:
        raise ValueError(f"{path.name} holds {len(starts)} stretches of {num_tokens} tokens, and {num} are asked for")
    return [Text(tuple(ids[start : start + num_tokens]), 1, path.name.split(".")[0]) for start in sorted(random.Random(seed).sample(starts, num))]
