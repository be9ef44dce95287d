"""The reward evaluation: measures by hand, controls, tables, and pairs judged by the engine as one by one."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from slow_decoder import slow_decoder

from gpu_backend.config import ConfigError, EngineConfig, JudgeSpec
from gpu_backend.data.preference_pairs import PreferencePair
from gpu_backend.engine.local_engine import engine_around
from gpu_backend.evals.engine_judge import judge_pairs, pair_prompts
from gpu_backend.evals.preference_sets import PreferenceSet, file_set, sample
from gpu_backend.evals.reward_bench import SECTIONS
from gpu_backend.evals.reward_controls import HashedWords, longer_wins
from gpu_backend.evals.reward_measures import measure_control, measure_set
from gpu_backend.evals.reward_report import RewardReport
from gpu_backend.models.reward.judge import Judge
from support import byte_tokenizer, tiny_model

TEMPLATE = "{% for turn in question %}{{ turn.content }}{% endfor %}\n{{ a }}\n{{ b }}\n"


def pair(question: str, chosen: str, rejected: str, subset: str = "all") -> PreferencePair:
    return PreferencePair((("user", question),), chosen, rejected, subset)


PAIRS = [pair("a", "long answer", "short", "x"), pair("b", "no", "longer", "x"), pair("c", "same", "size", "y")]
SET = PreferenceSet("tiny", PAIRS, 5)
# Right in both orders; wrong on average, orders disagree; right on average, orders disagree.
MARGINS = np.array([[2.0, 1.0], [-3.0, 1.0], [4.0, -1.0]])


def test_measures_by_hand() -> None:
    one = measure_set(SET, MARGINS, 1, 2.0, seed=0)
    assert (one.accuracy.value, one.accuracy.num, one.num_available, one.num_cut) == (pytest.approx(2 / 3), 3, 5, 1)
    assert (one.longer_is_better.value, one.longer_is_better.num) == (1.0, 1)
    assert (one.shorter_is_better.value, one.shorter_is_better.num) == (0.0, 1)
    assert {name: share.value for name, share in one.subsets.items()} == {"x": 0.5, "y": 1.0}
    assert one.macro_accuracy == 0.75
    assert one.consistency == pytest.approx(1 / 3)

    def sigma(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    distances = [abs(sigma(first / 2) - sigma(second / 2)) for first, second in MARGINS]
    assert one.position_bias == pytest.approx(sum(distances) / 3)
    # Slot A gets P in the first order and 1 - P in the second.
    assert one.first_slot == pytest.approx(sum(sigma(first / 2) + 1 - sigma(second / 2) for first, second in MARGINS) / 6)
    assert one.log_loss == pytest.approx(-sum(math.log((sigma(first / 2) + sigma(second / 2)) / 2) for first, second in MARGINS) / 3)
    assert one.log_loss_less_constant == pytest.approx(one.log_loss - math.log(2))


def test_a_conversation_is_not_judged_by_a_part_of_it() -> None:
    source = "{{ question[-1].content }}\n{{ a }}\n{{ b }}\n"
    reads_one = Judge(source, byte_tokenizer(), JudgeSpec(template="judge.jinja", sha256=""))
    talk = PreferencePair((("user", "one"), ("assistant", "two"), ("user", "three")), "good", "bad", "all")
    assert len(pair_prompts(reads_one, PAIRS)[0]) == 2 * len(PAIRS)
    with pytest.raises(ConfigError, match="message 1 of 3"):
        pair_prompts(reads_one, [*PAIRS, talk])


def test_reward_bench_is_added_up_its_own_way() -> None:
    """math-prm right in 1 of 2 pairs, hep-go in all of 4: by weight (984 * 0.5 + 164) / 1148, where the mean over pairs is 5/6 and over subsets 3/4."""
    names = ["math-prm"] * 2 + ["hep-go"] * 4 + ["donotanswer"]
    pairs = [pair(str(number), "a", "b", name) for number, name in enumerate(names)]
    margins = np.array([[1.0, 1.0]] * 7)
    margins[0] = margins[6] = -1.0
    one = measure_set(PreferenceSet("bench", pairs, 7), margins, 0, 1.0, seed=0)
    reasoning = (984 * 0.5 + 164) / 1148
    assert one.sections == {"Safety": 0.0, "Reasoning": pytest.approx(reasoning)}
    assert one.macro_accuracy == pytest.approx(reasoning / 2) and one.accuracy.value == pytest.approx(5 / 7)
    assert sum(SECTIONS["Reasoning"].values()) == 2 * 984 and sum(map(len, SECTIONS.values())) == 23
    other = measure_set(PreferenceSet("bench", [*pairs, pair("x", "a", "b", "of my own")], 8), np.array([*margins, [1.0, 1.0]]), 0, 1.0, seed=0)
    assert other.sections == {} and other.macro_accuracy == pytest.approx((0.5 + 1 + 0 + 1) / 4)


def test_a_control_is_compared_on_the_same_pairs() -> None:
    found = measure_control("longer answer", SET, MARGINS, longer_wins(PAIRS)[:, None], seed=0)
    # The model has 1, 0, 1; the longer answer 1, 0 and a tie.
    assert (found.accuracy.value, found.less_control) == (0.5, pytest.approx(1 / 6))
    assert found.consistency is None
    same = measure_control("itself", SET, MARGINS, MARGINS, seed=0)
    assert (same.less_control, same.interval) == (0.0, (0.0, 0.0)) and same.consistency == pytest.approx(1 / 3)


def test_hashed_words_learn_which_words_people_prefer() -> None:
    pytest.importorskip("sklearn", reason="needs scikit-learn: requirements/train.txt")
    words = HashedWords([pair(str(number), f"thanks number {number}", f"rude number {number}") for number in range(40)], seed=0)
    found = words.margins([pair("q", "thanks a lot", "rude a lot"), pair("q", "rude a lot", "thanks a lot")])
    assert found[0] > 0 and found[1] == pytest.approx(-found[0])


def test_a_sample_is_seeded_and_keeps_its_order() -> None:
    pairs = [pair(str(number), "a", "b") for number in range(50)]
    drawn = sample(pairs, 10, seed=0)
    assert len(drawn) == 10 and drawn == sorted(drawn, key=pairs.index) == sample(pairs, 10, seed=0) != sample(pairs, 10, seed=1)
    assert sample(pairs, None, seed=0) == sample(pairs, 50, seed=0) == pairs


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "none.jsonl").write_text("")
    with pytest.raises(ValueError, match="holds no pair"):
        file_set(tmp_path / "none.jsonl", None, 0)


def test_the_report_is_json_without_nan_and_tables_with_a_row_each(tmp_path: Path) -> None:
    # No pair of this set has the shorter answer as the better one.
    one = PreferenceSet("no-shorter", [PAIRS[0], PAIRS[2]], 2)
    report = RewardReport(
        settings={"seed": 0},
        sets=[measure_set(one, MARGINS[[0, 2]], 0, 1.0, 0)],
        controls=[measure_control("longer answer", one, MARGINS[[0, 2]], longer_wins(one.pairs)[:, None], 0)],
    )
    read = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert read["sets"][0]["shorter_is_better"]["value"] is None and read["sets"][0]["macro_accuracy"] == 1.0
    lines = report.to_markdown().splitlines()
    tables = [line for line in lines if line.startswith("|")]
    assert len(tables) == 3 + 3 + 4, "sets, controls and two subsets, each with two lines of header"
    assert {line.count("|") for line in tables[:3]} == {13}
    pytest.importorskip("matplotlib", reason="needs matplotlib: requirements/train.txt")
    report.draw_reliability(tmp_path / "reliability.png")
    assert (tmp_path / "reliability.png").read_bytes().startswith(b"\x89PNG")


def test_the_engine_judges_many_pairs_as_a_plain_forward_judges_each() -> None:
    judge = Judge(TEMPLATE, byte_tokenizer(control=()), JudgeSpec(template="judge.jinja", sha256="", labels=("A", "B"), max_tokens=128))
    recorded: dict[str, torch.Tensor] = {}
    model = tiny_model(vocab_size=256, recorded=recorded)
    config = EngineConfig(max_num_sequences=4, max_tokens_per_step=16, kv_block_size=4, kv_cache_tokens=1024)
    pairs = [pair(f"question {number % 3}", "answer " + "x" * (number % 7), "other " + "y" * (number % 5)) for number in range(20)]
    seen: list[tuple[int, int]] = []
    found = judge_pairs(engine_around(model, byte_tokenizer(), None, config), judge, None, pairs, lambda done, num: seen.append((done, num)))
    assert found.margins_P2.shape == (20, 2) and found.num_cut == 0 and seen[-1] == (20, 20)
    assert 0 < found.num_cached_tokens < found.num_tokens, "pairs of one question share its beginning"
    for row, one in zip(found.margins_P2, pairs, strict=True):
        for margin, sign, answers in zip(row, (1, -1), ((one.chosen, one.rejected), (one.rejected, one.chosen)), strict=True):
            logits_V = slow_decoder(recorded, judge.encode(one.messages, *answers))[1][-1]
            assert margin == pytest.approx(sign * (logits_V[ord("A")] - logits_V[ord("B")]).item(), abs=1e-4)
