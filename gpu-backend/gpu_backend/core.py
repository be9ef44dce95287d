"""Plain records that every layer of the backend speaks: requests, sampling parameters and engine events. Imports nothing of ours."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class FinishReason(StrEnum):
    """Why a choice ended, in OpenAI's words."""

    STOP = "stop"
    LENGTH = "length"


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How the tokens of one request are chosen. Ranges are OpenAI's; `top_k` 0 means no limit; `grammar` comes from decoding/grammar.py."""

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: dict[int, float] = field(default_factory=dict)
    logprobs: bool = False
    top_logprobs: int = 0
    grammar: str | None = None

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, got {self.max_tokens}")
        if not 0.0 <= self.temperature <= 2.0:
            raise ValueError(f"temperature must be between 0 and 2, got {self.temperature}")
        if not 0.0 < self.top_p <= 1.0:
            raise ValueError(f"top_p must be above 0 and at most 1, got {self.top_p}")
        if self.top_k < 0:
            raise ValueError(f"top_k must not be negative, got {self.top_k}")

    @property
    def is_greedy(self) -> bool:
        """Below this temperature the softmax is one-hot in float32, so dividing by it would only overflow."""
        return self.temperature < 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One call of a user: `num_choices` independent continuations of one prompt. `deadline_s` is on the clock of `time.monotonic`.

    `tenant` takes turns with other tenants, with a share that doubles with each step of `priority`. Cached prefixes are shared only between
    requests with the same `cache_salt`.
    """

    id: str
    prompt_ids: tuple[int, ...]
    sampling: SamplingParams
    num_choices: int = 1
    deadline_s: float | None = None
    tenant: str = ""
    priority: int = 0
    cache_salt: bytes = b""


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token with its log-probability (natural logarithm) under the model's unmodified distribution, and the best alternatives."""

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Delta:
    """New text of one choice. `text` may be empty when only the finish reason is news."""

    choice: int
    text: str
    logprobs: tuple[TokenLogprob, ...] = ()
    finish_reason: FinishReason | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one request over all its choices; a prompt counts once. `cached_tokens` of the prompt were not computed anew."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Finished:
    """Terminal: every choice has its finish reason."""

    usage: Usage


@dataclass(frozen=True, slots=True)
class Failed:
    """Terminal: the request ended early. `code` is one of the closed list shared with the edge; `message` is written for callers."""

    code: str
    message: str


Event = Delta | Finished | Failed


class EngineOverloadedError(Exception):
    """The queue is full, or a step hangs; `retry_after_s` is estimated from how fast requests have been finishing."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__("the engine takes no more requests at the moment")
        self.retry_after_s = retry_after_s


class GrammarError(ValueError):
    """A schema or pattern that cannot be compiled or followed; the message says why."""
