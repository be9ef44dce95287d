"""Rows of token ids: prompts in both orders, the span that stage 1 learns, steps and microbatches; and the pairs made by rule."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from gpu_backend.chat_template import ChatTemplate
from gpu_backend.config import ConfigError, JudgeSpec
from gpu_backend.data.judge_rows import JudgedRow, TextRow, in_one_order, judged_pairs, judged_rows, microbatches, step_indices, text_rows
from gpu_backend.data.obvious_pairs import make_obvious_pairs
from gpu_backend.data.preference_pairs import PreferencePair
from gpu_backend.data.scalar_rows import ScalarRow, scalar_rows
from gpu_backend.models.reward.judge import Judge
from support import byte_tokenizer

# The byte tokenizer's ids are bytes, so a prompt's ids are its letters; its control tokens are 256 and 257.
TEMPLATE = "{% for turn in question %}<|start|>{{ turn.content }}{% endfor %}<|start|>{{ a }}<|start|>{{ b }}<|start|>{{ criterion }}?"
START = 256


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge(TEMPLATE, byte_tokenizer(), JudgeSpec(template="judge.jinja", sha256=""))


def pair(question: str = "q", chosen: str = "good", rejected: str = "bad", criterion: str = "") -> PreferencePair:
    return PreferencePair((("user", question),), chosen, rejected, "test", criterion)


def read(ids: tuple[int, ...]) -> str:
    return "".join("|" if token == START else chr(token) for token in ids)


def test_a_row_has_the_better_answer_in_either_slot(judge: Judge) -> None:
    (row,) = judged_rows(judge, [pair()], max_tokens=100)
    assert (read(row.better_first), read(row.better_second)) == ("|q|good|bad|?", "|q|bad|good|?")


def test_no_row_is_made_of_a_conversation_of_which_the_template_reads_a_part() -> None:
    source = "{{ question[-1].content }} {{ a }} {{ b }}?"
    reads_one = Judge(source, byte_tokenizer(), JudgeSpec(template="judge.jinja", sha256=""))
    talk = replace(pair(), question=(("user", "one"), ("assistant", "two"), ("user", "three")))
    assert judged_rows(reads_one, [pair()], max_tokens=100) and text_rows(reads_one, [pair()], max_tokens=100)
    for make in (judged_rows, text_rows, judged_pairs):
        with pytest.raises(ConfigError, match="message 1 of 3"):
            make(reads_one, [pair(), talk], max_tokens=100)


def test_a_coin_decides_the_order_of_rows_in_one_order(judge: Judge) -> None:
    rows = in_one_order(judged_rows(judge, [pair(chosen=str(number)) for number in range(200)], max_tokens=100), seed=3)
    firsts = [row for row in rows if row.better_first is not None]
    assert 70 < len(firsts) < 130 and all((row.better_first is None) != (row.better_second is None) for row in rows)
    assert rows == in_one_order(judged_rows(judge, [pair(chosen=str(number)) for number in range(200)], max_tokens=100), seed=3)


def test_a_long_conversation_loses_its_oldest_turns(judge: Judge) -> None:
    talk = replace(pair(), question=(("user", "a" * 30), ("assistant", "b" * 10), ("user", "c")))
    read_questions = [read(judged_rows(judge, [talk], max_tokens=limit)[0].better_first or ()) for limit in (200, 40, 20)]
    assert ["aa" in text for text in read_questions] == [True, False, False] and ["bb" in text for text in read_questions] == [True, True, False]
    assert all("c" in text for text in read_questions)
    assert judged_pairs(judge, [talk], max_tokens=20)[0].question == (("user", "c"),)


def test_long_pairs_are_left_out_never_cut(judge: Judge) -> None:
    pairs = [pair(chosen="x" * length) for length in (1, 5, 6)]
    exact = len("|q|") + 5 + len("|bad|?")
    assert len(judged_rows(judge, pairs, max_tokens=exact)) == 2
    assert judged_pairs(judge, pairs, max_tokens=exact) == pairs[:2]


def test_the_criterion_is_named_in_its_share_of_rows_and_the_same_pairs_are_kept(judge: Judge) -> None:
    pairs = [pair(question=str(number), criterion="safety") for number in range(400)]
    settings = {"max_tokens": 100, "criterion_rate": 0.4, "seed": 1}
    named = sum("|safety?" in read(row.better_first) for row in judged_rows(judge, pairs, **settings))
    assert 130 < named < 190, "160 expected, three standard deviations are 29"
    # At least 19 tokens with the criterion, at most 15 without: which pairs stay depends on the same draws.
    kept = judged_pairs(judge, pairs, **{**settings, "max_tokens": 16})
    rows = judged_rows(judge, pairs, **{**settings, "max_tokens": 16})
    assert len(kept) == len(rows) < 400
    assert [read(row.better_first).split("|")[1] for row in rows] == [one.question[0][1] for one in kept]


def test_the_learned_span_holds_both_answers_and_what_is_between_them(judge: Judge) -> None:
    rows = text_rows(judge, [pair()] * 40, max_tokens=100, seed=0)
    spans = {read(row.ids[row.start : row.stop]) for row in rows}
    assert spans == {"good|bad", "bad|good"}, "both orders occur"
    assert all(read(row.ids[: row.start]) == "|q|" and read(row.ids[row.stop :]) == "|?" for row in rows)


def test_every_epoch_takes_every_row_once_in_an_order_of_its_own() -> None:
    steps = step_indices(10, 3, 2, seed=0)
    assert [len(step) for step in steps] == [3] * 6
    first, second = ([index for step in part for index in step] for part in (steps[:3], steps[3:]))
    assert len(set(first)) == len(set(second)) == 9 and first != second
    assert steps == step_indices(10, 3, 2, seed=0) != step_indices(10, 3, 2, seed=1)


def test_microbatches_hold_all_rows_those_of_similar_length_together() -> None:
    @dataclass(frozen=True)
    class Row:
        num_tokens: int

    rows = [Row(length) for length in (3, 9, 4, 4, 20, 2)]
    groups = microbatches(rows, 4)
    assert [[row.num_tokens for row in group] for group in groups] == [[20, 9, 4, 4], [3, 2]]


def test_obvious_pairs_are_reproducible_and_their_better_answer_is_a_real_one() -> None:
    helpful = [
        PreferencePair((("user", f"question {number}"),), " ".join(f"word{number}.{index}" for index in range(10)), "no", "helpful-base", "helpfulness")
        for number in range(5)
    ]
    harmful = PreferencePair((("user", "how to harm"),), "a long answer of more than eight words about harm", "no", "harmless-base", "harmlessness")
    solved = [("problem one", "solution one A: 1"), ("problem two", "solution two A: 2")]
    made = make_obvious_pairs([*helpful, harmful], solved, 100, seed=3)
    assert made == make_obvious_pairs([*helpful, harmful], solved, 100, seed=3)
    answers = {one.question: one.chosen for one in helpful} | {(("user", problem),): solution for problem, solution in solved}
    assert len(made) == 100 and all(one.chosen == answers[one.question] != one.rejected for one in made)


def test_a_scalar_row_is_a_conversation_that_ends_with_the_answer() -> None:
    source = "{% for m in messages %}<|start|>{{ m.role[0] }}{{ m.content }}{% endfor %}{% if add_generation_prompt %}!{% endif %}"
    template = ChatTemplate(source, byte_tokenizer(), {})
    (row,) = scalar_rows(template, [pair()], max_tokens=100)
    assert (read(row.chosen), read(row.rejected)) == ("|uq|agood", "|uq|abad")
    (cut,) = scalar_rows(template, [pair()], max_tokens=5)
    assert (read(cut.chosen), read(cut.rejected)) == ("agood", "|abad"), "the end is kept"


def test_rows_count_the_tokens_of_their_sequence_a_common_beginning_once() -> None:
    assert TextRow((1, 2, 3), 1, 2).num_tokens == 3
    assert JudgedRow((1, 2, 3), (1, 4, 5, 6)).num_tokens == 6 and JudgedRow(None, (1, 2)).num_tokens == 2
    assert ScalarRow((1, 2, 3), (1, 4)).num_tokens == 4
