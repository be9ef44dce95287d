"""Messages to token ids through the model's own chat template, rendered in a sandbox, with user text that can never become a control token.

The template is a trusted file beside the weights; message texts are data. Inside a text, every string that is a control token, and every piece at its
edges that could complete one together with the template, is broken by a shield character that occurs in no message and is removed after
control tokens have been found (`Tokenizer.encode_trusted`). White space at the ends stays outside the shield, so a template may still trim.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from jinja2 import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from gpu_backend.tokenizer import Tokenizer


class TemplateRefusedError(ValueError):
    """The template does not accept this conversation, for example because roles must alternate."""


class ChatTemplate:
    """A compiled template. `special` holds the names a template may ask for, such as `bos_token`."""

    def __init__(self, source: str, tokenizer: Tokenizer, special: dict[str, str]) -> None:
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
        self._template = environment.from_string(source)
        self._tokenizer = tokenizer
        self._special = special
        self._shield = _Shield(tokenizer.control_ids)

    @classmethod
    def from_folder(cls, folder: Path, tokenizer: Tokenizer) -> ChatTemplate | None:
        """`chat_template.jinja`, or `chat_template` in tokenizer_config.json; None when the model has none."""
        config_file, template_file = folder / "tokenizer_config.json", folder / "chat_template.jinja"
        config = json.loads(config_file.read_text(encoding="utf-8")) if config_file.exists() else {}
        source = template_file.read_text(encoding="utf-8") if template_file.exists() else config.get("chat_template")
        return cls(source, tokenizer, special_names(config)) if isinstance(source, str) else None

    def encode(self, messages: Sequence[dict[str, str]], *, add_generation_prompt: bool = True) -> list[int]:
        """Ids of the whole conversation. `developer` is rendered as `system`. Raises TemplateRefusedError."""
        shield = self._shield.character_for([message["content"] for message in messages])
        shielded = [
            {"role": "system" if message["role"] == "developer" else message["role"], "content": self._shield.protect(message["content"], shield)}
            for message in messages
        ]
        try:
            rendered = self._template.render(messages=shielded, add_generation_prompt=add_generation_prompt, tools=None, **self._special)
        except TemplateRefusedError:
            raise
        except (TemplateError, TypeError, KeyError) as error:
            raise TemplateRefusedError("The model's chat template cannot render this conversation.") from error
        return self._tokenizer.encode_trusted(rendered, shield)


class _Shield:
    """Chooses and places the shield character."""

    def __init__(self, control_tokens: dict[str, int]) -> None:
        tokens = sorted(control_tokens, key=len, reverse=True)
        if any(len(token) < 2 for token in tokens):
            raise ValueError("a control token of one character cannot be kept out of user text: this tokenizer is not supported")
        self._inside = re.compile("|".join(f"(?<={re.escape(token[0])})(?={re.escape(token[1:])})" for token in tokens) or r"(?!)")

    @staticmethod
    def character_for(texts: Sequence[str]) -> str:
        """A private-use character that occurs in none of the texts; there are 137,468, more than any set of texts within the limits uses up."""
        used = set().union(*map(set, texts)) if texts else set()
        for point in (*range(0xE000, 0xF900), *range(0xF0000, 0xFFFFE), *range(0x100000, 0x10FFFE)):
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


def special_names(tokenizer_config: dict[str, Any]) -> dict[str, str]:
    """`bos_token` and its like as strings; older files hold objects with a `content`."""
    names = {}
    for name in ("bos_token", "eos_token", "pad_token", "unk_token"):
        value = tokenizer_config.get(name)
        names[name] = (value.get("content") if isinstance(value, dict) else value) or ""
    return names


def _to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(message: str) -> NoReturn:
    raise TemplateRefusedError(f"The model's chat template does not accept this conversation: {message}")
