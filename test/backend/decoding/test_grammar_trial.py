"""What would compile for ever is given up in time, and the next grammar is tried as if nothing had been."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from llguidance import LLMatcher

from gpu_backend.core import GrammarError
from gpu_backend.decoding.grammar import choice_grammar, json_grammar, regex_grammar
from gpu_backend.decoding.grammar_trial import GrammarTrial
from gpu_backend.decoding.tool_calls import Function, tool_call_grammar

LIMITS = {"max_grammar_size": 100_000}
# One that nobody has looked at before: the bounds on schemas would not let it come this far.
BOMB = LLMatcher.grammar_from_json_schema({"allOf": [{"type": "string", "pattern": f".*{i}.{{{i + 20}}}"} for i in range(30)]})


def test_good_grammars_pass_one_after_the_other_in_one_process() -> None:
    trial = GrammarTrial(LIMITS)
    trial.check(choice_grammar(["a\nb"]))
    first = trial._worker
    trial.check(regex_grammar("[a-z]+"))
    assert first is not None and trial._worker is first


@pytest.mark.parametrize(
    ("schema", "word"), [({"type": "nonsense"}, "nonsense"), ({"$ref": "#"}, "no text fits"), ({"type": "string", "pattern": "(["}, "regex")]
)
def test_a_complaint_is_passed_on_without_the_compiler_s_own_state(schema: dict[str, str], word: str) -> None:
    with pytest.raises(GrammarError, match=word) as caught:
        GrammarTrial(LIMITS).check(LLMatcher.grammar_from_json_schema(schema))
    assert "\n" not in str(caught.value) and len(str(caught.value)) <= 300


def test_a_grammar_without_end_is_given_up_and_the_process_replaced() -> None:
    trial = GrammarTrial(LIMITS, limit_s=0.3)
    trial.check(choice_grammar(["a"]))
    worker = trial._worker
    for _ in range(2):
        began = time.perf_counter()
        with pytest.raises(GrammarError, match="too complex"):
            trial.check(BOMB)
        assert time.perf_counter() - began < 3
        trial.check(choice_grammar(["a"]))
    assert worker is not None and worker.poll() is not None and trial._worker is not worker


def test_a_process_that_somebody_ended_is_replaced() -> None:
    trial = GrammarTrial(LIMITS)
    trial.check(choice_grammar(["a"]))
    assert trial._worker is not None
    trial._worker.kill()
    trial._worker.wait()
    trial.check(choice_grammar(["a"]))


def test_the_process_ends_with_the_pipe_to_it() -> None:
    trial = GrammarTrial(LIMITS)
    trial.check(choice_grammar(["a"]))
    worker = trial._worker
    assert worker is not None and worker.stdin is not None
    worker.stdin.close()
    assert worker.wait(timeout=10) == 0


def test_tokens_by_number_are_left_out_of_the_trial_and_text_that_looks_like_them_is_not() -> None:
    trial = GrammarTrial(LIMITS)
    trial.check(tool_call_grammar([Function("f", {"type": "object"}, is_strict=True)], (40_000, 40_001)))
    trial.check(json_grammar({"oneOf": [{"const": "<[1]>"}, {"const": "<[2]>"}]}))


def test_a_process_that_cannot_start_is_our_fault_and_not_the_schema_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpu_backend.decoding.grammar_trial._WORKER", Path("no such file"))
    with pytest.raises(RuntimeError, match="did not start"):
        GrammarTrial(LIMITS).check(choice_grammar(["a"]))
