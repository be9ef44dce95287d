"""Structured output: random logits can only spell texts that fit, and what cannot be compiled is refused quickly."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import numpy as np
import pytest
import torch

from gpu_backend.core import GrammarError, SamplingParams
from gpu_backend.decoding.grammar import GrammarCompiler, GrammarState, choice_grammar, json_grammar, regex_grammar
from gpu_backend.decoding.sampling import SamplerState, sample
from support import byte_tokenizer, spell_from_noise

TOKENIZER = byte_tokenizer(merges=(("{", '"'), ("t", "r"), ("u", "e"), ("tr", "ue")))
END = TOKENIZER.control_ids["<|end|>"]
COMPILER = GrammarCompiler(TOKENIZER, TOKENIZER.vocab_size, [END])


def spell(grammar: str, seed: int, max_tokens: int = 400) -> str | None:
    """Sample from uniform noise under the grammar; None when it did not finish."""
    state = SamplerState.of(SamplingParams(max_tokens=max_tokens, seed=seed), 0, COMPILER.compile(grammar).start())
    ids = spell_from_noise(state, TOKENIZER, END, seed, max_tokens)
    return None if ids is None else TOKENIZER.decode(ids)


SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer", "minimum": 0, "maximum": 99}, "ok": {"type": "boolean"}},
    "required": ["name", "age", "ok"],
    "additionalProperties": False,
}


def test_json_always_fits_the_schema() -> None:
    texts = [spell(json_grammar(SCHEMA), seed) for seed in range(25)]
    for text in texts:
        assert text is not None
        value = json.loads(text)
        assert list(value) == ["name", "age", "ok"]
        assert len(value["name"]) <= 8 and 0 <= value["age"] <= 99 and isinstance(value["ok"], bool)


def test_any_object_is_json_when_it_ends() -> None:
    finished = [text for seed in range(25) if (text := spell(json_grammar({"type": "object"}), seed)) is not None]
    assert len(finished) > 5
    assert all(isinstance(json.loads(text), dict) for text in finished)


def test_regex_and_choice() -> None:
    for seed in range(10):
        text = spell(regex_grammar("[ab]{2,4}-[0-9]{3}"), seed)
        assert text is not None and re.fullmatch("[ab]{2,4}-[0-9]{3}", text)
    assert {spell(choice_grammar(["yes", "no", 'a"b']), seed) for seed in range(40)} == {"yes", "no", 'a"b'}


def test_a_control_token_is_never_allowed_as_text() -> None:
    mask = COMPILER.compile(json_grammar({"type": "string"})).start().mask_(np.zeros(TOKENIZER.vocab_size, np.float32))
    assert mask[TOKENIZER.control_ids["<|start|>"]] == float("-inf")


def test_the_mask_comes_after_penalties_and_bias() -> None:
    """A bias of +100 on a forbidden token must not let it through."""
    params = SamplingParams(max_tokens=1, temperature=0.0, logit_bias={ord("x"): 100.0})
    (token,) = sample(torch.zeros(1, TOKENIZER.vocab_size), [SamplerState.of(params, 0, COMPILER.compile(choice_grammar(["no"])).start())])
    assert not isinstance(token, GrammarError) and token.token_id == ord("n")


def test_states_of_one_grammar_are_independent() -> None:
    first, second = (COMPILER.compile(choice_grammar(["ab", "cd"])).start() for _ in range(2))
    first.consume(ord("a"))
    assert second.mask_(np.zeros(TOKENIZER.vocab_size, np.float32))[ord("c")] == 0


def test_a_wrong_token_ends_only_its_own_row() -> None:
    class Stuck(GrammarState):
        def mask_(self, logits_V: Any) -> Any:
            raise GrammarError("stuck")

    broken = COMPILER.compile(choice_grammar(["a"])).start()
    broken.__class__ = Stuck
    states = [SamplerState.of(SamplingParams(max_tokens=1, temperature=0.0), 0, grammar) for grammar in (broken, None)]
    failed, fine = sample(torch.zeros(2, TOKENIZER.vocab_size), states)
    assert isinstance(failed, GrammarError) and not isinstance(fine, GrammarError)


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "nonsense"},
        {"$ref": "#/nowhere"},
        {"type": "string", "pattern": "(["},
        {"enum": []},
        nested(200),
        {"enum": ["x" * 1000] * 100},
        {"type": "object", "minProperties": 3, "additionalProperties": False},
    ],
    ids=lambda schema: str(schema)[:40],
)
def test_impossible_and_oversized_schemas_are_refused_quickly(schema: dict[str, Any]) -> None:
    started = time.perf_counter()
    with pytest.raises(GrammarError):
        COMPILER.compile(json_grammar(schema))
    assert time.perf_counter() - started < 1.0


def test_compiled_grammars_are_kept_but_not_for_ever() -> None:
    compiler = GrammarCompiler(TOKENIZER, TOKENIZER.vocab_size, [END])
    for index in range(70):
        compiler.compile(choice_grammar([str(index)]))
    assert len(compiler._compiled) == 64
    assert choice_grammar(["69"]) in compiler._compiled and choice_grammar(["0"]) not in compiler._compiled


def test_a_model_without_end_tokens_is_built_and_refuses_grammars() -> None:
    compiler = GrammarCompiler(TOKENIZER, TOKENIZER.vocab_size, [])
    with pytest.raises(GrammarError, match="no end token"):
        compiler.compile(choice_grammar(["a"]))


def test_a_refusal_is_remembered_and_a_compiled_grammar_outlives_its_place() -> None:
    compiler = GrammarCompiler(TOKENIZER, TOKENIZER.vocab_size, [END])
    kept = compiler.compile(choice_grammar(["kept"]))
    refused = json_grammar({"type": "string", "pattern": "(["})
    reasons = []
    for _ in range(2):
        with pytest.raises(GrammarError) as refusal:
            compiler.compile(refused)
        reasons.append(str(refusal.value))
        compiler._trial = None  # type: ignore[assignment] # The second time nothing is tried.
    assert reasons[0] == reasons[1]
    compiler._compiled.clear()
    assert compiler.find(kept.text) is None and not kept.start().is_finished


def test_a_number_that_json_cannot_write_is_refused() -> None:
    with pytest.raises(GrammarError, match="beyond all numbers"):
        json_grammar({"const": float("inf")})
