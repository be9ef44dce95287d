"""Every recorded sample parses as this side's own schemas, so neither side can move away from the contract unnoticed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

from gpu_backend.server.decisions.schemas import DecisionRequest, Decisions
from gpu_backend.server.rewards.schemas import CompareRequest, Comparison, RankedAnswers, RankRequest, ScoreRequest, Scores
from gpu_backend.server.schemas import ChatRequest, ModelList, TokenizeAnswer, TokenizeRequest

FOLDER = Path(__file__).resolve().parents[1] / "contract"
SAMPLES = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json")) if path.stem != "errors"}


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class ErrorObject(Strict):
    message: str
    type: str
    code: str
    param: str | None
    request_id: str | None


class ErrorBody(Strict):
    error: ErrorObject


class Usage(Strict):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: dict[str, int]
    completion_tokens_details: dict[str, int]


class Answer(Strict):
    id: str
    object: str
    created: int
    model: str
    system_fingerprint: str
    choices: list[dict[str, Any]]
    usage: Usage | None = None


def named(prefix: str) -> list[str]:
    return [name for name in SAMPLES if name.startswith(prefix)]


def test_there_are_samples() -> None:
    assert len(named("chat-")) >= 6 and len(named("error-")) >= 4 and named("tokenize-") and named("models-")


@pytest.mark.parametrize("name", [*named("chat-"), *named("tokenize-")])
def test_requests_parse(name: str) -> None:
    schema = ChatRequest if name.startswith("chat-") else TokenizeRequest
    schema.model_validate(SAMPLES[name]["request"]["body"])


@pytest.mark.parametrize("name", [name for name in named("chat-") if "body" in SAMPLES[name]])
def test_answers_parse(name: str) -> None:
    assert SAMPLES[name]["status"] == 200
    answer = Answer.model_validate(SAMPLES[name]["body"])
    assert answer.object == "chat.completion" and answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


@pytest.mark.parametrize("name", named("chat-stream"))
def test_streams_end_with_done_or_an_error(name: str) -> None:
    *chunks, last = SAMPLES[name]["events"]
    for chunk in chunks:
        assert Answer.model_validate_json(chunk).object == "chat.completion.chunk"
    if last != "[DONE]":
        assert ErrorBody.model_validate_json(last).error.code == "deadline_exceeded"
    assert (last == "[DONE]") == (name != "chat-stream-deadline")


@pytest.mark.parametrize("name", named("error-"))
def test_errors_parse_and_use_the_closed_list(name: str, error_codes: dict[str, dict[str, Any]]) -> None:
    error = ErrorBody.model_validate(SAMPLES[name]["body"]).error
    assert (error_codes[error.code]["status"], error_codes[error.code]["type"]) == (SAMPLES[name]["status"], error.type)


JUDGEMENTS: dict[str, tuple[type[BaseModel], type[BaseModel]]] = {
    "rewards-compare": (CompareRequest, Comparison),
    "rewards-compare-early": (CompareRequest, Comparison),
    "rewards-score": (ScoreRequest, Scores),
    "rewards-rank": (RankRequest, RankedAnswers),
    "decisions": (DecisionRequest, Decisions),
}


@pytest.mark.parametrize("name", JUDGEMENTS)
def test_judgements_parse(name: str) -> None:
    """The answer has exactly the names of its schema."""
    sample, (asked, answered) = SAMPLES[name], JUDGEMENTS[name]
    asked.model_validate(sample["request"]["body"])
    assert sample["status"] == 200 and answered.model_validate(sample["body"]).model_dump() == sample["body"]


def test_tokenizations_and_models_parse() -> None:
    for name in named("tokenize-"):
        answer = TokenizeAnswer.model_validate(SAMPLES[name]["body"])
        assert answer.count == len(answer.ids)
    for name in named("models-"):
        assert ModelList.model_validate(SAMPLES[name]["body"]).data
