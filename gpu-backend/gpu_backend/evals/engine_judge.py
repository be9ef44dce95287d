"""Judges pairs as the server does: label scores of the engine, both orders, many pairs at once, with prefix reuse and the adapter on the shared base."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gpu_backend.adapters.content import CONFIG, WEIGHTS, AdapterContent
from gpu_backend.core import Event, Failed, Finished, LabelScores, LabelScoresReady, Request, Task
from gpu_backend.data.preference_pairs import PreferencePair
from gpu_backend.engine.engine import Engine
from gpu_backend.evals.statistics import Array
from gpu_backend.models.reward.judge import Judge

_MAX_AT_ONCE = 64
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Margins:
    """`margins_P2`: logit of the better answer's label less that of the other's, with the better answer in slot A and in slot B."""

    margins_P2: Array
    num_cut: int
    num_tokens: int
    num_cached_tokens: int


def read_adapter(folder: Path) -> AdapterContent:
    return AdapterContent((folder / WEIGHTS).read_bytes(), (folder / CONFIG).read_bytes())


def judge_pairs(engine: Engine, judge: Judge, adapter_id: str | None, pairs: Sequence[PreferencePair], progress: Progress) -> Margins:
    """Every pair in both orders; texts too long for the judge are cut as the server cuts them. Raises RuntimeError where the engine fails."""
    prompts, num_cut = pair_prompts(judge, pairs)
    logits_N2 = np.empty((len(prompts), 2))
    num_tokens = num_cached_tokens = 0
    for number, event in read_prompts(engine, prompts, LabelScores(judge.label_ids), adapter_id, progress):
        if isinstance(event, LabelScoresReady):
            logits_N2[number] = event.logits
        if isinstance(event, Finished):
            num_tokens += event.usage.prompt_tokens
            num_cached_tokens += event.usage.cached_tokens
    better_first_N = logits_N2[:, 0] - logits_N2[:, 1]
    return Margins(np.stack((better_first_N[0::2], -better_first_N[1::2]), axis=1), num_cut, num_tokens, num_cached_tokens)


def pair_prompts(judge: Judge, pairs: Sequence[PreferencePair]) -> tuple[list[tuple[int, ...]], int]:
    """Two for each pair: with the better answer in slot A, and in slot B; and how many pairs were cut."""
    judge.require_read(pair.messages for pair in pairs)
    prompts: list[tuple[int, ...]] = []
    num_cut = 0
    for pair in pairs:
        fitted = judge.fit(pair.messages, (pair.chosen, pair.rejected))
        num_cut += fitted.question_is_cut or any(fitted.answer_is_cut)
        better, worse = fitted.answers
        prompts += [tuple(judge.encode(fitted.question, better, worse)), tuple(judge.encode(fitted.question, worse, better))]
    return prompts, num_cut


def read_prompts(engine: Engine, prompts: Sequence[tuple[int, ...]], task: Task, adapter_id: str | None, progress: Progress) -> Iterator[tuple[int, Event]]:
    """All events, each with the number of its prompt. `progress` counts pairs. Raises RuntimeError where the engine fails."""
    num_added = num_done = 0
    while num_done < len(prompts):
        while num_added < len(prompts) and num_added - num_done < _MAX_AT_ONCE:
            engine.add(Request(id=str(num_added), prompt_ids=prompts[num_added], task=task, adapter=adapter_id))
            num_added += 1
        for name, event in engine.step():
            if isinstance(event, Failed):
                raise RuntimeError(f"the engine could not judge pair {int(name) // 2}: {event.message}")
            num_done += isinstance(event, Finished)
            yield int(name), event
        progress(num_done // 2, len(prompts) // 2)
