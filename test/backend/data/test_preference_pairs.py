"""Readers of preference sets, on tiny files in the sets' own shapes."""

from __future__ import annotations

import gzip
import json
import lzma
from pathlib import Path
from typing import Any

import pytest

from gpu_backend.data.preference_pairs import (
    HH_SUBSETS,
    PreferencePair,
    read_finegrained,
    read_gsm8k_solutions,
    read_gsm8k_train,
    read_hh_rlhf,
    read_pair_file,
    read_pandalm,
)
from gpu_backend.data.training_part import hh_parts, hh_training_pairs


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = text.encode()
    path.write_bytes(lzma.compress(data) if path.suffix == ".xz" else gzip.compress(data) if path.suffix == ".gz" else data)


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def hh_row(question: str, chosen: str, rejected: str) -> dict[str, str]:
    return {"chosen": f"\n\nHuman: {question}\n\nAssistant: {chosen}", "rejected": f"\n\nHuman: {question}\n\nAssistant: {rejected}"}


def write_all(data: Path, hh: dict[str, list[dict[str, str]]]) -> None:
    for subset in HH_SUBSETS:
        write(data / "hh_rlhf" / f"{subset}.test.jsonl.xz", lines(hh.get(subset, [])))
    write(data / "pandalm" / "testset-v1.json.gz", "[]")
    write(data / "finegrained_rlhf" / "dev_feedback.json.xz", "[]")
    write(data / "gsm8k" / "example_model_solutions.jsonl.xz", "")


def test_hh_pairs_share_their_conversation(tmp_path: Path) -> None:
    two_turns = "hi\n\nAssistant: hello\n\nHuman: how are you?"
    other_question = {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: c\n\nAssistant: d"}
    write_all(
        tmp_path, {"harmless-base": [hh_row(two_turns, "fine", "bad"), hh_row("q", "same", "same"), other_question], "helpful-base": [hh_row("q", "x", "y")]}
    )
    assert read_hh_rlhf(tmp_path) == [
        PreferencePair((("user", "hi"), ("assistant", "hello"), ("user", "how are you?")), "fine", "bad", "harmless-base", "harmlessness"),
        PreferencePair((("user", "q"),), "x", "y", "helpful-base", "helpfulness"),
    ]


def test_the_parts_of_hh_share_no_conversation(tmp_path: Path) -> None:
    rows = [hh_row(f"question number {number}", f"good {number % 3}", "bad") for number in range(300)] * 2
    write_all(tmp_path, {"helpful-base": rows})
    parts = hh_parts(tmp_path)
    questions = {name: {pair.question[0][1] for pair in pairs} for name, pairs in parts.items()}
    assert sum(len(pairs) for pairs in parts.values()) == 600 and all(questions.values())
    assert sum(map(len, questions.values())) == len(set().union(*questions.values())) == 300
    trained = hh_training_pairs(tmp_path, seed=1)
    assert sorted(trained, key=str) == sorted(parts["train"], key=str) and trained == hh_training_pairs(tmp_path, seed=1)
    assert trained != hh_training_pairs(tmp_path, seed=2), "another seed, another order"


def test_pandalm_wants_a_majority_of_annotators(tmp_path: Path) -> None:
    def row(votes: tuple[int, int, int], first: Any = "one", given: str = "") -> dict[str, Any]:
        names = dict(zip(("annotator1", "annotator2", "annotator3"), votes, strict=True))
        return {"instruction": "do", "input": given, "response1": first, "response2": "two", **names}

    write(tmp_path / "pandalm" / "testset-v1.json.gz", json.dumps([row((2, 1, 2), given="this"), row((0, 1, 2)), row((1, 1, 0)), row((1, 1, 1), first=False)]))
    assert [(pair.question[0][1], pair.chosen) for pair in read_pandalm(tmp_path)] == [("do\n\nthis", "two"), ("do", "one")]


def test_finegrained_pairs_come_in_the_order_of_combinations(tmp_path: Path) -> None:
    # (1, 2) a tie, (1, 3) the second, (1, 4) the first, (2, 3) and (2, 4) ties, (3, 4) the second.
    predictions = {f"prediction {number}": f"p{number}" for number in range(1, 5)}
    row = {
        "passages": [["Title", "One.", "Two."], ["Other", "Three."], ["Third", "Four."]],
        "question": "Why?",
        "preference": [0, 2, 1, 0, 0, 2],
        **predictions,
    }
    write(tmp_path / "finegrained_rlhf" / "dev_feedback.json.xz", json.dumps([row]))
    pairs = read_finegrained(tmp_path)
    assert [(pair.chosen, pair.rejected) for pair in pairs] == [("p3", "p1"), ("p1", "p4"), ("p4", "p3")]
    assert pairs[0].question[0][1] == "One. Two.\n\nThree.\n\nWhy?"


def test_gsm8k_pairs_a_right_solution_with_a_wrong_one(tmp_path: Path) -> None:
    def solution(text: str, *, is_correct: bool) -> dict[str, Any]:
        return {"solution": text, "is_correct": is_correct}

    mixed = {"question": "2+2?", "a": solution("2+2=<<2+2=5>>5", is_correct=False), "b": solution("2+2=<<2+2=4>>4", is_correct=True)}
    all_right = {"question": "1+1?", "a": solution("2", is_correct=True), "b": solution("two", is_correct=True)}
    write(tmp_path / "gsm8k" / "example_model_solutions.jsonl.xz", lines([mixed, all_right]))
    write(tmp_path / "gsm8k" / "train.jsonl.xz", lines([{"question": "3?", "answer": "It is <<3=3>>3.\n#### 3"}]))
    assert [(pair.chosen, pair.rejected) for pair in read_gsm8k_solutions(tmp_path)] == [("2+2=4", "2+2=5")]
    assert read_gsm8k_train(tmp_path) == [("3?", "It is 3.\nA: 3")]


@pytest.mark.parametrize("name", ["pairs.jsonl", "pairs.jsonl.xz", "pairs.jsonl.gz"])
def test_a_file_of_pairs_takes_texts_conversations_and_lists(tmp_path: Path, name: str) -> None:
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes?"}, {"role": "user", "content": "go"}]
    rows = [{"prompt": "q", "chosen": "a", "rejected": "b", "subset": "math"}, {"prompt": turns, "chosen": ["c", "d"], "rejected": ["e", "f"]}]
    write(tmp_path / name, lines(rows))
    conversation = (("user", "hi"), ("assistant", "yes?"), ("user", "go"))
    assert read_pair_file(tmp_path / name) == [
        PreferencePair((("user", "q"),), "a", "b", "math"),
        PreferencePair(conversation, "c", "e", "all"),
        PreferencePair(conversation, "d", "f", "all"),
    ]


@pytest.mark.parametrize("text", ["def f(): return {1: {}}", '{"answer": "}"}', "}", "{{ a }} {% raw %}", 'a "quoted" \\ }\n{', "{", "\u2028}"])
def test_rows_that_hold_braces_are_read_whole(tmp_path: Path, text: str) -> None:
    """A reader that looks for the first closing brace would lose them."""
    row = {"prompt": f"why {text}?", "chosen": text, "rejected": f"{text}{text}", "subset": "code"}
    write(tmp_path / "pairs.jsonl", "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in (row, row)))
    assert read_pair_file(tmp_path / "pairs.jsonl") == [PreferencePair((("user", f"why {text}?"),), text, f"{text}{text}", "code")] * 2


@pytest.mark.parametrize(
    "row",
    [{"prompt": "q", "chosen": "a"}, {"prompt": "q", "chosen": ["a"], "rejected": ["b", "c"]}, {"prompt": [{"role": "user"}], "chosen": "a", "rejected": "b"}],
)
def test_a_broken_line_is_named(tmp_path: Path, row: dict[str, Any]) -> None:
    write(tmp_path / "pairs.jsonl", lines([{"prompt": "q", "chosen": "a", "rejected": "b"}, row]))
    with pytest.raises(ValueError, match=r"pairs\.jsonl, line 2"):
        read_pair_file(tmp_path / "pairs.jsonl")
