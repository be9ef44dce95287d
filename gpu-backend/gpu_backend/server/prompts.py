"""Messages or text to token ids, off the event loop and never longer than the model's context."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from gpu_backend.chat_template import TemplateRefusedError
from gpu_backend.server.conversation import to_template_messages
from gpu_backend.server.errors import BackendError
from gpu_backend.server.schemas import Message

if TYPE_CHECKING:
    from gpu_backend.server.served_model import ServedModel


async def encode_messages(model: ServedModel, messages: list[Message], tools: list[dict[str, Any]] | None = None) -> list[int]:
    """`tools` as the template expects them. Raises context_length_exceeded at once when the bytes alone prove it, unsupported_value when the template
    refuses, invalid_value when calls and their results do not belong together."""
    template = model.template
    if template is None:
        raise BackendError("unsupported_value", f"{model.spec.id} has no chat template, so it cannot chat.", param="model")
    written = to_template_messages(messages)
    num_bytes = sum(_num_bytes_of(message, f"messages[{index}]") for index, message in enumerate(written))
    num_tool_bytes = _num_bytes(_json(tools), "tools") if tools else 0
    _refuse_by_bytes(model, num_tool_bytes, "tools")
    _refuse_by_bytes(model, num_bytes + num_tool_bytes, "messages")
    try:
        return await asyncio.to_thread(template.encode, written, tools=tools or [])
    except TemplateRefusedError as error:
        raise BackendError("unsupported_value", str(error), param="messages") from error


async def encode_text(model: ServedModel, text: str) -> list[int]:
    _num_bytes(text, "text")
    return await asyncio.to_thread(model.tokenizer.encode_text, text)


def check_length(model: ServedModel, num_prompt_tokens: int, max_tokens: int | None) -> int:
    """-> how many tokens may be generated. Raises context_length_exceeded."""
    room = model.context_length - num_prompt_tokens
    if room < 1 or (max_tokens is not None and max_tokens > room):
        wanted = "" if max_tokens is None else f" and {max_tokens} were asked for"
        message = f"This model's context holds {model.context_length} tokens; the messages take {num_prompt_tokens}{wanted}. Shorten one of them."
        raise BackendError("context_length_exceeded", message, param="messages" if room < 1 else "max_tokens")
    return room if max_tokens is None else max_tokens


def _refuse_by_bytes(model: ServedModel, num_bytes: int, param: str) -> None:
    """A token stands for at most `max_token_bytes` bytes, so this many bytes cannot fit, however they are cut."""
    at_least = -(-num_bytes // model.tokenizer.max_token_bytes)
    if at_least >= model.context_length:
        message = f"This model's context holds {model.context_length} tokens; {num_bytes} bytes take more than that. Shorten the {param}."
        raise BackendError("context_length_exceeded", message, param=param)


def _num_bytes_of(message: dict[str, Any], path: str) -> int:
    num_bytes = _num_bytes(message["content"], f"{path}.content")
    if "tool_calls" in message:
        num_bytes += _num_bytes(_json([call["function"] for call in message["tool_calls"]]), f"{path}.tool_calls")
    return num_bytes


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _num_bytes(text: str, param: str) -> int:
    try:
        return len(text.encode("utf-8"))
    except UnicodeEncodeError:
        raise BackendError("invalid_value", f"{param} holds half of a surrogate pair, which is not text.", param=param) from None
