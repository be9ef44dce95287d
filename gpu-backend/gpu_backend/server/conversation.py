"""Checks what a conversation says of earlier tool calls, and writes it the way chat templates expect."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from gpu_backend.server.errors import BackendError
from gpu_backend.server.schemas import Message


def to_template_messages(messages: list[Message]) -> list[dict[str, Any]]:
    """With the arguments of calls as JSON values. Raises invalid_value with the path when calls and their results do not belong together."""
    _check_results(messages)
    return [_to_template(message, f"messages[{index}]") for index, message in enumerate(messages)]


def _check_results(messages: list[Message]) -> None:
    """Every call is answered by one `tool` message before the conversation goes on, and nothing else is."""
    open_ids: set[str] = set()
    for index, message in enumerate(messages):
        path = f"messages[{index}]"
        if message.role == "tool":
            if message.tool_call_id is None:
                raise BackendError("missing_required_parameter", f"{path}.tool_call_id is required.", param=f"{path}.tool_call_id")
            if message.tool_call_id not in open_ids:
                _refuse(f"{path}.tool_call_id", "answers no call of the assistant message before it")
            open_ids.remove(message.tool_call_id)
            continue
        if open_ids:
            _refuse(f"{path}.role", "must be 'tool' until every call of the assistant message before it is answered")
        if message.tool_call_id is not None:
            _refuse(f"{path}.tool_call_id", "belongs to messages of the role 'tool'")
        if message.tool_calls and message.role != "assistant":
            _refuse(f"{path}.tool_calls", "belong to messages of the role 'assistant'")
        open_ids = {call.id for call in message.tool_calls}
        if len(open_ids) < len(message.tool_calls):
            _refuse(f"{path}.tool_calls", "must have ids of their own")
    if open_ids:
        _refuse("messages", "must end with an answer to every call")


def _to_template(message: Message, path: str) -> dict[str, Any]:
    written: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        written["tool_calls"] = [
            {"id": call.id, "function": {"name": call.function.name, "arguments": _arguments(call.function.arguments, f"{path}.tool_calls[{index}]")}}
            for index, call in enumerate(message.tool_calls)
        ]
    if message.tool_call_id is not None:
        written["tool_call_id"] = message.tool_call_id
    return written


def _arguments(text: str, path: str) -> dict[str, Any]:
    """The JSON object that a caller sent as text."""
    from gpu_backend.decoding.grammar import MAX_DEPTH, depth_of

    param = f"{path}.function.arguments"
    try:
        value = json.loads(text)
        # Python reads NaN, Infinity and 1e999, which JSON has not.
        json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError):
        _refuse(param, "is not JSON")
    if not isinstance(value, dict):
        _refuse(param, "must be a JSON object")
    if depth_of(value) > MAX_DEPTH:
        _refuse(param, f"is nested deeper than {MAX_DEPTH} levels")
    return value


def _refuse(param: str, what: str) -> NoReturn:
    raise BackendError("invalid_value", f"{param} {what}.", param=param)
