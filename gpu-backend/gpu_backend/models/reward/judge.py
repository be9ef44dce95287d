"""A question and two answers to the token ids of one prompt, after which the model's next token says which answer is better (GRAM, arXiv 2506.14175).

The template is a trusted Jinja file beside the weights. It gets `question` (a list of {role, content}), `a`, `b` and `criterion` (may be empty), and writes
the whole prompt, control tokens included. Whatever those texts say, they cannot become control tokens, and a text that holds one of the template's own
frame markers gets it with a space inside.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import TemplateError, meta

from gpu_backend.chat_template import Shield, TemplateRefusedError, sandbox
from gpu_backend.config import ConfigError, JudgeSpec
from gpu_backend.tokenizer import Tokenizer

Turn = Mapping[str, str]
# Joining texts to the frame can take a token or two more than they take alone.
_SLACK_TOKENS = 8
# Stands for a turn where it is looked for in what the template wrote.
_MARK = re.compile(r"turn(\d+)end")
# For question and answers together.
_LEAST_ROOM = 32


class TooLongToJudgeError(ValueError):
    """A text that does not fit and may not be cut. `item` is `question`, `criteria`, or the index of an answer."""

    def __init__(self, item: str | int, num_tokens: int, max_tokens: int) -> None:
        super().__init__(f"it takes {num_tokens} tokens, and this model reads {max_tokens} of it")
        self.item = item


class NoRoomToJudgeError(ValueError):
    """Prompts that the caller wants shorter than the template allows; `least` is how long they must be."""

    def __init__(self, least: int) -> None:
        super().__init__(f"a prompt of this judge takes at least {least} tokens")
        self.least = least


@dataclass(frozen=True, slots=True)
class Fitted:
    """Texts that fit into any prompt of two of them, and which of them were cut."""

    question: tuple[dict[str, str], ...]
    answers: tuple[str, ...]
    question_is_cut: bool
    answer_is_cut: tuple[bool, ...]


class Judge:
    """One model's way to be asked. `label_ids` are the tokens that stand for the answers in slot A and slot B."""

    def __init__(self, source: str, tokenizer: Tokenizer, spec: JudgeSpec) -> None:
        self.spec = spec
        environment = sandbox()
        self._template = environment.from_string(source)
        # A template that does not read it would ignore it in silence.
        self.takes_criterion = "criterion" in meta.find_undeclared_variables(environment.parse(source))
        self._tokenizer = tokenizer
        self._shield = Shield(tokenizer.control_ids)
        self._markers = re.compile("|".join(map(re.escape, spec.markers)), re.IGNORECASE) if spec.markers else None
        self.label_ids = self._read_label_ids()
        # Not only the last message of one.
        self.reads_conversations = self._found_turns([{"role": role} for role in ("user", "assistant", "user")]) == {0, 1, 2}

    @classmethod
    def from_folder(cls, folder: Path, tokenizer: Tokenizer, spec: JudgeSpec) -> Judge:
        """Read the template that the model's row names. Raises ConfigError when it is missing or not the one whose SHA-256 the row gives."""
        path = folder / spec.template
        try:
            source = path.read_bytes()
        except OSError as error:
            raise ConfigError(f"cannot read the judge template {path.name} beside the weights in {folder}: put it there (docs/judges.md)") from error
        if (digest := hashlib.sha256(source).hexdigest()) != spec.sha256:
            raise ConfigError(f"the judge template {path.name} has SHA-256 {digest}, but its row in models.toml expects {spec.sha256}")
        return cls(source.decode("utf-8"), tokenizer, spec)

    def encode(self, question: Sequence[Turn], a: str, b: str, criterion: str = "") -> list[int]:
        """Ids of the prompt that ends where the label follows. Raises TemplateRefusedError."""
        texts = [a, b, criterion, *(text for turn in question for text in turn.values())]
        shield = self._shield.character_for(texts)

        def guard(text: str) -> str:
            return self._shield.protect(self._without_markers(text), shield)

        turns = [{"role": turn["role"], "content": guard(turn["content"])} for turn in question]
        try:
            rendered = self._template.render(question=turns, a=guard(a), b=guard(b), criterion=guard(criterion))
        except TemplateRefusedError:
            raise
        except (TemplateError, TypeError, KeyError) as error:
            raise TemplateRefusedError("The model's judge template cannot render this question.") from error
        return self._tokenizer.encode_trusted(rendered, shield)

    def unread_turn(self, question: Sequence[Turn]) -> int | None:
        """The first turn that the template would ignore in silence, proved by rendering; None where there is none, or where it refuses such turns itself."""
        found = self._found_turns(question)
        return None if found is None else next((index for index in range(len(question)) if index not in found), None)

    def _found_turns(self, question: Sequence[Turn]) -> set[int] | None:
        """Which turns the template writes into the prompt; None where it refuses such turns."""
        turns = [{"role": turn["role"], "content": f"turn{index}end"} for index, turn in enumerate(question)]
        try:
            rendered = self._template.render(question=turns, a="", b="", criterion="")
        except (TemplateRefusedError, TemplateError, TypeError, KeyError):
            return None
        return {int(found) for found in _MARK.findall(rendered)}

    def require_read(self, questions: Iterable[Sequence[Turn]]) -> None:
        """Raises ConfigError where one of them has a message that the template would ignore in silence: then pairs say something else than people saw."""
        for roles in {tuple(turn["role"] for turn in question) for question in questions}:
            if (unread := self.unread_turn([{"role": role, "content": ""} for role in roles])) is not None:
                place = f"{unread + 1} of {len(roles)}"
                raise ConfigError(f"the judge template does not read message {place} of some questions ({', '.join(roles)}): give pairs that it reads whole")

    def beginning(self, text: str, most: int | None) -> tuple[str, bool]:
        """The first tokens of a text, at most so many, and whether that is less than all of it."""
        return (text, False) if most is None else self._head(0, text, most, may_cut=True)

    def fit(
        self, question: Sequence[Turn], answers: Sequence[str], criteria: Sequence[str] = ("",), *, may_cut: bool = True, most: int | None = None
    ) -> Fitted:
        """Cut what is too long: the question from its beginning, so that its last turns stay, to half of the room at most; every answer at its end, to
        half of what is then left. An answer is cut the same way whichever it is compared with. The room is that of the row's `max_tokens`, or of `most`
        where that is less. Raises TooLongToJudgeError instead where `may_cut` is False, and in any case for a criterion that leaves no room: it is never cut;
        NoRoomToJudgeError where that is the fault of `most`."""
        frame = max(len(self.encode([{**turn, "content": ""} for turn in question[-1:]], "", "", criterion)) for criterion in criteria) + _SLACK_TOKENS
        if frame + _LEAST_ROOM > self.spec.max_tokens:
            raise TooLongToJudgeError("criteria", frame, self.spec.max_tokens - _LEAST_ROOM)
        room = (self.spec.max_tokens if most is None else min(most, self.spec.max_tokens)) - frame
        if room < _LEAST_ROOM:
            raise NoRoomToJudgeError(frame + _LEAST_ROOM)
        kept, is_cut, num_used = self._fit_question(question, room // 2, may_cut)
        each = (room - num_used) // 2
        cut_answers = [self._head(index, text, each, may_cut) for index, text in enumerate(answers)]
        return Fitted(kept, tuple(text for text, _ in cut_answers), is_cut, tuple(cut for _, cut in cut_answers))

    def _fit_question(self, question: Sequence[Turn], room: int, may_cut: bool) -> tuple[tuple[dict[str, str], ...], bool, int]:
        """-> the last turns, whether that is less than all, and how many tokens they take."""
        kept: list[dict[str, str]] = []
        num_used = 0
        frames = {role: self._turn_frame(role) for role in {turn["role"] for turn in question[:-1]}}
        for turn in reversed(question):
            ids = self._ids_of(turn["content"])
            cost = len(ids) + (frames[turn["role"]] if kept else 0)
            if num_used + cost > room:
                if not may_cut:
                    raise TooLongToJudgeError("question", sum(len(self._ids_of(turn["content"])) for turn in question), room)
                if not kept:
                    kept.append({**turn, "content": self._tokenizer.decode(ids[len(ids) - room :]).lstrip("\ufffd")})
                    num_used = room
                return tuple(reversed(kept)), True, num_used
            kept.append(dict(turn))
            num_used += cost
        return tuple(reversed(kept)), False, num_used

    def _turn_frame(self, role: str) -> int:
        """Tokens that the template writes around one turn more."""
        empty = {"role": role, "content": ""}
        return len(self.encode([empty, empty], "", "")) - len(self.encode([empty], "", ""))

    def _head(self, index: int, text: str, room: int, may_cut: bool) -> tuple[str, bool]:
        ids = self._ids_of(text)
        if len(ids) <= room:
            return text, False
        if not may_cut:
            raise TooLongToJudgeError(index, len(ids), room)
        return self._tokenizer.decode(ids[:room]).rstrip("\ufffd"), True

    def _ids_of(self, text: str) -> list[int]:
        return self._tokenizer.encode_text(self._without_markers(text))

    def _without_markers(self, text: str) -> str:
        return text if self._markers is None else self._markers.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)

    def _read_label_ids(self) -> tuple[int, int]:
        ids = [self._tokenizer.encode_text(label) for label in self.spec.labels]
        if any(len(one) != 1 for one in ids) or ids[0] == ids[1]:
            raise ConfigError(f"judge labels {self.spec.labels} must be two different single tokens of this tokenizer")
        return ids[0][0], ids[1][0]


def common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """How many ids two prompts begin with in common."""
    return next((index for index, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))
