"""Messages and tools to token ids through the model's own chat template, rendered in a sandbox, with user text that can never become a control token.

The template is a trusted file beside the weights; message texts, tool calls and tools are data. Inside a text, every string that is a control token, and
every piece at its edges that could complete one together with the template, is broken by a shield character that occurs in no text and is removed after
control tokens have been found (`Tokenizer.encode_trusted`). White space at the ends stays outside the shield, so a template may still trim. In JSON values
a string or key that cannot be part of any control token stays bare, so that a template may still look things up; what `tojson` writes is protected as a whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn

from jinja2 import TemplateError, meta, pass_context
from jinja2.ext import loopcontrols
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from gpu_backend.tokenizer import Tokenizer


class TemplateRefusedError(ValueError):
    """The template does not accept this conversation, for example because roles must alternate."""


class ChatTemplate:
    """A compiled template. `special` holds the names a template may ask for, such as `bos_token`."""

    def __init__(self, source: str, tokenizer: Tokenizer, special: dict[str, str]) -> None:
        environment = sandbox()
        environment.filters["tojson"] = self._to_json
        environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
        self._template = environment.from_string(source)
        self._variables = meta.find_undeclared_variables(environment.parse(source))
        self._tokenizer = tokenizer
        self._special = special
        self._shield = Shield(tokenizer.control_ids)

    @classmethod
    def from_folder(cls, folder: Path, tokenizer: Tokenizer) -> ChatTemplate | None:
        """`chat_template.jinja`, or `chat_template` in tokenizer_config.json; None when the model has none."""
        config_file, template_file = folder / "tokenizer_config.json", folder / "chat_template.jinja"
        config = json.loads(config_file.read_text(encoding="utf-8")) if config_file.exists() else {}
        source = template_file.read_text(encoding="utf-8") if template_file.exists() else config.get("chat_template")
        return cls(source, tokenizer, special_names(config)) if isinstance(source, str) else None

    @property
    def takes_tools(self) -> bool:
        """Whether the template reads `tools` at all; most that know none ignore them silently."""
        return "tools" in self._variables

    def encode(self, messages: Sequence[Mapping[str, Any]], *, tools: Sequence[Mapping[str, Any]] = (), add_generation_prompt: bool = True) -> list[int]:
        """Ids of the whole conversation. `developer` is rendered as `system`. Raises TemplateRefusedError.

        `tools` and a message's `tool_calls` are of OpenAI's form, but `arguments` are JSON values, not text, as templates expect.
        """
        shield = self._shield.character_for([*_strings_in(messages), *_strings_in(tools)])
        try:
            rendered = self._template.render(
                messages=[self._message(message, shield) for message in messages],
                tools=[{"type": "function", "function": self._protected(tool["function"], shield)} for tool in tools] or None,
                add_generation_prompt=add_generation_prompt,
                shield=shield,
                **self._special,
            )
        except TemplateRefusedError:
            raise
        except (TemplateError, TypeError, KeyError) as error:
            raise TemplateRefusedError("The model's chat template cannot render this conversation.") from error
        return self._tokenizer.encode_trusted(rendered, shield)

    def _message(self, message: Mapping[str, Any], shield: str) -> dict[str, Any]:
        role = "system" if message["role"] == "developer" else message["role"]
        shielded: dict[str, Any] = {"role": role, "content": self._shield.protect(message["content"], shield)}
        if message.get("tool_calls"):
            shielded["tool_calls"] = [
                {"id": self._shield.protect(call["id"], shield), "type": "function", "function": self._protected(call["function"], shield)}
                for call in message["tool_calls"]
            ]
        if message.get("tool_call_id") is not None:
            shielded["tool_call_id"] = self._shield.protect(message["tool_call_id"], shield)
        return shielded

    def _protected(self, function: Mapping[str, Any], shield: str) -> dict[str, Any]:
        """The values of a function or call; its own keys are the template's words."""
        return {key: self._shield.protect_json(value, shield) for key, value in function.items()}

    @pass_context
    def _to_json(self, context: Context, value: Any, indent: int | None = None, **_options: Any) -> str:
        """Other options of the usual filter (`ensure_ascii`, `sort_keys`, …) change nothing that a model must see."""
        return self._shield.protect(json.dumps(value, ensure_ascii=False, indent=indent), context["shield"])


def sandbox() -> ImmutableSandboxedEnvironment:
    """Where templates are rendered: they reach nothing but what they are given, and may refuse it with `raise_exception`."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.globals["raise_exception"] = _refuse
    return environment


class Shield:
    """Chooses and places the shield character."""

    def __init__(self, control_tokens: dict[str, int]) -> None:
        tokens = sorted(control_tokens, key=len, reverse=True)
        if any(len(token) < 2 for token in tokens):
            raise ValueError("a control token of one character cannot be kept out of user text: this tokenizer is not supported")
        # One alternative for each first character, so that most places in a text are passed at once.
        rests: dict[str, list[str]] = {}
        for token in tokens:
            rests.setdefault(token[0], []).append(re.escape(token[1:]))
        self._inside = re.compile("|".join(f"(?<={re.escape(first)})(?={'|'.join(rest)})" for first, rest in rests.items()) or r"(?!)")
        self._tokens = "\0".join(tokens)
        self._heads = {token[:end] for token in tokens for end in range(1, len(token))}
        self._tails = {token[start:] for token in tokens for start in range(1, len(token))}
        self._longest = max((len(token) for token in tokens), default=0)

    @staticmethod
    def character_for(texts: Sequence[str]) -> str:
        """A private-use character that occurs in none of the texts; there are 137,468, more than any set of texts within the limits uses up."""
        used = set().union(*map(set, texts)) if texts else set()
        for point in chain(range(0xE000, 0xF900), range(0xF0000, 0xFFFFE), range(0x100000, 0x10FFFE)):
            if chr(point) not in used:
                return chr(point)
        raise TemplateRefusedError("The messages use every private-use character there is.")

    def protect(self, text: str, shield: str) -> str:
        """Break every control token inside, and both edges of the text without its surrounding white space."""
        core = text.strip()
        if not core:
            return text
        start = text.index(core)
        return text[:start] + shield + self._inside.sub(shield, core) + shield + text[start + len(core) :]

    def protect_json(self, value: Any, shield: str) -> Any:
        """The same value with every string and key protected that could be part of a control token."""
        if isinstance(value, str):
            return value if self._is_inert(value) else self.protect(value, shield)
        if isinstance(value, dict):
            return {self.protect_json(key, shield): self.protect_json(item, shield) for key, item in value.items()}
        if isinstance(value, list):
            return [self.protect_json(item, shield) for item in value]
        return value

    def _is_inert(self, text: str) -> bool:
        """Whatever stands before and after the text: no control token holds it, lies in it, or overlaps one of its ends."""
        if text in self._tokens or self._inside.search(text):
            return False
        lengths = range(1, min(len(text), self._longest) + 1)
        return not any(text[:length] in self._tails or text[-length:] in self._heads for length in lengths)


def _strings_in(value: Any) -> Iterator[str]:
    """All strings and keys of a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield key
            yield from _strings_in(item)
    elif isinstance(value, Sequence):
        for item in value:
            yield from _strings_in(item)


def special_names(tokenizer_config: dict[str, Any]) -> dict[str, str]:
    """`bos_token` and its like as strings; older files hold objects with a `content`."""
    names = {}
    for name in ("bos_token", "eos_token", "pad_token", "unk_token"):
        value = tokenizer_config.get(name)
        names[name] = (value.get("content") if isinstance(value, dict) else value) or ""
    return names


def _refuse(message: str) -> NoReturn:
    raise TemplateRefusedError(f"The model's chat template does not accept this conversation: {message}")
