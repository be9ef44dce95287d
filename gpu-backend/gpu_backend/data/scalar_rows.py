"""Preference pairs as rows for a scalar reward model: the question with each of its two answers, as one conversation each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gpu_backend.chat_template import ChatTemplate
from gpu_backend.data.branched import branched_length
from gpu_backend.data.preference_pairs import PreferencePair


@dataclass(frozen=True, slots=True)
class ScalarRow:
    """The conversations of one pair, ending with the better answer and with the other one."""

    chosen: tuple[int, ...]
    rejected: tuple[int, ...]

    @property
    def prompts(self) -> list[tuple[int, ...]]:
        return [self.chosen, self.rejected]

    @property
    def num_tokens(self) -> int:
        return branched_length(self.prompts)


def scalar_rows(template: ChatTemplate, pairs: Sequence[PreferencePair], *, max_tokens: int) -> list[ScalarRow]:
    """One row per pair. Of a longer conversation the last `max_tokens` are kept."""
    return [ScalarRow(*(_conversation(template, pair, answer)[-max_tokens:] for answer in (pair.chosen, pair.rejected))) for pair in pairs]


def _conversation(template: ChatTemplate, pair: PreferencePair, answer: str) -> tuple[int, ...]:
    messages = [*pair.messages, {"role": "assistant", "content": answer}]
    return tuple(template.encode(messages, add_generation_prompt=False))
