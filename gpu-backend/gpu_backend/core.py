"""Plain records that every layer of the backend speaks: requests, what they ask for, and engine events. Imports nothing of ours."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, Protocol


class FinishReason(StrEnum):
    """Why a choice ended, in OpenAI's words."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"


class Grammar(Protocol):
    """A form that an answer must have: `CompiledGrammar` of decoding/grammar.py."""

    def start(self, trigger: int | None = None) -> Any:
        """A fresh state for one choice."""


@dataclass(frozen=True, slots=True)
class TokenGate:
    """Lets a guess of an inner layer stand as the next token, unverified, if the layer gives it at least `least_prob`; but none of `verified_ids`, such as
    those that end an answer: full depth must give them."""

    least_prob: float
    verified_ids: frozenset[int] = frozenset()

    def lets_through(self, token_id: int, prob: float) -> bool:
        return prob >= self.least_prob and token_id not in self.verified_ids


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How the tokens of one request are chosen. Ranges are OpenAI's; `top_k` 0 means no limit; `grammar` comes from decoding/grammar.py.

    With `grammar_trigger` the grammar holds from that token on, if it ever comes. What lies between the two `tool_call_tokens` is a tool call, not text.
    With `drafts` tokens may be guessed from an inner layer and verified at full depth: the same answer, with fewer passes. With a `gate` beside them some
    guesses stand unverified.
    """

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
    grammar: Grammar | None = None
    grammar_trigger: int | None = None
    tool_call_tokens: tuple[int, int] | None = None
    drafts: bool = False
    gate: TokenGate | None = None

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

    @property
    def open_gate(self) -> TokenGate | None:
        """The gate, if nothing but its logits chooses a token and nobody wants to see them: an inner layer's guess knows of no penalty, bias, grammar or
        random number, and has no log-probability at full depth."""
        is_adjusted = self.frequency_penalty != 0 or self.presence_penalty != 0 or bool(self.logit_bias) or self.grammar is not None
        return self.gate if self.drafts and self.is_greedy and not is_adjusted and not self.logprobs else None


class LabelGate(Protocol):
    """Reads from an inner layer which of two labels comes next: `LabelExit.gate` of decoding/early_exit/label_exit.py makes one."""

    @property
    def layer(self) -> int:
        """How many layers have run when it reads."""

    def read(self, x_KH: Any) -> list[float | None]:
        """For each of K rows of the residual stream the difference of the two labels' logits, or None where the gate is not sure of it."""


@dataclass(frozen=True, slots=True)
class LabelScores:
    """Asks for the scores of these tokens as the next one after the prompt. Nothing is generated.

    With a `gate` the layers above it are left out where it is sure; then only the first `num_shared` tokens of the prompt, which later prompts have in
    common with it, go through all layers.
    """

    max_tokens: ClassVar[int] = 0
    label_ids: tuple[int, ...]
    gate: LabelGate | None = None
    num_shared: int = 0

    def __post_init__(self) -> None:
        if not self.label_ids:
            raise ValueError("label_ids must name at least one token")
        if self.gate is not None and len(self.label_ids) != 2:
            raise ValueError(f"a gate reads two labels, got {len(self.label_ids)}")
        if self.num_shared < 0:
            raise ValueError(f"num_shared must not be negative, got {self.num_shared}")


class Pooling(StrEnum):
    """Which positions of the prompt make up a state: the last one, or the mean over all."""

    LAST = "last"
    MEAN = "mean"


@dataclass(frozen=True, slots=True)
class HiddenStates:
    """Asks for the residual stream after the first 1, 2, … layers of the model; 0 is the embeddings. Nothing is generated.

    A mean needs every position computed anew, so it never reuses a cached prefix.
    """

    max_tokens: ClassVar[int] = 0
    layers: tuple[int, ...]
    pooling: Pooling = Pooling.LAST

    def __post_init__(self) -> None:
        if not self.layers or len(set(self.layers)) < len(self.layers):
            raise ValueError(f"layers must name at least one layer and none twice, got {self.layers}")


Task = SamplingParams | LabelScores | HiddenStates


class Conditioning(Protocol):
    """What an answer depends on besides tokens: see layers/conditioning.py. Only the model runner and the model look inside."""

    @property
    def num_positions(self) -> int:
        """Positions it takes before the request's tokens."""

    @property
    def digest(self) -> bytes:
        """A hash of the content, of fixed length: equal exactly where the keys and values of the same tokens are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One call of a user: `num_choices` independent continuations of one prompt, or one reading of it. `deadline_s` is on the clock of `time.monotonic`.

    `tenant` takes turns with other tenants, with a share that doubles with each step of `priority`. `adapter` is the content hash of the LoRA adapter
    that changes the model for this request. Cached prefixes are shared only between requests with the same `cache_salt`, `conditioning` and adapter.
    """

    id: str
    prompt_ids: tuple[int, ...]
    task: Task
    num_choices: int = 1
    deadline_s: float | None = None
    tenant: str = ""
    priority: int = 0
    cache_salt: bytes = b""
    conditioning: Conditioning | None = None
    adapter: str | None = None

    def __post_init__(self) -> None:
        if self.num_choices < 1 or (self.num_choices > 1 and not isinstance(self.task, SamplingParams)):
            raise ValueError(f"num_choices must be at least 1, and 1 where nothing is generated, got {self.num_choices}")

    @property
    def prefix_salt(self) -> bytes:
        """What keys and values depend on besides tokens. The adapter's hexadecimal digits hold no NUL, so no two pairs give the same bytes."""
        return (self.adapter or "").encode() + b"\0" + self.cache_salt


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token with its log-probability (natural logarithm) under the model's unmodified distribution, and the best alternatives."""

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class CallDelta:
    """News of one tool call of a choice. `name` comes once, with the first; `arguments` are the next piece of a JSON text."""

    index: int
    name: str | None
    arguments: str


@dataclass(frozen=True, slots=True)
class Delta:
    """New text of one choice, or news of a tool call. `text` may be empty when only the finish reason is news."""

    choice: int
    text: str
    logprobs: tuple[TokenLogprob, ...] = ()
    finish_reason: FinishReason | None = None
    call: CallDelta | None = None


@dataclass(frozen=True, slots=True)
class LabelScoresReady:
    """In the order of `LabelScores.label_ids`: raw logits, and log-probabilities (natural logarithm) over the whole vocabulary.

    Where the prompt left early, `exit_layer` says after how many layers; the logits are then known but for a constant, which is chosen so that their sum
    is 0, and the log-probabilities are over the two labels alone.
    """

    logits: tuple[float, ...]
    logprobs: tuple[float, ...]
    exit_layer: int | None = None

    @property
    def is_finite(self) -> bool:
        """A model with damaged weights says NaN or infinity."""
        return all(map(math.isfinite, (*self.logits, *self.logprobs)))


@dataclass(frozen=True, slots=True)
class HiddenStatesReady:
    """One vector of float32 numbers per layer, in the order of `HiddenStates.layers`."""

    states: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one request over all its choices; a prompt counts once, conditioning not at all. `cached_tokens` of the prompt were not computed anew."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Finished:
    """Terminal: every choice has its finish reason, or what was asked for has been sent. `accepted_drafts` of its tokens came from an inner layer and were
    verified at full depth, or stood by a gate: `min_confidence` is the least chance among these that full depth gives the same token."""

    usage: Usage
    accepted_drafts: int = 0
    min_confidence: float = 1.0


@dataclass(frozen=True, slots=True)
class Failed:
    """Terminal: the request ended early. `code` is one of the closed list shared with the edge; `message` is written for callers, `param` what it is about."""

    code: str
    message: str
    param: str | None = None


Event = Delta | LabelScoresReady | HiddenStatesReady | Finished | Failed


class UnfitRequestError(ValueError):
    """The model cannot do what the request asks for; the message says what does not fit."""


class EngineOverloadedError(Exception):
    """The queue, or the memory for adapters, is full, or a step hangs; `retry_after_s` is estimated from how fast requests have been finishing."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__("the engine takes no more requests at the moment")
        self.retry_after_s = retry_after_s


class GrammarError(ValueError):
    """A schema or pattern that cannot be compiled or followed; the message says why."""


class AdapterError(ValueError):
    """An adapter that cannot be used; the message says why, in words for callers."""


class AdapterNotFoundError(Exception):
    """No adapter with this content hash lies here."""
