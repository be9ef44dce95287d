"""Judges pairs as the server does: label scores of the engine, both orders, many pairs at once, with prefix reuse and the adapter on the shared base."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gpu_backend.adapters.content import CONFIG, WEIGHTS, AdapterContent
from gpu_backend.core import Failed, Finished, LabelScores, LabelScoresReady, Request
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
    prompts: list[tuple[int, ...]] = []
    num_cut = 0
    for pair in pairs:
        fitted = judge.fit(pair.messages, (pair.chosen, pair.rejected))
        num_cut += fitted.question_is_cut or any(fitted.answer_is_cut)
        better, worse = fitted.answers
        prompts += [tuple(judge.encode(fitted.question, better, worse)), tuple(judge.encode(fitted.question, worse, better))]
    task, logits_N2 = LabelScores(judge.label_ids), np.empty((len(prompts), 2))
    num_added = num_done = num_tokens = num_cached_tokens = 0
    while num_done < len(prompts):
        while num_added < len(prompts) and num_added - num_done < _MAX_AT_ONCE:
            engine.add(Request(id=str(num_added), prompt_ids=prompts[num_added], task=task, adapter=adapter_id))
            num_added += 1
        for name, event in engine.step():
            if isinstance(event, Failed):
                raise RuntimeError(f"the engine could not judge pair {int(name) // 2}: {event.message}")
            if isinstance(event, LabelScoresReady):
                logits_N2[int(name)] = event.logits
            if isinstance(event, Finished):
                num_done += 1
                num_tokens += event.usage.prompt_tokens
                num_cached_tokens += event.usage.cached_tokens
        progress(num_done // 2, len(pairs))
    better_first_N = logits_N2[:, 0] - logits_N2[:, 1]
    return Margins(np.stack((better_first_N[0::2], -better_first_N[1::2]), axis=1), num_cut, num_tokens, num_cached_tokens)
