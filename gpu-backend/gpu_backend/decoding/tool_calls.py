"""Tool calls in the Hermes syntax, as Qwen's models write them: the grammar that holds them to their schemas, and the parser that takes them out of an answer.

A call is `<tool_call>`, a line `{"name": "...", "arguments": {...}}`, `</tool_call>`. The two tags are tokens of the model, so text that spells them
is text. Everything inside is fixed by the grammar down to the byte; the parser counts on it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gpu_backend.core import CallDelta
from gpu_backend.decoding.grammar import COMPILER_OPTIONS, JSON_STYLE
from gpu_backend.decoding.grammar_trial import TOOL_GRAMMAR

TAGS = ("<tool_call>", "</tool_call>")
_HEAD, _MIDDLE, _TAIL = '\n{"name": "', '", "arguments": ', "}\n"


@dataclass(frozen=True, slots=True)
class Function:
    """A function that a model may call. Unless `is_strict`, what the grammar cannot follow of `parameters` (a JSON schema of objects) does not bind."""

    name: str
    parameters: dict[str, Any]
    is_strict: bool = False


def tool_call_grammar(functions: Sequence[Function], tokens: tuple[int, int], *, is_parallel: bool = True, answer: str | None = None) -> str:
    """The grammar of one call, or when `is_parallel` of several on lines of their own; or instead, with the grammar `answer`, of a text that it accepts.

    `tokens` are the ids of the tags. Size and depth of the schemas are for the caller to bound.
    """
    open_id, close_id = tokens
    rules = [
        "start: calls" if answer is None else "start: calls | @answer",
        'calls: call ("\\n" call)*' if is_parallel else "calls: call",
        f"call: <[{open_id}]> ({' | '.join(f'f{index}' for index in range(len(functions)))}) <[{close_id}]>",
        *(f"f{index}: {json.dumps(_HEAD + function.name + _MIDDLE)} @a{index} {json.dumps(_TAIL)}" for index, function in enumerate(functions)),
    ]
    # Each schema is a grammar of its own, so that `#/$defs/...` means what it means in that schema.
    grammars = [{"name": TOOL_GRAMMAR, "lark_grammar": "\n".join(rules)}, *(_arguments(index, function) for index, function in enumerate(functions))]
    if answer is not None:
        grammars.append({**(json.loads(answer)["grammars"][0] if answer.startswith("{") else {"lark_grammar": answer}), "name": "answer"})
    return json.dumps({"grammars": grammars})


def _arguments(index: int, function: Function) -> dict[str, Any]:
    return {"name": f"a{index}", "json_schema": {**function.parameters, COMPILER_OPTIONS: {**JSON_STYLE, "lenient": not function.is_strict}}}


class ToolCallParser:
    """Follows one choice: `open` at the token `open_id`, `push` for the text up to the token `close_id`, then `close`; `hold` for text outside of calls."""

    def __init__(self, open_id: int, close_id: int) -> None:
        self.open_id = open_id
        self.close_id = close_id
        self.num_calls = 0
        self.is_open = False
        self._unread: str | None = None
        self._arguments = _JsonObject()
        self._space = ""

    def open(self) -> None:
        """A call begins; white space before it is dropped."""
        self.is_open, self._unread, self._space, self._arguments = True, "", "", _JsonObject()

    def close(self) -> None:
        self.is_open = False

    def push(self, text: str) -> CallDelta | None:
        """The news that text inside of a call brings. A call counts once its name is known."""
        if self._unread is not None:
            self._unread += text
            head, found, text = self._unread.partition(_MIDDLE)
            if not found:
                return None
            self._unread = None
            self.num_calls += 1
            return CallDelta(self.num_calls - 1, head.removeprefix(_HEAD), self._arguments.push(text))
        arguments = self._arguments.push(text)
        return CallDelta(self.num_calls - 1, None, arguments) if arguments else None

    def hold(self, text: str) -> str:
        """Text outside of calls, but for white space that may turn out to lie before a call or behind the last one."""
        text = self._space + text
        shown = text.rstrip()
        self._space = text[len(shown) :]
        return shown

    def finish(self) -> str:
        """The white space that ends an answer without calls."""
        return "" if self.num_calls else self._space


class _JsonObject:
    """Passes on the text of one JSON object and drops what follows it."""

    def __init__(self) -> None:
        self._depth = 0
        self._is_over = False
        self._in_string = False
        self._is_escaped = False

    def push(self, text: str) -> str:
        if self._is_over:
            return ""
        for index, char in enumerate(text):
            if self._in_string:
                self._in_string = self._is_escaped or char != '"'
                self._is_escaped = char == "\\" and not self._is_escaped
            elif char == '"':
                self._in_string = True
            elif char in "{}":
                self._depth += 1 if char == "{" else -1
                self._is_over = self._depth == 0
                if self._is_over:
                    return text[: index + 1]
        return text
