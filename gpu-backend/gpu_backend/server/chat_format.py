"""OpenAI's chat objects: the whole answer, and the chunks of a stream, with the calls that they make."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any

from gpu_backend.core import CallDelta, Delta, Finished, TokenLogprob, Usage
from gpu_backend.server.early_exit import exit_object
from gpu_backend.server.schemas import ChatRequest

if TYPE_CHECKING:
    from gpu_backend.server.served_model import ServedModel


class ChatFormat:
    """Formats one request's events."""

    def __init__(self, body: ChatRequest, model: ServedModel) -> None:
        self._body = body
        self._model = model
        self._tokenizer = model.tokenizer
        self._fingerprint = f"fp_{model.revision}"
        # How an answer without text is written: a caller who gave tools expects null where there are only calls.
        self._nothing = None if body.tools else ""

    def whole(self, deltas: list[Delta], finished: Finished) -> dict[str, Any]:
        """The `chat.completion` object."""
        choices = []
        for index in range(self._body.n):
            own = [delta for delta in deltas if delta.choice == index]
            logprobs = [item for delta in own for item in delta.logprobs]
            choices.append({"index": index, "message": self._message(own), "logprobs": self._logprobs(logprobs), "finish_reason": own[-1].finish_reason})
        return {**self._head("chat.completion"), "choices": choices, **self._closing_fields(finished)}

    def _message(self, own: list[Delta]) -> dict[str, Any]:
        calls = _calls([delta.call for delta in own if delta.call is not None])
        content = "".join(delta.text for delta in own) or self._nothing
        return {"role": "assistant", "content": content, "refusal": None, **({"tool_calls": calls} if calls else {})}

    def opening(self) -> bytes:
        """The role chunk of every choice, sent on admission so that a caller sees at once that work began."""
        return b"".join(self._choice(index, {"role": "assistant", "content": self._nothing}) for index in range(self._body.n))

    def chunk(self, delta: Delta) -> bytes:
        """Text or a piece of a call, and in a chunk of its own the finish reason."""
        parts = []
        logprobs = self._logprobs(delta.logprobs)
        if delta.call is not None:
            parts.append(self._choice(delta.choice, {"tool_calls": [_call_piece(delta.call)]}, logprobs=logprobs))
        elif delta.text or delta.logprobs:
            parts.append(self._choice(delta.choice, {"content": delta.text or self._nothing}, logprobs=logprobs))
        if delta.finish_reason is not None:
            parts.append(self._choice(delta.choice, {}, finish_reason=delta.finish_reason))
        return b"".join(parts)

    def closing(self, finished: Finished) -> bytes:
        """The usage chunk when asked for, then the end mark."""
        final = sse({**self._head("chat.completion.chunk"), "choices": [], **self._closing_fields(finished)}) if self._body.include_usage else b""
        return final + b"data: [DONE]\n\n"

    def _closing_fields(self, finished: Finished) -> dict[str, Any]:
        return {"usage": usage_object(finished.usage), **exit_object(self._model, self._body, finished)}

    def _choice(self, index: int, delta: dict[str, Any], *, logprobs: Any = None, finish_reason: str | None = None) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
        chunk = {**self._head("chat.completion.chunk"), "choices": [choice]}
        if self._body.include_usage:
            chunk["usage"] = None
        return sse(chunk)

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self._body.id, "object": kind, "created": self._body.created, "model": self._body.model, "system_fingerprint": self._fingerprint}

    def _logprobs(self, items: tuple[TokenLogprob, ...] | list[TokenLogprob]) -> dict[str, Any] | None:
        if not self._body.logprobs:
            return None
        return {
            "content": [{**self._token(item.token_id, item.logprob), "top_logprobs": [self._token(*top) for top in item.top]} for item in items],
            "refusal": None,
        }

    def _token(self, token_id: int, logprob: float) -> dict[str, Any]:
        # JSON has no -infinity; OpenAI writes -9999.0 for it.
        return {"token": self._tokenizer.token_text(token_id), "logprob": max(logprob, -9999.0), "bytes": list(self._tokenizer.token_bytes(token_id))}


def _calls(pieces: list[CallDelta]) -> list[dict[str, Any]]:
    calls: list[dict[str, Any]] = []
    for piece in pieces:
        if piece.name is None:
            calls[-1]["function"]["arguments"] += piece.arguments
        else:
            calls.append({key: value for key, value in _call_piece(piece).items() if key != "index"})
    return calls


def _call_piece(piece: CallDelta) -> dict[str, Any]:
    """As a stream writes it: id, type and name come with the first piece only."""
    if piece.name is None:
        return {"index": piece.index, "function": {"arguments": piece.arguments}}
    function = {"name": piece.name, "arguments": piece.arguments}
    return {"index": piece.index, "id": f"call_{secrets.token_hex(12)}", "type": "function", "function": function}


def usage_object(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


def sse(value: dict[str, Any]) -> bytes:
    """One server-sent event; JSON never holds a line break, so one data line is enough."""
    return b"data: " + json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8") + b"\n\n"
