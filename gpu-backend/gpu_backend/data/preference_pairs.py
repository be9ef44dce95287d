"""Pairs of answers with the one that people prefer: records, and readers of the public sets that we train on and measure with.

Every reader takes the folder that holds all data sets; where each set comes from is in docs/training.md.
"""

from __future__ import annotations

import gzip
import json
import lzma
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, TextIO

Turns = tuple[tuple[str, str], ...]
HH_SUBSETS = ("harmless-base", "helpful-base", "helpful-online", "helpful-rejection-sampled")
_SPEAKERS = {"Human": "user", "Assistant": "assistant"}


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """A question as (role, text) turns, the answer that was preferred, and the other one. `criterion` is what it was preferred for, if that is known."""

    question: Turns
    chosen: str
    rejected: str
    subset: str
    criterion: str = ""

    @property
    def messages(self) -> list[dict[str, str]]:
        return [{"role": role, "content": text} for role, text in self.question]


def read_hh_rlhf(data: Path) -> list[PreferencePair]:
    """Anthropic's HH pairs (MIT), the test splits. Pairs that do not share their conversation, or whose two answers are equal, are left out."""
    pairs = []
    for subset in HH_SUBSETS:
        for row in _json_lines(data / "hh_rlhf" / f"{subset}.test.jsonl.xz"):
            chosen, rejected = _hh_turns(row["chosen"]), _hh_turns(row["rejected"])
            if chosen[:-1] != rejected[:-1] or len(chosen) < 2 or chosen[-1] == rejected[-1] or chosen[-1][0] != "assistant" or rejected[-1][0] != "assistant":
                continue
            criterion = "harmlessness" if subset.startswith("harmless") else "helpfulness"
            pairs.append(PreferencePair(chosen[:-1], chosen[-1][1], rejected[-1][1], subset, criterion))
    return pairs


def read_pandalm(data: Path) -> list[PreferencePair]:
    """PandaLM's test set (Apache-2.0), where at least two of three annotators prefer the same answer."""
    pairs = []
    for row in _json(data / "pandalm" / "testset-v1.json.gz"):
        votes = [row["annotator1"], row["annotator2"], row["annotator3"]]
        winner = next((side for side in (1, 2) if votes.count(side) >= 2), None)
        answers = {1: row["response1"], 2: row["response2"]}
        # One row's answer is the JSON value false.
        if winner is None or answers[1] == answers[2] or not all(isinstance(answer, str) for answer in answers.values()):
            continue
        question = row["instruction"] + (f"\n\n{row['input']}" if row["input"] else "")
        pairs.append(PreferencePair((("user", question),), answers[winner], answers[3 - winner], "pandalm"))
    return pairs


def read_finegrained(data: Path, num_passages: int = 2) -> list[PreferencePair]:
    """Pairs of the Fine-Grained RLHF feedback (Apache-2.0) that annotators did not call a tie; the question comes after its first passages."""
    pairs = []
    for row in _json(data / "finegrained_rlhf" / "dev_feedback.json.xz"):
        passages = "\n\n".join(" ".join(passage[1:]) for passage in row["passages"][:num_passages])
        question = (("user", f"{passages}\n\n{row['question']}"),)
        # Of the predictions 1 to 4, in the order (1, 2), (1, 3), (1, 4), (2, 3), …: 1 for the first, 2 for the second, 0 for a tie.
        for key, preferred in zip(combinations(range(1, 5), 2), row["preference"], strict=True):
            first, second = (row[f"prediction {number}"] for number in key)
            if preferred != 0 and first != second:
                chosen, rejected = (first, second) if preferred == 1 else (second, first)
                pairs.append(PreferencePair(question, chosen, rejected, "finegrained_rlhf"))
    return pairs


def read_gsm8k_solutions(data: Path) -> list[PreferencePair]:
    """Model solutions of GSM8K's test problems (MIT): each right one against the first wrong one of the same problem."""
    pairs = []
    for row in _json_lines(data / "gsm8k" / "example_model_solutions.jsonl.xz"):
        solutions = [value for value in row.values() if isinstance(value, dict)]
        wrong = next((_without_calculator(one["solution"]) for one in solutions if not one["is_correct"]), None)
        right = next((_without_calculator(one["solution"]) for one in solutions if one["is_correct"]), None)
        if wrong is not None and right is not None and wrong != right:
            pairs.append(PreferencePair((("user", row["question"]),), right, wrong, "gsm8k"))
    return pairs


def read_gsm8k_train(data: Path) -> list[tuple[str, str]]:
    """Problem and worked solution of GSM8K's training part (MIT)."""
    rows = _json_lines(data / "gsm8k" / "train.jsonl.xz")
    return [(row["question"], _without_calculator(row["answer"].replace("\n#### ", "\nA: "))) for row in rows]


def read_pair_file(path: Path) -> list[PreferencePair]:
    """A file shaped like RewardBench, JudgeBench or RM-Bench: JSON lines of {prompt, chosen, rejected, subset}, plain or compressed. `chosen` and
    `rejected` may be lists of the same length. Raises ValueError with the line at fault."""
    pairs = []
    for number, row in enumerate(_json_lines(path), start=1):
        try:
            chosen, rejected = (value if isinstance(value, list) else [value] for value in (row["chosen"], row["rejected"]))
            question = tuple((turn["role"], turn["content"]) for turn in row["prompt"]) if isinstance(row["prompt"], list) else (("user", row["prompt"]),)
            if len(chosen) != len(rejected) or not all(isinstance(text, str) for text in (*chosen, *rejected, *(text for _, text in question))):
                raise TypeError
            pairs += [PreferencePair(question, good, bad, str(row.get("subset", "all"))) for good, bad in zip(chosen, rejected, strict=True)]
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path.name}, line {number}: expected {{prompt, chosen, rejected, subset}}") from error
    return pairs


def _hh_turns(transcript: str) -> Turns:
    parts = re.split(r"\n\n(Human|Assistant): ?", transcript)
    return tuple((_SPEAKERS[speaker], text.strip()) for speaker, text in zip(parts[1::2], parts[2::2], strict=True))


def _without_calculator(solution: str) -> str:
    """GSM8K's calculator notes `<<16-3=13>>` are for tools, not for readers."""
    return re.sub(r"<<[^>]*>>", "", solution)


def _open(path: Path) -> TextIO:
    if path.suffix == ".xz":
        return lzma.open(path, "rt", encoding="utf-8")
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8")
    return path.open(encoding="utf-8")


def _json(path: Path) -> Any:
    with _open(path) as file:
        return json.load(file)


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    with _open(path) as file:
        for line in file:
            if line.strip():
                yield json.loads(line)
