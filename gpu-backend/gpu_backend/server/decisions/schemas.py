"""Body and answer of /internal/decisions, as docs/internal-contract.md describes them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from gpu_backend.server.rewards.schemas import TokenUsage, Turn
from gpu_backend.server.schemas import StrictModel

MAX_LABELS = 255


class Question(StrictModel):
    text: Annotated[str, Field(min_length=1, max_length=16_384)]
    labels: Annotated[list[Annotated[str, Field(min_length=1, max_length=4096)]], Field(min_length=2, max_length=MAX_LABELS)]


class DecisionRequest(StrictModel):
    model: str
    input: Annotated[list[Turn], Field(min_length=1)]
    questions: Annotated[list[Question], Field(min_length=1, max_length=400)]
    truncation: Literal["auto", "disabled"] = "disabled"
    tenant: Annotated[str, Field(max_length=128)] = ""
    end_user: Annotated[str, Field(max_length=512)] = ""
    priority: Annotated[int, Field(ge=-4, le=4)] = 0


class Decision(BaseModel):
    probabilities: list[float]


class Decisions(BaseModel):
    answers: list[Decision]
    usage: TokenUsage
    truncated: bool
