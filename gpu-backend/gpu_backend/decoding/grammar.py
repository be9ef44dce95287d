"""Structured output: which tokens may come next so that the text fits a JSON schema, a regular expression or one of several choices.

The grammars are compiled and followed by llguidance; this file bounds what it is given, keeps compiled grammars, and speaks in our terms.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper
from numpy.typing import NDArray

from gpu_backend.core import GrammarError
from gpu_backend.decoding.grammar_trial import GrammarTrial, reason_of
from gpu_backend.decoding.pattern_size import check_pattern
from gpu_backend.decoding.schema_length import check_shortest
from gpu_backend.decoding.schema_size import parts_of
from gpu_backend.tokenizer import Tokenizer

MAX_GRAMMAR_BYTES = 64 * 1024
MAX_DEPTH = 64
_MAX_COMPILED = 64
# Schemas that were counted; a request may bring 128 of them, in 64 KiB.
_MAX_COUNTED = 256
# What was refused is remembered by its hash, so that it costs its time once.
_MAX_REFUSED = 1024
_LIMITS: dict[str, Any] = {"max_grammar_size": 100_000, "max_lexer_states": 50_000, "initial_lexer_fuel": 500_000}
# A compiled grammar takes up to 600 times the memory of its text.
_MAX_COMPILED_BYTES = 256 * 1024
# Compact JSON with the spaces people write: a small model that may put white space anywhere can go on doing so for ever.
JSON_STYLE: Any = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
# The keyword under which the compiler would take options from the schema itself.
COMPILER_OPTIONS = "x-guidance"

# What each byte of a bit mask adds to its eight logits: nothing where the bit is set, -inf elsewhere. One look-up, instead of unpacking bits and filling.
_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
_BIAS_OF_BYTE = np.where(_BITS == 1, np.float32(0), np.float32(-np.inf))


def json_grammar(schema: dict[str, Any]) -> str:
    """The grammar of JSON texts that fit `schema`. Raises GrammarError for a schema that is too large or too deep, or would become it."""
    text = text_of({keyword: value for keyword, value in schema.items() if keyword != COMPILER_OPTIONS})
    if len(text) > MAX_GRAMMAR_BYTES:
        raise GrammarError(f"the schema is larger than {MAX_GRAMMAR_BYTES} bytes")
    if depth_of(schema) > MAX_DEPTH:
        raise GrammarError(f"the schema is nested deeper than {MAX_DEPTH} levels")
    num_parts_of(text)
    return LLMatcher.grammar_from_json_schema(text, overrides=JSON_STYLE)


@lru_cache(_MAX_COUNTED)
def num_parts_of(text: str) -> int:
    """What a schema grows to, given as JSON of bounded size and depth. Raises GrammarError, within milliseconds, that says what to shorten."""
    schema = json.loads(text)
    check_shortest(schema)
    return parts_of(schema)


def text_of(schema: dict[str, Any]) -> str:
    """Raises GrammarError for a number that JSON cannot write."""
    try:
        return json.dumps(schema, allow_nan=False)
    except ValueError as error:
        raise GrammarError("it holds a number beyond all numbers") from error


def regex_grammar(pattern: str) -> str:
    """The grammar of texts that match the whole pattern."""
    if len(pattern) > MAX_GRAMMAR_BYTES:
        raise GrammarError(f"the pattern is longer than {MAX_GRAMMAR_BYTES} characters")
    check_pattern(pattern)
    return LLMatcher.grammar_from_regex(pattern)


def choice_grammar(choices: Iterable[str]) -> str:
    """The grammar of exactly these texts."""
    texts = [json.dumps(choice) for choice in choices]
    if not texts or sum(map(len, texts)) > MAX_GRAMMAR_BYTES:
        raise GrammarError(f"there must be at least one choice, and at most {MAX_GRAMMAR_BYTES} characters of them")
    return LLMatcher.grammar_from_lark("start: " + " | ".join(texts))


class GrammarState:
    """Where one choice stands in its grammar, which begins with the token `trigger` when there is one: until that comes, anything goes."""

    def __init__(self, matcher: LLMatcher, trigger: int | None = None) -> None:
        self._matcher = matcher
        self._awaited = trigger

    @property
    def is_finished(self) -> bool:
        """Nothing may follow: the text is complete."""
        return self._awaited is None and bool(self._matcher.is_stopped())

    def mask_(self, logits_V: NDArray[np.float32]) -> NDArray[np.float32]:
        """In place: -inf where a token would break the grammar. Raises GrammarError when the grammar's limits are used up."""
        if self._awaited is not None:
            return logits_V
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        self._check()
        logits_V += _BIAS_OF_BYTE.take(bits, axis=0).reshape(-1)[: len(logits_V)]
        return logits_V

    def consume(self, token_id: int) -> None:
        if self._awaited not in (None, token_id):
            return
        self._awaited = None
        self._matcher.consume_token(token_id)
        self._check()

    def _check(self) -> None:
        if self._matcher.is_error():
            raise GrammarError("the schema or pattern is too complex to follow")


class CompiledGrammar:
    """A grammar that is ready to be followed, any number of times. `text` is what it was compiled from."""

    def __init__(self, text: str, matcher: LLMatcher) -> None:
        self.text = text
        self._matcher = matcher

    def start(self, trigger: int | None = None) -> GrammarState:
        """A fresh state; with a `trigger` the grammar begins at that token."""
        return GrammarState(self._matcher.deep_copy(), trigger)


class GrammarCompiler:
    """Compiles for one tokenizer and keeps the latest results. May be used from any thread. Without end tokens it refuses every grammar."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, end_token_ids: Iterable[int]) -> None:
        ends = list(end_token_ids)
        self._tokenizer = LLTokenizer(TokenizerWrapper(_Vocabulary(tokenizer, vocab_size, ends[0])), n_vocab=vocab_size, eos_token=ends) if ends else None
        self._limits = LLParserLimits(**_LIMITS)
        self._trial = GrammarTrial(_LIMITS)
        self._compiled: OrderedDict[str, LLMatcher] = OrderedDict()
        self._refused: OrderedDict[bytes, str] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, text: str) -> CompiledGrammar | None:
        """What `compile` would give, if that takes no compiling."""
        with self._lock:
            matcher = self._compiled.get(text)
            if matcher is not None:
                self._compiled.move_to_end(text)
        return None if matcher is None else CompiledGrammar(text, matcher)

    def compile(self, text: str) -> CompiledGrammar:
        """May take half a second. Raises GrammarError with the reason when the grammar does not compile, or this model can follow none."""
        if self._tokenizer is None:
            raise GrammarError("this model has no end token, so it could never finish a text of a given form")
        found, digest = self.find(text), hashlib.blake2b(text.encode("utf-8", "surrogatepass")).digest()
        if found is not None:
            return found
        if digest in self._refused:
            raise GrammarError(self._refused[digest])
        try:
            matcher = self._compile(text, self._tokenizer)
        except GrammarError as error:
            with self._lock:
                self._refused[digest] = str(error)
                if len(self._refused) > _MAX_REFUSED:
                    self._refused.popitem(last=False)
            raise
        with self._lock:
            self._compiled[text] = matcher
            while len(self._compiled) > _MAX_COMPILED or sum(map(len, self._compiled)) > _MAX_COMPILED_BYTES:
                self._compiled.popitem(last=False)
        return CompiledGrammar(text, matcher)

    def _compile(self, text: str, tokenizer: LLTokenizer) -> LLMatcher:
        self._trial.check(text)
        matcher = LLMatcher(tokenizer, text, log_level=0, limits=self._limits)
        if not matcher.is_error():
            # The first step finds what compiling does not: a grammar that is too complex to follow, or that no text fits.
            matcher.compute_bitmask()
        if matcher.is_error():
            raise GrammarError(reason_of(matcher.get_error()))
        return matcher


class _Vocabulary:
    """A tokenizer as llguidance wants it: every token as bytes, control tokens under names that no text can spell."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, end_token_id: int) -> None:
        self._tokenizer = tokenizer
        self.eos_token_id = end_token_id
        self.bos_token_id = None
        control = set(tokenizer.control_ids.values())
        self.tokens = [b"" if token_id in control else tokenizer.token_bytes(token_id) for token_id in range(vocab_size)]
        for name, token_id in tokenizer.control_ids.items():
            if token_id < vocab_size:
                self.tokens[token_id] = name.encode()
        self.special_token_ids = sorted(token_id for token_id in control if token_id < vocab_size)

    def __call__(self, text: str | bytes) -> list[int]:
        return self._tokenizer.encode_text(text.decode("utf-8", errors="replace") if isinstance(text, bytes) else text)


def depth_of(value: Any) -> int:
    """Levels of nesting, without recursion: the value may be deeper than the stack."""
    deepest, stack = 0, [(value, 1)]
    while stack:
        item, level = stack.pop()
        deepest = max(deepest, level)
        children = item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
        stack.extend((child, level + 1) for child in children)
    return deepest
