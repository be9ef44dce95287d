"""From tokens of one choice to what its reader sees: text, log-probabilities, and the reason it ended."""

from __future__ import annotations

from gpu_backend.core import Delta, FinishReason, SamplingParams, TokenLogprob
from gpu_backend.decoding.grammar import GrammarState
from gpu_backend.decoding.sampling import SamplerState
from gpu_backend.decoding.stop import StopChecker
from gpu_backend.tokenizer import IncrementalDecoder, Tokenizer


class ChoiceOutput:
    """Holds back half characters and possible stop strings; log-probabilities travel with the text of their token."""

    def __init__(self, params: SamplingParams, choice: int, tokenizer: Tokenizer, end_token_ids: frozenset[int], grammar: GrammarState | None = None) -> None:
        self.sampler = SamplerState.of(params, choice, grammar)
        self._grammar = grammar
        self._choice = choice
        self._params = params
        self._end_token_ids = end_token_ids
        self._decoder = IncrementalDecoder(tokenizer)
        self._stop = StopChecker(params.stop)
        self._pending: list[TokenLogprob] = []

    def push(self, token: TokenLogprob, num_generated: int) -> Delta | None:
        """The news this token brings; None when all of it is held back."""
        if token.token_id in self._end_token_ids:
            return self._finish(FinishReason.STOP)
        if self._params.logprobs:
            self._pending.append(token)
        text = self._stop.push(self._decoder.push(token.token_id))
        if self._stop.is_stopped:
            return self._delta(text, FinishReason.STOP)
        if self._grammar is not None and self._grammar.is_finished:
            return self._finish(FinishReason.STOP, text)
        if num_generated >= self._params.max_tokens:
            return self._finish(FinishReason.LENGTH, text)
        return self._delta(text, None) if text else None

    def _finish(self, reason: FinishReason, text: str = "") -> Delta:
        text += self._stop.push(self._decoder.finish())
        if self._stop.is_stopped:
            return self._delta(text, FinishReason.STOP)
        return self._delta(text + self._stop.finish(), reason)

    def _delta(self, text: str, reason: FinishReason | None) -> Delta:
        logprobs, self._pending = tuple(self._pending), []
        return Delta(self._choice, text, logprobs, reason)
