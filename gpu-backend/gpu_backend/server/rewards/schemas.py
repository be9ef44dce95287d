"""Bodies and answers of /internal/rewards/*, as docs/internal-contract.md describes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, Field, field_validator

from gpu_backend.server.schemas import EarlyExit, StrictModel

MAX_SCORED = 1000
MAX_RANKED = 64


class Turn(StrictModel):
    role: Literal["system", "user", "assistant"]
    content: str


class Criterion(StrictModel):
    name: Annotated[str, Field(min_length=1, max_length=128)]
    description: Annotated[str, Field(max_length=16_384)]
    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0


@dataclass(frozen=True, slots=True)
class MostTokens:
    """How much the caller wants read of a message, of a response, each from its beginning, and of all that makes a prompt; None for all."""

    message: int | None = None
    response: int | None = None
    prompt: int | None = None


class RewardRequest(StrictModel):
    """What the three operations share."""

    model: str
    input: Annotated[list[Turn], Field(min_length=1)]
    criteria: list[Criterion] = Field(default_factory=list, max_length=16)
    average: Literal["probability", "logit"] = "probability"
    truncation: Literal["auto", "disabled"] = "disabled"
    tenant: Annotated[str, Field(max_length=128)] = ""
    end_user: Annotated[str, Field(max_length=512)] = ""
    priority: Annotated[int, Field(ge=-4, le=4)] = 0
    early_exit: EarlyExit | None = None

    @property
    def most(self) -> MostTokens:
        return MostTokens()

    @field_validator("criteria")
    @classmethod
    def _names_of_their_own(cls, criteria: list[Criterion]) -> list[Criterion]:
        if len({criterion.name for criterion in criteria}) < len(criteria):
            raise ValueError("two criteria have the same name")
        return criteria


class CompareRequest(RewardRequest):
    a: str
    b: str
    order: Literal["both", "ab", "ba"] = "both"
    allow_tie: bool = True
    tie_margin: Annotated[float, Field(ge=0, le=1)] = 0.0


class ScoreRequest(RewardRequest):
    responses: Annotated[list[str], Field(min_length=1, max_length=MAX_SCORED)]
    against: Literal["others", "reference", "anchor"] = "others"
    reference: str | None = None
    max_input_tokens: Annotated[int, Field(ge=1)] | None = None
    max_response_tokens: Annotated[int, Field(ge=1)] | None = None
    max_prompt_tokens: Annotated[int, Field(ge=1)] | None = None

    @property
    def most(self) -> MostTokens:
        return MostTokens(self.max_input_tokens, self.max_response_tokens, self.max_prompt_tokens)


class RankRequest(RewardRequest):
    responses: Annotated[list[str], Field(min_length=2, max_length=MAX_RANKED)]
    method: Literal["auto", "scan", "round_robin", "adaptive"] = "auto"
    max_comparisons: Annotated[int, Field(ge=1)] | None = None


class TokenUsage(BaseModel):
    input_tokens: int
    cached_tokens: int


class Depth(BaseModel):
    mode: Literal["off", "gated"]
    mean_exit_layer: float
    layers_saved: int
    early_forwards: int
    min_confidence: float


class RewardAnswer(BaseModel):
    num_comparisons: int
    num_forwards: int
    usage: TokenUsage
    early_exit: Depth | None = None


class OneOrder(BaseModel):
    first: Literal["a", "b"]
    probability_a: float
    logprobs: dict[str, float]


class Truncated(BaseModel):
    input: bool
    a: bool
    b: bool


class Comparison(RewardAnswer):
    winner: Literal["a", "b", "tie"]
    probability_a: float
    margin: float
    logit: float
    raw: float
    consistent: bool | None
    position_bias_delta: float | None
    orders: list[OneOrder]
    criteria: dict[str, float]
    truncated: Truncated


class Score(BaseModel):
    index: int
    probability: float
    logit: float
    raw: float
    criteria: dict[str, float]
    truncated: bool
    input_tokens: int


class Scores(RewardAnswer):
    data: list[Score]


class RankedAnswer(BaseModel):
    index: int
    rank: int
    score: float
    strength: float
    standard_error: float
    win_rate: float
    comparisons: int


class RankedAnswers(RewardAnswer):
    method: Literal["scan", "round_robin", "adaptive"]
    results: list[RankedAnswer]
    best_index: int
    cycles: int
    is_certain: bool
    truncated: list[bool]
