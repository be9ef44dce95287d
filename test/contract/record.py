"""Records the contract's samples from a running backend: `python test/contract/record.py http://127.0.0.1:8788` (secret in ATTUNE_BACKEND_SECRET).

With the name of a model that can call tools behind the address, it records the samples with tool calls, and nothing else.
Both sides parse what this writes in their tests, so a change of the contract shows up as a change of these files.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
CHAT: dict[str, Any] = {
    "id": "chatcmpl-01K0000000000000000000CHAT",
    "created": 1764000000,
    "model": "smollm2-135m-instruct",
    "messages": QUESTION,
    "temperature": 0.0,
}
CITY = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 20}}, "required": ["city"], "additionalProperties": False}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather of a city.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"enum": ["Paris", "Oslo"]}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
                "required": ["city", "days"],
                "additionalProperties": False,
            },
            "strict": True,
        },
    }
]
CALLS = [{"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Paris", "days": 1}'}}]
RESULTS = [{"role": "assistant", "content": "", "tool_calls": CALLS}, {"role": "tool", "content": "Sunny.", "tool_call_id": "call_1"}]
WITH_TOOLS: dict[str, Any] = {**CHAT, "messages": [*QUESTION, *RESULTS], "tools": TOOLS, "tool_choice": "required", "max_tokens": 400}
TOOL_CASES: dict[str, tuple[str, str, dict[str, Any] | None]] = {
    "chat-tools": ("POST", "/internal/chat", {**WITH_TOOLS, "tool_name": "get_weather"}),
    "chat-stream-tools": ("POST", "/internal/chat", {**WITH_TOOLS, "stream": True, "include_usage": True, "parallel_tool_calls": False}),
    "error-tool-call-id": ("POST", "/internal/chat", {**WITH_TOOLS, "messages": [*QUESTION, RESULTS[1]]}),
}
JUDGED: dict[str, Any] = {"model": "gram-smollm2-135m", "input": QUESTION}
CAPITALS = ["Paris is the capital of France.", "I like cheese.", "Lyon."]
CRITERIA = [{"name": "correct", "description": "Which answer is right?", "weight": 2.0}, {"name": "brief", "description": "Which is shorter?", "weight": 1.0}]
REWARD_CASES: dict[str, tuple[str, str, dict[str, Any] | None]] = {
    "rewards-compare": ("POST", "/internal/rewards/compare", {**JUDGED, "a": CAPITALS[0], "b": CAPITALS[1], "criteria": CRITERIA}),
    "rewards-compare-early": (
        "POST",
        "/internal/rewards/compare",
        {**JUDGED, "a": CAPITALS[0], "b": CAPITALS[1], "early_exit": {"mode": "gated", "max_risk": 0.05}},
    ),
    "rewards-score": ("POST", "/internal/rewards/score", {**JUDGED, "responses": CAPITALS, "against": "anchor"}),
    "rewards-rank": ("POST", "/internal/rewards/rank", {**JUDGED, "responses": CAPITALS, "truncation": "auto"}),
    "decisions": (
        "POST",
        "/internal/decisions",
        {**JUDGED, "questions": [{"text": "Is this about a city?", "labels": ["yes", "no"]}, {"text": "Which topic?", "labels": ["food", "places", "sport"]}]},
    ),
    "error-reward-model": ("POST", "/internal/rewards/compare", {**JUDGED, "model": CHAT["model"], "a": "x", "b": "y"}),
    "error-reward-length": ("POST", "/internal/rewards/rank", {**JUDGED, "responses": ["x", "y " * 3000]}),
}
CASES: dict[str, tuple[str, str, dict[str, Any] | None]] = {
    "chat-answer": ("POST", "/internal/chat", CHAT),
    "chat-two-choices": ("POST", "/internal/chat", {**CHAT, "n": 2, "temperature": 1.0, "seed": 7, "max_tokens": 5}),
    "chat-logprobs": ("POST", "/internal/chat", {**CHAT, "logprobs": True, "top_logprobs": 2, "max_tokens": 3}),
    "chat-json-schema": ("POST", "/internal/chat", {**CHAT, "max_tokens": 40, "response_format": {"type": "json_schema", "json_schema": CITY}}),
    "chat-stop": ("POST", "/internal/chat", {**CHAT, "stop": [" Paris"]}),
    "chat-stream": ("POST", "/internal/chat", {**CHAT, "stream": True}),
    "chat-stream-usage": (
        "POST",
        "/internal/chat",
        {**CHAT, "stream": True, "include_usage": True, "logprobs": True, "top_logprobs": 1, "n": 2, "max_tokens": 3},
    ),
    "chat-stream-deadline": ("POST", "/internal/chat", {**CHAT, "stream": True, "max_tokens": 4000, "logit_bias": {"2": -100.0, "0": -100.0}}),
    "tokenize-text": ("POST", "/internal/tokenize", {"model": CHAT["model"], "text": "naïve <|im_start|>"}),
    "tokenize-messages": ("POST", "/internal/tokenize", {"model": CHAT["model"], "messages": QUESTION}),
    "models-list": ("GET", "/internal/models", None),
    **REWARD_CASES,
    "error-context-length": ("POST", "/internal/chat", {**CHAT, "max_tokens": 9000}),
    "error-model-not-found": ("POST", "/internal/chat", {**CHAT, "model": "gpt-7"}),
    "error-response-format": ("POST", "/internal/chat", {**CHAT, "response_format": {"type": "json_schema", "json_schema": {"type": "nonsense"}}}),
    "error-adapter-not-found": ("POST", "/internal/chat", {**CHAT, "adapter": "0" * 64}),
    "error-invalid-value": ("POST", "/internal/chat", {**CHAT, "temperature": 9.0}),
    "error-tools": ("POST", "/internal/chat", {**CHAT, "tools": TOOLS}),
    "error-unknown-parameter": ("POST", "/internal/chat", {**CHAT, "surprise": 1}),
    "error-missing-parameter": ("POST", "/internal/tokenize", {"text": "a"}),
}
KEPT_HEADERS = ("content-type", "cache-control", "retry-after", "x-accel-buffering")


def main() -> int:
    base_url = sys.argv[1].rstrip("/")
    tool_model = sys.argv[2] if len(sys.argv) > 2 else None
    for name, (method, path, body) in (CASES if tool_model is None else TOOL_CASES).items():
        sample = _record(base_url, name, method, path, body if tool_model is None else {**(body or {}), "model": tool_model})
        (FOLDER / f"{name}.json").write_text(json.dumps(sample, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"{name}: {sample['status']}")
    return 0


def _record(base_url: str, name: str, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
    headers = {
        "content-type": "application/json",
        "x-request-id": "req_01K0000000000000000000TEST",
        "x-attune-secret": os.environ.get("ATTUNE_BACKEND_SECRET", ""),
    }
    if name == "chat-stream-deadline":
        headers["x-deadline-ms"] = "400"
    request = urllib.request.Request(base_url + path, None if body is None else json.dumps(body).encode(), headers, method=method)
    try:
        answer = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        text = answer.read().decode("utf-8")
        kept = {key: answer.headers[key] for key in KEPT_HEADERS if key in answer.headers}
        sample: dict[str, Any] = {"name": name, "request": {"method": method, "path": path, "body": body}, "status": answer.status, "headers": kept}
    if kept.get("content-type", "").startswith("text/event-stream"):
        return {**sample, "events": [block.removeprefix("data: ") for block in text.split("\n\n") if block]}
    return {**sample, "body": json.loads(text)}


if __name__ == "__main__":
    sys.exit(main())
