"""The recipes' command line, and few-shot adaptation of an adapter on a tiny random base."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("peft", reason="tests of training need peft and accelerate: requirements/test.txt")

from gpu_backend.recipes.__main__ import main
from gpu_backend.train.lora_model import LoraModel
from train_support import write_judge_catalog


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    return write_judge_catalog(tmp_path)


def adapt(catalog: Path, *more: str) -> int:
    out = catalog.parent / "out"
    return main(["reward_adapt", "--models-dir", str(catalog.parent), "--catalog", str(catalog), "--out", str(out), *more])


def test_it_goes_on_from_the_adapter_and_measures_what_it_held_out(catalog: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = catalog.parent
    pairs = folder / "pairs.jsonl"
    pairs.write_text("".join(json.dumps({"prompt": f"question {number}", "chosen": "yes", "rejected": "no"}) + "\n" for number in range(60)))
    assert adapt(catalog, "--pairs", str(pairs), "--hold-out", "0.3") == 0
    held = json.loads((folder / "out" / "held_out.json").read_text())
    assert 5 < held["pairs"] < 32 and 0 <= held["accuracy_before"] <= 1 and 0 <= held["accuracy_after"] <= 1
    assert f"{60 - held['pairs']} pairs to train on, {held['pairs']} held out, 0 too long" in capsys.readouterr().out
    before = LoraModel.continued(folder / "base", folder / "judge").adapter_state()
    after = LoraModel.continued(folder / "base", folder / "out" / "adapter").adapter_state()
    assert any((tensor.float() - after[name].float()).abs().max() > 1e-4 for name, tensor in before.items() if "lora_B" in name)


@pytest.mark.parametrize(("options", "message"), [((), "--pairs"), (("--hold-out", "1"), "below 1"), (("--pairs", "models.toml"), "expected")])
def test_bad_options_are_explained(catalog: Path, options: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    broken = catalog.parent / "broken.jsonl"
    broken.write_text('{"prompt": "q"}\n')
    assert adapt(catalog, *(str(broken) if option == "models.toml" else option for option in options)) == 1
    assert message in capsys.readouterr().err
