"""The recipe of exit adapters end to end on a tiny model: answers are kept, candidates compared, and what is written drafts in the served engine."""

from __future__ import annotations

import json
import lzma
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from gpu_backend.config import EngineConfig, load_catalog
from gpu_backend.engine.metrics import EngineMetrics
from gpu_backend.evals.early_exit.__main__ import main as early_exit_evals
from gpu_backend.models.causal_lm.exit_adapter import ExitAdapter
from gpu_backend.models.revision import revision_of
from gpu_backend.recipes import early_exit
from gpu_backend.recipes.__main__ import main
from gpu_backend.server.loading import load_served_models
from gpu_backend.train.loop import Training
from gpu_backend.train.own_answers import read_questions
from judge_support import row, write_catalog


def write_lines(path: Path, rows: list[dict[str, str]]) -> None:
    path.parent.mkdir(exist_ok=True)
    with lzma.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """HH and GSM8K in their own forms, a few hundred short rows."""
    root = tmp_path_factory.mktemp("data")
    talks = [f"\n\nHuman: Question {index}?\n\nAssistant: " for index in range(300)]
    for subset in ("harmless-base", "helpful-base", "helpful-online", "helpful-rejection-sampled"):
        rows = [{"chosen": f"{talk}yes", "rejected": f"{talk}no"} for talk in talks] if subset == "helpful-base" else []
        write_lines(root / "hh_rlhf" / f"{subset}.test.jsonl.xz", rows)
    write_lines(
        root / "gsm8k" / "train.jsonl.xz", [{"question": f"How many are {index} and 1?", "answer": f"{index + 1}\n#### {index + 1}"} for index in range(100)]
    )
    return root


def test_parts_share_no_question(data: Path) -> None:
    parts = [set(read_questions(data, part, num, seed=0)) for part, num in (("train", 200), ("validation", 20), ("test", 20))]
    assert [len(part) for part in parts] == [200, 20, 20]
    assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
    assert read_questions(data, "test", 20, seed=0) == read_questions(data, "test", 20, seed=0) != read_questions(data, "test", 20, seed=1)
    with pytest.raises(ValueError, match="in the test part, and 900 are asked for"):
        read_questions(data, "test", 900, seed=0)


def test_the_recipe_writes_an_adapter_that_the_server_takes(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    catalog = write_catalog(tmp_path)
    training = Training(learning_rate=1e-2, rows_per_step=8, rows_per_microbatch=8, num_epochs=2)
    recipe = replace(
        early_exit.RECIPES["early_exit_debug"],
        base="tiny",
        exit_layers=(1,),
        inner_layers=(),
        num_ahead=2,
        width=32,
        shortlist_size=40,
        num_answers=24,
        num_held_out=6,
        max_tokens=8,
        training=training,
    )
    monkeypatch.setitem(early_exit.RECIPES, "early_exit_debug", recipe)
    command = ["early_exit_debug", "--data", str(data), "--models-dir", str(tmp_path), "--catalog", str(catalog), "--out", str(tmp_path / "out")]
    assert main(command) == 0
    summary = json.loads((tmp_path / "out" / "run.json").read_text())
    assert summary["answers"] == 24 and summary["tokens"] >= 24 and [one["exit_layer"] for one in summary["candidates"]] == [1]
    adapter = ExitAdapter.load(tmp_path / "out" / "exit_adapter")
    spec = load_catalog(catalog)[0]
    assert adapter.config.base == revision_of(spec, tmp_path / "base")
    assert adapter.config.acceptance == summary["candidates"][0]["acceptance"]
    assert 257 in adapter.shortlist_S.tolist(), "the end token can be drafted"

    # A second run finds the answers and the finished training.
    answers = (tmp_path / "out" / "answers-train.safetensors").stat().st_mtime_ns
    assert main(command) == 0
    assert (tmp_path / "out" / "answers-train.safetensors").stat().st_mtime_ns == answers

    (tmp_path / "served.toml").write_text(row("tiny", source="folder", path="base", capabilities=["chat"], exit_adapter="out/exit_adapter"))
    config = EngineConfig(kv_cache_tokens=4096)
    (served,) = load_served_models(load_catalog(tmp_path / "served.toml"), tmp_path, config, EngineMetrics(CollectorRegistry()))
    assert served.engine.exit_layer == 1

    # And what could leave unverified is measured with it: one line for each level of risk.
    asked = ["--data", str(data), "--models-dir", str(tmp_path), "--catalog", str(tmp_path / "served.toml"), "--model", "tiny"]
    assert early_exit_evals(["frontier", *asked, "--answers", "8", "--max-tokens", "8", "--json"]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [row["level"] for row in report["rows"]] == [0.005, 0.01, 0.02, 0.05]
    assert report["settings"]["exit_layer"] == 1 and all(row["threshold"] is None for row in report["rows"]), "eight answers show nothing"
    assert early_exit_evals(["frontier", *asked[:-2], "--model", "other"]) == 1
    assert "has no row 'other' with the capability chat" in capsys.readouterr().err


def test_a_base_that_is_not_there_is_named(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["early_exit_debug", "--data", str(data), "--models-dir", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert "run `npm start` once" in capsys.readouterr().err
