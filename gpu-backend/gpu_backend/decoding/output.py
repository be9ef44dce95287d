"""From tokens of one choice to what its reader sees: text, tool calls, log-probabilities, and the reason it ended."""

from __future__ import annotations

from gpu_backend.core import CallDelta, Delta, FinishReason, SamplingParams, TokenLogprob
from gpu_backend.decoding.grammar import GrammarState
from gpu_backend.decoding.sampling import SamplerState
from gpu_backend.decoding.stop import StopChecker
from gpu_backend.decoding.tool_calls import ToolCallParser
from gpu_backend.tokenizer import IncrementalDecoder, Tokenizer


class ChoiceOutput:
    """Holds back half characters and possible stop strings; log-probabilities travel with the text of their token.

    Stop strings are looked for in text only, never inside of a tool call.
    """

    def __init__(self, params: SamplingParams, choice: int, tokenizer: Tokenizer, end_token_ids: frozenset[int], grammar: GrammarState | None = None) -> None:
        self.sampler = SamplerState.of(params, choice, grammar)
        self._grammar = grammar
        self._choice = choice
        self._params = params
        self._end_token_ids = end_token_ids
        self._decoder = IncrementalDecoder(tokenizer)
        self._stop = StopChecker(params.stop)
        tokens = params.tool_call_tokens
        self._calls = None if tokens is None else ToolCallParser(*tokens)
        self._pending: list[TokenLogprob] = []

    def push(self, token: TokenLogprob, num_generated: int) -> Delta | None:
        """The news this token brings; None when all of it is held back."""
        if token.token_id in self._end_token_ids:
            return self._finish(FinishReason.STOP)
        if self._params.logprobs:
            self._pending.append(token)
        text, call = self._read(token.token_id)
        if self._stop.is_stopped:
            return self._delta(text, FinishReason.STOP)
        if self._grammar is not None and self._grammar.is_finished:
            return self._finish(FinishReason.STOP, text, call)
        if num_generated >= self._params.max_tokens:
            return self._finish(FinishReason.LENGTH, text, call)
        return self._delta(text, None, call) if text or call is not None else None

    def _read(self, token_id: int) -> tuple[str, CallDelta | None]:
        """What a token adds to the text, or to the call that it is part of."""
        if self._calls is None:
            return self._stop.push(self._decoder.push(token_id)), None
        if token_id == self._calls.open_id:
            text = self._held_text()
            self._calls.open()
            return text, None
        if token_id == self._calls.close_id:
            self._calls.close()
        text = self._decoder.push(token_id)
        if self._calls.is_open:
            return "", self._calls.push(text)
        return self._calls.hold(self._stop.push(text)), None

    def _held_text(self) -> str:
        """All text that was held back, but for white space at its end where calls are looked for."""
        text = self._stop.push(self._decoder.finish())
        if not self._stop.is_stopped:
            text += self._stop.finish()
        return text if self._calls is None else self._calls.hold(text)

    def _finish(self, reason: FinishReason, text: str = "", call: CallDelta | None = None) -> Delta:
        if self._calls is None or not self._calls.is_open:
            text += self._held_text()
        return self._delta(text, FinishReason.STOP if self._stop.is_stopped else reason, call)

    def _delta(self, text: str, reason: FinishReason | None, call: CallDelta | None = None) -> Delta:
        logprobs, self._pending = tuple(self._pending), []
        if reason is not None and self._calls is not None:
            text += self._calls.finish()
            if reason is FinishReason.STOP and self._calls.num_calls:
                reason = FinishReason.TOOL_CALLS
        return Delta(self._choice, text, logprobs, reason, call)
