"""A question about an input to the token ids of one prompt, after which the model's next token is the key of an option.

The input stands first, through the model's own chat template, so that all questions share it as a prefix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gpu_backend.chat_template import ChatTemplate
from gpu_backend.server.decisions.schemas import Question
from gpu_backend.server.errors import BackendError
from gpu_backend.tokenizer import Tokenizer

Turn = dict[str, str]
# What a turn costs besides its text, about; `DecisionPrompts.encode` counts afterwards.
_FRAME_TOKENS = 8
_EMPTY: list[Turn] = [{"role": "user", "content": ""}]


@dataclass(frozen=True, slots=True)
class DecisionPrompts:
    """`keys` are texts of one token each, at least as many as the longest list of labels; `max_tokens` bounds a prompt."""

    template: ChatTemplate
    tokenizer: Tokenizer
    keys: Sequence[str]
    max_tokens: int

    def encode(self, given: Sequence[Turn], questions: Sequence[Question], *, may_cut: bool) -> tuple[list[tuple[int, ...]], bool]:
        """-> one prompt for each question, and whether the input lost its beginning. Raises context_length_exceeded with what is too long, and
        TemplateRefusedError."""
        frames = [len(self._prompt(_EMPTY, question)) for question in questions]
        for index, num_tokens in enumerate(frames):
            if num_tokens + _FRAME_TOKENS > self.max_tokens:
                raise self._too_long(f"questions[{index}]", num_tokens)
        turns, room = list(given), self.max_tokens - max(frames)
        ids = [self.tokenizer.encode_text(turn["content"]) for turn in turns]
        if (num_tokens := sum(map(len, ids))) > room and not may_cut:
            raise self._too_long("input", num_tokens + max(frames))
        while room > 0:
            turns = self._last(given, ids, room)
            prompts = [self._prompt(turns, question) for question in questions]
            num_over = max(map(len, prompts)) - self.max_tokens
            if num_over <= 0:
                return prompts, turns != list(given)
            if not may_cut:
                raise self._too_long("input", max(map(len, prompts)))
            room = min(room, sum(map(len, ids))) - num_over
        raise self._too_long("input", self.max_tokens + 1)

    def _prompt(self, turns: Sequence[Turn], question: Question) -> tuple[int, ...]:
        """Joined to the last turn where that is the user's: templates may ask for roles that alternate."""
        text = _ask(question, self.keys)
        if turns[-1]["role"] == "user":
            content = turns[-1]["content"]
            turns = [*turns[:-1], {"role": "user", "content": f"{content}\n\n{text}" if content else text}]
        else:
            turns = [*turns, {"role": "user", "content": text}]
        return tuple(self.template.encode(turns))

    def _last(self, given: Sequence[Turn], ids: Sequence[list[int]], room: int) -> list[Turn]:
        """The end of the input in at most this many tokens of text; the oldest turn that is kept loses its beginning."""
        kept: list[Turn] = []
        for turn, own in zip(reversed(given), reversed(ids), strict=True):
            if len(own) <= room:
                kept.append(turn)
                room -= len(own)
                continue
            if room > 0 or not kept:
                kept.append({**turn, "content": self.tokenizer.decode(own[len(own) - room :]).lstrip("\ufffd")})
            break
        return kept[::-1]

    def _too_long(self, param: str, num_tokens: int) -> BackendError:
        message = f"{param} is too long: the prompt takes {num_tokens} tokens, and this model reads {self.max_tokens}."
        return BackendError("context_length_exceeded", message, param=param)


def _ask(question: Question, keys: Sequence[str]) -> str:
    """A label takes one line, whatever it holds, so that it cannot pass for two options."""
    options = "\n".join(f"{key}. {' '.join(label.split())}" for key, label in zip(keys, question.labels, strict=False))
    return f"{question.text}\n\n{options}\n\nAnswer with the key of one option, such as {keys[0]}, and nothing else."
